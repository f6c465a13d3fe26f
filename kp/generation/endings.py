"""Where an answer ends, and its text: one rule on tokens for every engine, so that engines can be compared string for string.

Engines that search for a stop string, or that decode tokens one by one, differ in what they cut off and in the spaces that they leave. So
every engine gets the tokens that end an answer, and passes the generated tokens to this module.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from kp.generation.protocol import FinishReason, Generation
from kp.models.chat import Chat
from kp.prompts import first_line_end

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedTokenizerBase

_newlines: WeakKeyDictionary[Any, tuple[int, frozenset[int]]] = WeakKeyDictionary()
"""By tokenizer, the size of its vocabulary and its newline tokens, for as long as the tokenizer lives."""


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
        stopped = tokens[-1] in self.end_of_sequence
        text = _text(tokenizer, tokens[:-1] if stopped else tokens)  # not every token that ends a turn is a special one
        if stopped:
            reason = FinishReason.STOP
        elif self.ended(tokenizer, tokens):
            text, reason = text[: first_line_end(text)], FinishReason.NEWLINE
        else:
            reason = FinishReason.LENGTH
        return Generation(text=text, finish_reason=reason, tokens=len(tokens))


def _text(tokenizer: "PreTrainedTokenizerBase", tokens: Sequence[int]) -> str:
    return str(tokenizer.decode(list(tokens), skip_special_tokens=True))


def end_tokens(generation: "GenerationConfig | None", chat: Chat) -> frozenset[int]:
    """The token that ends a turn of the chat, and the model's end-of-sequence tokens; the tokenizer's if its generation config has none."""
    configured = None if generation is None else generation.eos_token_id
    ends = chat.tokenizer.eos_token_id if configured is None else configured
    return frozenset([chat.end_token, *(ends if isinstance(ends, list) else [] if ends is None else [ends])])


def newline_tokens(tokenizer: "PreTrainedTokenizerBase") -> frozenset[int]:
    """Every token whose text contains a newline.

    To find them the whole vocabulary is decoded, which takes up to a second. So a tokenizer is asked once, and again only when tokens were
    added to it.
    """
    size = len(tokenizer)
    known = _newlines.get(tokenizer)
    if known is None or known[0] != size:
        texts = tokenizer.batch_decode([[token] for token in range(size)])
        known = _newlines[tokenizer] = size, frozenset(token for token, text in enumerate(texts) if "\n" in text)
    return known[1]
