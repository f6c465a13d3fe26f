"""Greedy answers from a model: what a generator is, apart from the engine that makes the answers.

The words stand apart from the engines so that code which only asks for answers, and the tests of that code, load no model library.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

Messages = Sequence[Mapping[str, str]]
"""A chat: mappings with `role` (system, user, assistant) and `content`; the last one is the question to be answered."""

OnAnswered = Callable[[int], None]
"""Told, while a generator works, how many more answers it has made."""


def ignore_answers(answers: int) -> None:
    """The OnAnswered of a generator that nobody listens to."""


class FinishReason(StrEnum):
    """Why an answer ends where it ends."""

    STOP = "stop"  # the model gave an end-of-sequence token
    NEWLINE = "newline"  # the answer's first line is complete
    LENGTH = "length"  # max_new_tokens were made


@dataclass(frozen=True)
class Generation:
    """One answer: its text without special tokens, why it ended, and how many tokens were made, the ending one included.

    Where answers end at their first line, the text is what stands before the first newline. Leading newlines are not skipped: an answer
    that begins with one is empty, exactly as the uncut answer cut at its first newline would be.
    """

    text: str
    finish_reason: FinishReason
    tokens: int


class Generator(Protocol):
    """Something that answers chats, with one LoRA adapter at a time or none; `on_answered` is its caller's to set."""

    on_answered: OnAnswered

    def generate(self, prompts: Sequence[Messages]) -> list[Generation]:
        """One greedy answer per prompt, in the order given."""
        ...

    def sample(self, prompts: Sequence[Messages], count: int, temperature: float, seeds: Sequence[int]) -> list[list[Generation]]:
        """For each prompt `count` answers drawn at `temperature`, by the prompt's own seed: the same whatever is asked beside it."""
        ...

    def load_adapter(self, path: str | None) -> None:
        """Activate the PEFT adapter saved in this folder in place of the present one; None deactivates it."""
        ...
