"""What a model is shown: the chat of one question, and the three disjoint shot sets that questions are asked under.

A category is a claim about a model and the prompts it was asked with, so the prompts are fixed data and not a random draw: the first 120
shots of a file, in file order, 40 to a set, 4 to a prompt. S0 assigns categories, S1 measures, S2 measures again; sharing no shot, they
show how much of a shift is noise. A shot that gives away a studied fact would teach what is being measured; it is replaced by a spare
from the rest of the file and reported.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path

import polars as pl

from kp.errors import UserError
from kp.matching import normalise
from kp.vocabulary import ShotSet

SYSTEM = "Answer the following question."
QUESTION_PREFIX = "Question: "
ANSWER_PREFIX = "Answer: "
PROMPTS_PER_SET = 10
SHOTS_PER_PROMPT = 4
BUILTIN = "builtin"

_SHOTS_PER_SET = PROMPTS_PER_SET * SHOTS_PER_PROMPT
_SHOTS_NEEDED = _SHOTS_PER_SET * len(ShotSet)

ShotSets = dict[ShotSet, list[list["Shot"]]]
"""Set -> PROMPTS_PER_SET prompts of SHOTS_PER_PROMPT shots."""


@dataclass(frozen=True)
class Shot:
    """One worked example of a prompt."""

    question: str
    answer: str


def load_shots(source: str) -> list[Shot]:
    """Read `builtin` or a .jsonl file with `question` and `answer`; raises UserError naming the file and the row (1 is the first)."""
    if source == BUILTIN:
        return _parse(resources.files("kp").joinpath("data", "shots.jsonl").read_text(encoding="utf-8"), "built-in shots")
    if not source.endswith(".jsonl"):
        raise UserError(f"categorise.shots: '{source}' is neither '{BUILTIN}' nor a .jsonl file")
    try:
        text = Path(source).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"categorise.shots: {source}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"categorise.shots: {source}: not UTF-8: {error}") from error
    return _parse(text, source)


def shots_digest(shots: Sequence[Shot]) -> str:
    """SHA-256 over questions and answers in their order, hexadecimal."""
    return hashlib.sha256(json.dumps([asdict(shot) for shot in shots], ensure_ascii=False).encode()).hexdigest()


def shot_sets(shots: Sequence[Shot], facts: pl.DataFrame) -> tuple[ShotSets, list[Shot]]:
    """The prompts of every set, and the shots that were replaced because they leak a fact of `facts` (FACTS).

    A leak is a fact's question or paraphrase, or a question that names a fact's subject and has one of its answers. Raises UserError where
    the spares (the shots after the first 120) run out.
    """
    leaks = _Leaks(facts)
    spares = iter([shot for shot in shots[_SHOTS_NEEDED:] if not leaks.found_in(shot)])
    used: list[Shot] = []
    replaced: list[Shot] = []
    for shot in shots[:_SHOTS_NEEDED]:
        if not leaks.found_in(shot):
            used.append(shot)
            continue
        spare = next(spares, None)
        if spare is None:
            raise UserError(f"categorise.shots: too few spare shots: '{shot.question}' gives away a studied fact and nothing replaces it")
        used.append(spare)
        replaced.append(shot)
    return {shot_set: _prompts(used[start : start + _SHOTS_PER_SET]) for shot_set, start in _starts()}, replaced


def messages(shots: Sequence[Shot], question: str) -> list[dict[str, str]]:
    """The chat that asks `question` after `shots`; the assistant's turn is left to the model."""
    chat = [_turn("system", SYSTEM)]
    for shot in shots:
        chat += [_turn("user", QUESTION_PREFIX + shot.question), _turn("assistant", ANSWER_PREFIX + shot.answer)]
    return [*chat, _turn("user", QUESTION_PREFIX + question)]


def training_messages(question: str, target: str) -> list[dict[str, str]]:
    """The chat of one training row: no shots, and the assistant's turn holds `target`."""
    return [*messages((), question), _turn("assistant", ANSWER_PREFIX + target)]


class _Leaks:
    """Facts in a form that a shot is quickly looked up in."""

    def __init__(self, facts: pl.DataFrame) -> None:
        questions = facts["question"].to_list()
        paraphrases = facts["paraphrases"].explode().drop_nulls().to_list()
        self._questions = {normalise(question) for question in [*questions, *paraphrases]}
        self._answered_by: dict[str, set[str]] = {}  # answer -> subjects
        for subject, answers in facts.select("subject", "answers").iter_rows():
            for answer in answers:
                self._answered_by.setdefault(normalise(answer), set()).add(normalise(subject))

    def found_in(self, shot: Shot) -> bool:
        question = normalise(shot.question)
        if question in self._questions:
            return True
        # Whole words only, or the subject "Oman" would be found in "Roman".
        return any(f" {subject} " in f" {question} " for subject in self._answered_by.get(normalise(shot.answer), ()))


def _parse(text: str, name: str) -> list[Shot]:
    shots = [_shot(line, f"{name}: row {row}") for row, line in enumerate(text.splitlines(), start=1)]
    if len(shots) < _SHOTS_NEEDED:
        raise UserError(f"{name}: {len(shots)} shots, at least {_SHOTS_NEEDED} are needed")
    first_row: dict[str, int] = {}
    for row, shot in enumerate(shots, start=1):
        earlier = first_row.setdefault(normalise(shot.question), row)
        if earlier != row:
            raise UserError(f"{name}: row {row}: the question of row {earlier} again, so the shot sets would not be disjoint")
    return shots


def _shot(line: str, where: str) -> Shot:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not valid JSON: {error}") from error
    if not isinstance(record, dict):
        raise UserError(f"{where}: expected an object with 'question' and 'answer'")
    for field in ("question", "answer"):
        value = record.get(field)
        if not isinstance(value, str) or not value.strip():
            raise UserError(f"{where}: '{field}' must be a text that is not empty")
    return Shot(record["question"].strip(), record["answer"].strip())


def _prompts(shots: Sequence[Shot]) -> list[list[Shot]]:
    return [list(shots[start : start + SHOTS_PER_PROMPT]) for start in range(0, len(shots), SHOTS_PER_PROMPT)]


def _starts() -> list[tuple[ShotSet, int]]:
    return [(shot_set, index * _SHOTS_PER_SET) for index, shot_set in enumerate(ShotSet)]


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
