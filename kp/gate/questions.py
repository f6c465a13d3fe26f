"""What the candidates and their base are asked: control facts, facts to keep, facts that were to be learned; and under which prompts.

Few prompts of each shot set are used, because at the same cost more facts narrow an interval further than more prompts of each fact do.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from kp.config.derived import BASE_SHOT_SETS
from kp.errors import UserError
from kp.facts.builtin import SOURCE as BUILTIN_FACTS
from kp.facts.builtin import load_builtin
from kp.facts.selection import random_key, select_facts
from kp.facts.shots import BUILTIN, load_shots, shot_sets
from kp.facts.tables import read_source
from kp.facts.validation import check_facts, question_key
from kp.metrics.matching import AnswerKeys
from kp.prompts import ShotSets
from kp.schema import FACTS, frame
from kp.store.files import digest_json
from kp.vocabulary import ShotSet

PROMPTS = {ShotSet.S0: 2, ShotSet.S1: 3, ShotSet.S2: 3}
"""Prompts of each shot set that are asked: a control fact is one that the base answers right under both of S0."""
PROMPTS_A_FACT = PROMPTS[ShotSet.S1] + PROMPTS[ShotSet.S2]
ROUNDS = 5
"""Rounds in which control facts are looked for, each of as many facts as are wanted divided by ROUND_SHARE."""
ROUND_SHARE = 2
_MOST_TABLE = 5000  # facts of a table


@dataclass(frozen=True)
class Questions:
    """Some facts (FACTS) and the prompts under which they are asked."""

    facts: pa.Table
    sets: ShotSets

    def identity(self, asked: Sequence[ShotSet]) -> dict[str, Any]:
        """What determines the answers to these questions on these shot sets, besides the model."""
        shots = {one.value: [[(shot.question, shot.answer) for shot in prompt] for prompt in self.sets[one]] for one in asked}
        facts = self.facts.select(["fact_id", "question", "answers"]).to_pylist()
        return {"facts": digest_json(facts), "prompts": digest_json(shots), "shot_sets": [one.value for one in asked]}

    @cached_property
    def keys(self) -> AnswerKeys:
        """What judges the answers."""
        return AnswerKeys.of_table(self.facts)

    @cached_property
    def texts(self) -> dict[str, str]:
        """The question of each fact by its id."""
        return dict(zip(self.facts["fact_id"].to_pylist(), self.facts["question"].to_pylist(), strict=True))

    @property
    def frame(self) -> pl.DataFrame:
        """The facts for polars."""
        return frame(self.facts)

    def only(self, fact_ids: Collection[str]) -> "Questions":
        """Some of the facts, under the same prompts."""
        return Questions(self.facts.filter(pa.array([one in fact_ids for one in self.facts["fact_id"].to_pylist()])), self.sets)


def questions_of(facts: pl.DataFrame) -> Questions:
    """These facts under the built-in shots, without any that gives one of them away."""
    sets, _ = shot_sets(load_shots(BUILTIN, BASE_SHOT_SETS).shots, facts, BASE_SHOT_SETS)
    return Questions(facts.to_arrow().cast(FACTS), {name: prompts[: PROMPTS[name]] for name, prompts in sets.items()})


def table_questions(path: Path, field: str) -> Questions:
    """The facts of a user's table; raises UserError naming the row and the column if one cannot be asked."""
    read = read_source(str(path), field)
    facts, _ = check_facts(read.facts, str(path), 0.0, read.rows, read.unread)
    if len(facts) > _MOST_TABLE:
        raise UserError(f"{path}: {len(facts):,} facts, at most {_MOST_TABLE:,} can be asked here", field=field)
    return questions_of(frame(facts))


def control_candidates(wanted: int, without: Collection[str] = ()) -> Questions:
    """Built-in facts among which as many control facts are looked for, in the order in which they are asked; none of these questions.

    No two have the same relation and object: their answers depend on each other, and would count as one.
    """
    taken = {question_key(question) for question in without}
    pool = frame(load_builtin()).filter([question_key(question) not in taken for question in load_builtin()["question"].to_pylist()])
    drawn = pool.with_columns(pl.Series("draw", [random_key(0, one) for one in pool["fact_id"]])).sort("draw")
    single = drawn.unique(["relation", "object"], keep="first", maintain_order=True).drop("draw")
    most = min(single.height, wanted * ROUNDS // ROUND_SHARE)
    if wanted > single.height:
        raise UserError(
            f"{wanted} control facts asked for, and {BUILTIN_FACTS} has {single.height:,} with different answers", field="--controls"
        )
    return questions_of(select_facts(single, (), most, 0, "--controls"))


def rounds_of(questions: Questions, wanted: int) -> list[Questions]:
    """The candidates in rounds, by which few more are asked than are needed."""
    ids = sorted(questions.facts["fact_id"].to_pylist(), key=lambda one: random_key(1, one))
    size = max(1, wanted // ROUND_SHARE)
    return [questions.only(set(ids[start : start + size])) for start in range(0, len(ids), size)]
