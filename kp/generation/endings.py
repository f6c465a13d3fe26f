"""Where an answer ends, and its text: one rule for every engine, on tokens, so that engines can be compared string for string.

An engine that ends answers by its own search for a stop string, or turns tokens into text as they come, would differ from another in what
it cuts off and in the spaces that it leaves; so every engine is told which tokens end an answer, and hands the tokens in here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kp.generation.protocol import FinishReason, Generation

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Endings:
    """The ids of the tokens that end an answer; `newline` is empty where answers run on past their first line."""

    end_of_sequence: frozenset[int]
    newline: frozenset[int]

    @property
    def tokens(self) -> frozenset[int]:
        """Every token that ends an answer."""
        return self.end_of_sequence | self.newline

    def generation(self, tokenizer: "PreTrainedTokenizerBase", tokens: Sequence[int]) -> Generation:
        """The answer that these tokens are, the ending one included; at least one token."""
        text = str(tokenizer.decode(list(tokens), skip_special_tokens=True))
        if tokens[-1] in self.end_of_sequence:
            reason = FinishReason.STOP
        elif tokens[-1] in self.newline:
            text, reason = text.partition("\n")[0], FinishReason.NEWLINE
        else:
            reason = FinishReason.LENGTH
        return Generation(text=text, finish_reason=reason, tokens=len(tokens))


def end_tokens(generation: "GenerationConfig | None", tokenizer: "PreTrainedTokenizerBase") -> frozenset[int]:
    """The model's end-of-sequence tokens; the tokenizer's where the model's generation config names none."""
    configured = None if generation is None else generation.eos_token_id
    ends = tokenizer.eos_token_id if configured is None else configured
    return frozenset(ends if isinstance(ends, list) else [] if ends is None else [ends])


def newline_tokens(tokenizer: "PreTrainedTokenizerBase") -> frozenset[int]:
    """Every token whose text holds a newline."""
    texts = tokenizer.batch_decode([[token] for token in range(len(tokenizer))])
    return frozenset(token for token, text in enumerate(texts) if "\n" in text)
