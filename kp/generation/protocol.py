"""Answers from a model: the interface of a generator, independent of the engine behind it.

The interface is separate from the engines so that code which only asks for answers, and its tests, load no model library.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from kp.prompts import Messages

OnAnswered = Callable[[int], None]
"""Called while a generator works, with the number of answers that it has made since the last call."""


def ignore_answers(answers: int) -> None:
    """The default OnAnswered, which does nothing."""


DEFAULT_ROWS = 256
"""Rows decoded together, unless a study says otherwise or a GPU has room for more."""


class FinishReason(StrEnum):
    """Why an answer ended."""

    STOP = "stop"  # the model generated an end-of-sequence token
    NEWLINE = "newline"  # the answer's first line is complete
    LENGTH = "length"  # max_new_tokens were generated


@dataclass(frozen=True)
class Generation:
    """One answer: its text without special tokens, why it ended, and how many tokens were generated, the ending one included.

    If answers end at their first line, the text is what comes before the first newline that follows more than blanks and a label:
    "Answer:\\nParis" is not cut after its label.
    """

    text: str
    finish_reason: FinishReason
    tokens: int


@dataclass(frozen=True)
class ReadPrompt:
    """A chat as the model reads it: tokens. Many prompts hold the same `beginning`, so that to keep them takes little memory."""

    beginning: tuple[int, ...]  # with which any question behind the same messages begins
    own: list[int]  # at least one
    draft: list[int] = field(default_factory=list)  # with which its answer is expected to begin

    @property
    def ids(self) -> list[int]:
        """All tokens of the prompt."""
        return [*self.beginning, *self.own]


Prompt = Messages | ReadPrompt
"""A chat, or what a generator's `read` made of it."""


class Generator(Protocol):
    """Answers chats, with one LoRA adapter at a time or none; the caller may set `on_answered`."""

    on_answered: OnAnswered

    def read(self, prompts: Sequence[Prompt]) -> list[ReadPrompt]:
        """The prompts rendered and tokenised, as `generate` does with those that are not. Another thread may do it while one generates."""
        ...

    def generate(self, prompts: Sequence[Prompt]) -> list[Generation]:
        """One greedy answer per prompt, in the given order."""
        ...

    def sample(self, prompts: Sequence[Prompt], count: int, temperature: float, seeds: Sequence[int]) -> list[list[Generation]]:
        """For each prompt `count` answers sampled at `temperature` with the prompt's own seed, whatever else is asked."""
        ...

    def load_adapter(self, path: str | None) -> None:
        """Activate the PEFT adapter saved in this folder instead of the current one; None deactivates it."""
        ...
