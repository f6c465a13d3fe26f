"""What the candidates and their base are asked: control facts, facts to keep, facts that were to be learned; and under which prompts.

Few prompts of each shot set are used, because at the same cost more facts narrow an interval further than more prompts of each fact do.
"""

import math
from collections.abc import Collection, Mapping, Sequence
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
from kp.facts.selection import random_key
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
SCOUTS = 4
"""Facts of each relation that are asked first, where control facts are looked for."""
LEAST_ROUND, MOST_ROUND = 16, 200
"""Facts of a later round: small ones waste passes of the model, large ones ask more than are needed."""
MOST_ASKED = 8
"""Facts that are asked for each one wanted before the search ends."""
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
    """These facts under the built-in shots, without any that gives one of them away; paraphrases are not asked here."""
    asked = facts.with_columns(pl.lit([], dtype=pl.List(pl.String)).alias("paraphrases"))
    sets, _ = shot_sets(load_shots(BUILTIN, BASE_SHOT_SETS).shots, asked, BASE_SHOT_SETS)
    return Questions(facts.to_arrow().cast(FACTS), {name: prompts[: PROMPTS[name]] for name, prompts in sets.items()})


def table_questions(path: Path, field: str) -> Questions:
    """The facts of a user's table; raises UserError naming the row and the column if one cannot be asked."""
    read = read_source(str(path), field)
    facts, _ = check_facts(read.facts, str(path), 0.0, read.rows, read.unread)
    if len(facts) > _MOST_TABLE:
        raise UserError(f"{path}: {len(facts):,} facts, at most {_MOST_TABLE:,} can be asked here", field=field)
    return questions_of(frame(facts))


def control_candidates(wanted: int, without: Collection[str] = ()) -> Questions:
    """Built-in facts among which control facts are looked for, in the order of a draw; none of these questions.

    No two have the same relation and object: their answers depend on each other, and would count as one.
    """
    taken = {question_key(question) for question in without}
    builtin = frame(load_builtin())
    pool = builtin.filter([question_key(question) not in taken for question in builtin["question"]])
    drawn = pool.with_columns(pl.Series("draw", [random_key(0, one) for one in pool["fact_id"]])).sort("draw")
    single = drawn.unique(["relation", "object"], keep="first", maintain_order=True).drop("draw")
    if wanted > single.height:
        raise UserError(
            f"{wanted} control facts asked for, and {BUILTIN_FACTS} has {single.height:,} with different answers", field="--controls"
        )
    return questions_of(single)


def next_round(pool: pl.DataFrame, known: Mapping[str, bool], wanted: int) -> list[str]:
    """The ids of the facts of `pool` (FACTS) to ask next, given which of those asked the base knows; empty if that leads nowhere.

    The first round asks a few of each relation, those after it the relations of which the base knows most: a model that knows capitals
    and no films is not asked films. Facts are chosen by S0 alone, so this biases nothing that is measured on S1 and S2.
    """
    left = pool.filter(~pl.col("fact_id").is_in(list(known)))
    if not known:
        return left.group_by("relation", maintain_order=True).head(SCOUTS)["fact_id"].to_list()
    found = pl.DataFrame({"fact_id": list(known), "right": list(known.values())}).join(pool.select("fact_id", "relation"), on="fact_id")
    shares = found.group_by("relation").agg(((pl.col("right").sum() + 0.5) / (pl.len() + 1)).alias("share"))
    hopeful = shares.join(left.select("relation").unique(), on="relation").filter(pl.col("share") >= pl.col("share").max() / 2)
    lacking = wanted - sum(known.values())
    if hopeful.is_empty() or lacking <= 0 or len(known) >= MOST_ASKED * max(wanted, MOST_ROUND):
        return []
    size = min(MOST_ROUND, max(LEAST_ROUND, math.ceil(lacking / float(hopeful["share"].to_numpy().mean()))))
    counts = hopeful.with_columns((pl.col("share") / pl.col("share").sum() * size).ceil().cast(pl.Int64).alias("count"))
    ranked = left.join(counts, on="relation", maintain_order="left").with_columns(pl.int_range(pl.len()).over("relation").alias("rank"))
    return ranked.filter(pl.col("rank") < pl.col("count"))["fact_id"].to_list()
