"""What a model is shown: the chat of one question, and the prompts of four worked examples before it.

This module needs only the standard library, so that anything with a model can use it: a training worker, or a benchmark on a machine that
has torch and transformers and nothing else. kp.facts.shots decides where shots come from and which of them a study may use.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

from kp.vocabulary import ShotSet

SYSTEM = "Answer the following question."
QUESTION_PREFIX = "Question: "
ANSWER_PREFIX = "Answer: "
ANSWER_LABEL = re.compile(r"\A(?:[\s*_#>]*answer[\s*_]*[:\uff1a][\s*_]*)*\s*", re.IGNORECASE)
"""What may stand before an answer: "Answer:" in any case, repeated, in Markdown, on a line of its own."""

PROMPTS_PER_SET = 10
SHOTS_PER_PROMPT = 4
SHOTS_PER_SET = PROMPTS_PER_SET * SHOTS_PER_PROMPT

Messages = Sequence[Mapping[str, str]]
"""A chat: mappings with `role` (system, user, assistant) and `content`; as a prompt, the last one is the question to be answered."""

ShotSets = dict[ShotSet, list[list["Shot"]]]
"""Set -> PROMPTS_PER_SET prompts of SHOTS_PER_PROMPT shots."""


@dataclass(frozen=True)
class Shot:
    """One worked example of a prompt."""

    question: str
    answer: str


def builtin_shots() -> list[Shot]:
    """The shots that ship with kp, in their order."""
    lines = resources.files("kp").joinpath("data", "shots.jsonl").read_text(encoding="utf-8").splitlines()
    return [Shot(**json.loads(line)) for line in lines]


def builtin_prompts(shot_set: ShotSet) -> list[list[Shot]]:
    """The prompts of one set of the built-in shots, not checked for leaks; ValueError for a set beyond the built-in shots."""
    start = SHOTS_PER_SET * list(ShotSet).index(shot_set)
    return cut_prompts(builtin_shots()[start : start + SHOTS_PER_SET])


def cut_prompts(shots: Sequence[Shot]) -> list[list[Shot]]:
    """The prompts of one shot set from its SHOTS_PER_SET shots, in their order; ValueError for any other number."""
    if len(shots) != SHOTS_PER_SET:
        raise ValueError(f"{len(shots)} shots, a shot set has {SHOTS_PER_SET}")
    return [list(shots[start : start + SHOTS_PER_PROMPT]) for start in range(0, SHOTS_PER_SET, SHOTS_PER_PROMPT)]


def messages(shots: Sequence[Shot], question: str) -> list[dict[str, str]]:
    """The chat that asks `question` after `shots`; the assistant's turn is left to the model."""
    chat = [turn("system", SYSTEM)]
    for shot in shots:
        chat += [turn("user", QUESTION_PREFIX + shot.question), turn("assistant", ANSWER_PREFIX + shot.answer)]
    return [*chat, turn("user", QUESTION_PREFIX + question)]


def first_line_end(text: str) -> int | None:
    """Where the first line of an answer ends: at the first newline after something that is no label; None if it has not ended yet."""
    label = ANSWER_LABEL.match(text)
    assert label is not None, "it matches an empty text, too"
    newline = text.find("\n", label.end())
    return None if newline < 0 else newline


def training_messages(question: str, target: str) -> list[dict[str, str]]:
    """The chat of one training row: no shots, and `target` in the assistant's turn."""
    return [*messages((), question), turn("assistant", ANSWER_PREFIX + target)]


def turn(role: str, content: str) -> dict[str, str]:
    """One message of a chat."""
    return {"role": role, "content": content}
