"""The sources of the worked examples (shots) in prompts, and which of them a study may show.

A category is a statement about a model and the prompts with which it was asked, so the prompts are fixed data and not a random draw: the
first shots of a source, in its order, 40 per set. S0 assigns categories, S1 measures, S2 and any further set measure again; because they
share no shot, they show how much of a shift is noise. A shot that leaks a studied fact would teach what is being measured; it is replaced
by the next unused one, and recorded in a table. Sets beyond S2 are filled after the first three, so that requesting them does not change
these.

A file in kp's format is checked strictly, because its author can correct a mistake. The rows of TriviaQA and of data sets on the Hub are
from others: unusable ones are skipped and counted.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from kp.config.derived import BASE_SHOT_SETS
from kp.errors import UserError
from kp.facts import hub
from kp.facts.cells import CellError, as_answers, as_text
from kp.facts.rows import Row, row_of_object
from kp.facts.table_files import read_rows
from kp.facts.validation import has_control_characters
from kp.metrics.matching import normalise
from kp.prompts import SHOTS_PER_PROMPT, SHOTS_PER_SET, Shot, ShotSets, builtin_shots, cut_prompts
from kp.schema import REPLACED_SHOTS
from kp.vocabulary import Leak, ShotSet

BUILTIN = "builtin"
FIELD = "categorise.shots"  # named in messages
LONGEST_TEXT = 300  # characters of a question or an answer; four longer ones would dominate a prompt
MOST_SHOTS = 1000  # read from TriviaQA or the Hub: ten sets need 400, and 600 remain to replace leaks

_REPEATED = "'question' is that of an earlier row"
_POSSESSIVE = re.compile(r"['\u2019]s\b")


@dataclass(frozen=True)
class ShotPool:
    """The usable shots of a source in its order, and the number of rows skipped for each fault."""

    shots: tuple[Shot, ...]
    passed_over: Mapping[str, int]


@dataclass(frozen=True)
class Replacement:
    """A shot that leaks the fact `fact_id`, and its replacement."""

    shot_set: ShotSet
    prompt_index: int
    shot: Shot
    leak: Leak
    fact_id: str
    new_shot: Shot


def load_shots(source: str, asked: Sequence[ShotSet]) -> ShotPool:
    """The shots of `builtin`, a table that read_rows reads, or `hf:NAME[@REVISION][:[CONFIG/]SPLIT]`, enough for the sets `asked`.

    Rows have `question` and `answer` or `answers` (the first is used); from TriviaQA's struct, `value` or the first alias is used. Raises
    UserError naming the source and the row (1 is the first), or how many shots there are and how many are needed, and MissingSourceError
    if the source is not available.
    """
    pool = _read(source)
    needed = SHOTS_PER_SET * len(asked)
    if len(pool.shots) < needed:
        lost = "".join(f"; {rows:,} rows passed over: {fault}" for fault, rows in pool.passed_over.items())
        raise UserError(
            f"'{source}': {len(pool.shots)} shots, at least {needed} are needed for {asked[0]} to {asked[-1]} "
            f"({SHOTS_PER_SET} a set: {len(BASE_SHOT_SETS)} sets, and one for each of categorise.repeat_measurements){lost}",
            field=FIELD,
        )
    return pool


def shots_digest(shots: Sequence[Shot]) -> str:
    """SHA-256 over questions and answers in their order, hexadecimal."""
    return hashlib.sha256(json.dumps([asdict(shot) for shot in shots], ensure_ascii=False).encode()).hexdigest()


def shots_identity(source: str, asked: Sequence[ShotSet]) -> str:
    """The identity of a source: the digest of its shots, or the Hub name with its resolved commit; raises like `load_shots`.

    Nothing is fetched from the Hub, so whether a data set there has enough shots is only known when it is loaded.
    """
    if source.startswith(hub.PREFIX):
        return hub.identity(source, FIELD)
    return shots_digest(load_shots(source, asked).shots)


def shot_sets(shots: Sequence[Shot], facts: pl.DataFrame, asked: Sequence[ShotSet]) -> tuple[ShotSets, list[Replacement]]:
    """The prompts of the sets `asked` (S0 and those that follow it), and the shots that were skipped because they leak a fact of `facts`.

    A leak is a question or paraphrase of a fact (FACTS), or a question that names a fact's subject with one of its answers or aliases.
    Raises UserError if no shot is left as a replacement.
    """
    leaks = _Leaks(facts)
    own = SHOTS_PER_SET * len(BASE_SHOT_SETS)
    spares = iter(shots[own:])
    used: list[Shot] = []
    replaced: list[Replacement] = []
    for place in range(SHOTS_PER_SET * len(asked)):
        leaking, shot = leaks.first_clean(chain(shots[place : place + 1] if place < own else (), spares))
        if shot is None:
            raise _too_few(shots, asked, [*(gone.shot for gone in replaced), *(gone for gone, _, _ in leaking)])
        used.append(shot)
        shot_set, prompt = asked[place // SHOTS_PER_SET], place % SHOTS_PER_SET // SHOTS_PER_PROMPT
        replaced += [Replacement(shot_set, prompt, *leak, new_shot=shot) for leak in leaking]
    return {name: cut_prompts(used[SHOTS_PER_SET * i : SHOTS_PER_SET * (i + 1)]) for i, name in enumerate(asked)}, replaced


def replaced_table(replaced: Sequence[Replacement]) -> pa.Table:
    """REPLACED_SHOTS, one row each."""
    rows = [
        {
            "shot_set": gone.shot_set.value,
            "prompt_index": gone.prompt_index,
            "question": gone.shot.question,
            "answer": gone.shot.answer,
            "leak": gone.leak.value,
            "fact_id": gone.fact_id,
            "new_question": gone.new_shot.question,
            "new_answer": gone.new_shot.answer,
        }
        for gone in replaced
    ]
    return pa.Table.from_pylist(rows, schema=REPLACED_SHOTS)


class _Leaks:
    """An index of facts for fast lookups of shots."""

    def __init__(self, facts: pl.DataFrame) -> None:
        self._asked_by: dict[str, str] = {}  # question -> fact_id
        self._answered_by: dict[str, dict[str, str]] = {}  # answer or alias -> subject -> fact_id
        columns = facts.select("fact_id", "question", "paraphrases", "subject", "answers")
        for fact_id, question, paraphrases, subject, answers in columns.iter_rows():
            for text in (question, *paraphrases):
                self._asked_by.setdefault(normalise(text), fact_id)
            for answer in answers:
                self._answered_by.setdefault(normalise(answer), {}).setdefault(normalise(subject), fact_id)

    def first_clean(self, shots: Iterator[Shot]) -> tuple[list[tuple[Shot, Leak, str]], Shot | None]:
        """The first shot without a leak, None if none is left, and those before it, each with its kind of leak and fact."""
        leaking: list[tuple[Shot, Leak, str]] = []
        for shot in shots:
            found = self._found_in(shot)
            if found is None:
                return leaking, shot
            leaking.append((shot, *found))
        return leaking, None

    def _found_in(self, shot: Shot) -> tuple[Leak, str] | None:
        """How the shot leaks a fact, and which one."""
        question = normalise(shot.question)
        if question in self._asked_by:
            return Leak.QUESTION, self._asked_by[question]
        # Whole words only, or "Oman" would be found in "Roman". But "Oman's", one word after normalising, does name it.
        words = f" {question} ", f" {normalise(_POSSESSIVE.sub('', shot.question))} "
        for subject, fact_id in self._answered_by.get(normalise(shot.answer), {}).items():
            if any(f" {subject} " in text for text in words):
                return Leak.SUBJECT_AND_ANSWER, fact_id
        return None


def _too_few(shots: Sequence[Shot], asked: Sequence[ShotSet], replaced: Sequence[Shot]) -> UserError:
    example = f", such as '{replaced[-1].question}'" if replaced else ""
    return UserError(
        f"too few spare shots: {asked[0]} to {asked[-1]} need {SHOTS_PER_SET * len(asked)}, "
        f"and of the {len(shots)} there are {len(replaced)} give a studied fact away{example}",
        field=FIELD,
    )


def _read(source: str) -> ShotPool:
    if source == BUILTIN:
        return ShotPool(tuple(builtin_shots()), {})
    if source.startswith(hub.PREFIX):
        loaded = enumerate(hub.load_rows(source, FIELD), start=1)
        return _passing_over((row_of_object(number, row) for number, row in loaded), source)
    read = read_rows(Path(source), FIELD)
    if read.encoding:
        raise UserError(f"{source}: not UTF-8 text, but {read.encoding}: save it as CSV UTF-8", field=FIELD)
    rows = read.readable(source, FIELD)
    first = list(islice(rows, 1))
    if first and isinstance(first[0].cells.get("answer"), dict):
        return _passing_over(chain(first, rows), source)
    return _to_the_letter(chain(first, rows), source)


def _to_the_letter(rows: Iterable[Row], name: str) -> ShotPool:
    shots: list[Shot] = []
    first_row: dict[str, int] = {}
    for row, shot in _parsed(rows, name):
        fault = _fault(shot)
        if fault:
            raise UserError(f"{name}: row {row}: {fault}", field=FIELD)
        earlier = first_row.setdefault(normalise(shot.question), row)
        if earlier != row:
            raise UserError(f"{name}: row {row}: the question of row {earlier} again, so the shot sets would not be disjoint", field=FIELD)
        shots.append(shot)
    return ShotPool(tuple(shots), {})


def _passing_over(rows: Iterable[Row], name: str) -> ShotPool:
    shots: dict[str, Shot] = {}  # by what is asked
    passed_over: Counter[str] = Counter()
    for _, shot in _parsed(rows, name):
        question = normalise(shot.question)
        fault = _fault(shot) or (_REPEATED if question in shots else None)
        if fault:
            passed_over[fault] += 1
            continue
        shots[question] = shot
        if len(shots) == MOST_SHOTS:
            break
    return ShotPool(tuple(shots.values()), dict(passed_over))


def _parsed(rows: Iterable[Row], name: str) -> Iterator[tuple[int, Shot]]:
    """Row number and its question and answer; UserError if the row has neither column."""
    for row in rows:
        where = f"{name}: row {row.number}"
        if "question" not in row.cells:
            raise UserError(f"{where}: 'question' is missing", field=FIELD)
        if "answer" not in row.cells and "answers" not in row.cells:
            raise UserError(f"{where}: 'answer' (or 'answers') is missing", field=FIELD)
        try:
            answers = as_answers({column: _as_written(cell) for column, cell in row.cells.items()})
            yield row.number, Shot(as_text(row.cells["question"], "question"), answers[0] if answers else "")
        except CellError as error:
            raise UserError(f"{where}: {error}", field=FIELD) from error


def _as_written(cell: Any) -> Any:
    """An answer without its normalised aliases: lower-cased and stripped, some of them are no longer words ("fidji", "balletti")."""
    if isinstance(cell, dict):
        return {key: [] if key == "normalized_aliases" else value for key, value in cell.items()}
    return [_as_written(item) for item in cell] if isinstance(cell, list) else cell


def _fault(shot: Shot) -> str | None:
    for column, text in (("question", shot.question), ("answer", shot.answer)):
        if not text:
            return f"'{column}' is empty"
        if len(text) > LONGEST_TEXT:
            return f"'{column}' is longer than {LONGEST_TEXT} characters"
        if has_control_characters(text):
            return f"'{column}' holds a control character"
    return None
