"""Where an answer ends, and its text: one rule on tokens for every engine, so that engines can be compared string for string.

Engines that search for a stop string, or that decode tokens one by one, differ in what they cut off and in the spaces that they leave. So
every engine gets the tokens that end an answer, and passes the generated tokens to this module.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kp.generation.protocol import FinishReason, Generation
from kp.prompts import first_line_end

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Endings:
    """The ids of the tokens that end an answer; `newline` is empty if answers may have several lines."""

    end_of_sequence: frozenset[int]
    newline: frozenset[int]

    @property
    def tokens(self) -> frozenset[int]:
        """Every token that may end an answer."""
        return self.end_of_sequence | self.newline

    def ended(self, tokenizer: "PreTrainedTokenizerBase", tokens: Sequence[int]) -> bool:
        """Whether the last of these tokens ends the answer; a newline does so only after something that is no label ("Answer:")."""
        if tokens[-1] in self.end_of_sequence:
            return True
        return tokens[-1] in self.newline and first_line_end(_text(tokenizer, tokens)) is not None

    def generation(self, tokenizer: "PreTrainedTokenizerBase", tokens: Sequence[int]) -> Generation:
        """The answer made of these tokens (at least one), the ending one included."""
        text = _text(tokenizer, tokens)
        if tokens[-1] in self.end_of_sequence:
            reason = FinishReason.STOP
        elif self.ended(tokenizer, tokens):
            text, reason = text[: first_line_end(text)], FinishReason.NEWLINE
        else:
            reason = FinishReason.LENGTH
        return Generation(text=text, finish_reason=reason, tokens=len(tokens))


def _text(tokenizer: "PreTrainedTokenizerBase", tokens: Sequence[int]) -> str:
    return str(tokenizer.decode(list(tokens), skip_special_tokens=True))


def end_tokens(generation: "GenerationConfig | None", tokenizer: "PreTrainedTokenizerBase") -> frozenset[int]:
    """The model's end-of-sequence tokens; the tokenizer's if the model's generation config has none."""
    configured = None if generation is None else generation.eos_token_id
    ends = tokenizer.eos_token_id if configured is None else configured
    return frozenset(ends if isinstance(ends, list) else [] if ends is None else [ends])


def newline_tokens(tokenizer: "PreTrainedTokenizerBase") -> frozenset[int]:
    """Every token whose text contains a newline."""
    texts = tokenizer.batch_decode([[token] for token in range(len(tokenizer))])
    return frozenset(token for token, text in enumerate(texts) if "\n" in text)
