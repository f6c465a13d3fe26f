"""Sampled answers of the base model for facts that it never answers right greedily: with SliCK's 16 per prompt, 160 answers per fact.

Samples are drawn with a seed of the question, so a run that was interrupted, or that also asks for other facts, draws the same. Every
answer is stored and judged by all matchers, like greedy ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import polars as pl
import pyarrow as pa

from kp import schema
from kp.generation.protocol import Generator
from kp.inference.answering import ANSWER_KEY, EngineSpec, make_chunks
from kp.metrics.matching import AnswerKey, AnswerKeys
from kp.metrics.slick import sample_seed
from kp.prompts import PROMPTS_PER_SET, ShotSets, messages
from kp.vocabulary import ShotSet

ASKED = ShotSet.S0  # the set that assigns categories


@dataclass(frozen=True)
class Sampling:
    """`count` answers at `temperature` to every fact under every prompt of S0 (SAMPLES)."""

    facts: pa.Table  # FACTS
    all_facts: pa.Table  # FACTS of the study: the objects that an answer may name
    shot_sets: ShotSets
    engine: EngineSpec
    count: int
    temperature: float
    seed: int  # of the study

    stage: ClassVar[str] = "samples"
    unit: ClassVar[str] = "answers"
    answer_schema: ClassVar[pa.Schema] = schema.SAMPLES
    key: ClassVar[Sequence[str]] = (*ANSWER_KEY, "sample_index")

    @property
    def answers_each(self) -> int:
        """`count` under each prompt."""
        return PROMPTS_PER_SET * self.count

    def chunks(self) -> pa.Table:
        """CHUNKS of S0."""
        return make_chunks(pl.DataFrame(pl.from_arrow(self.facts)), [ASKED], self.count, self.engine.chunk_facts)

    def answer(self, generator: Generator, facts: pa.Table, chunk: Mapping[str, Any], model_id: str) -> pa.Table:
        """The SAMPLES of one chunk."""
        asked = list(zip(facts.select(["fact_id", "question"]).to_pylist(), self.keys.of_facts(facts), strict=True))
        questions = [(index, shots, fact, key) for index, shots in enumerate(self.shot_sets[ASKED]) for fact, key in asked]
        made = generator.sample(
            [messages(shots, fact["question"]) for _, shots, fact, _ in questions],
            self.count,
            self.temperature,
            [sample_seed(self.seed, fact["fact_id"], ASKED, index) for index, _, fact, _ in questions],
        )
        rows = [
            self._row(fact, key, model_id, index, number, generation.text)
            for (index, _, fact, key), drawn in zip(questions, made, strict=True)
            for number, generation in enumerate(drawn)
        ]
        return pa.Table.from_pylist(rows, schema=schema.SAMPLES)

    @cached_property
    def keys(self) -> AnswerKeys:
        """What judges the answers."""
        return AnswerKeys.of_table(self.all_facts)

    @staticmethod
    def _row(fact: Mapping[str, Any], key: AnswerKey, model_id: str, prompt_index: int, sample_index: int, text: str) -> dict[str, Any]:
        found = key.judge(text)
        return {
            "fact_id": fact["fact_id"],
            "model_id": model_id,
            "shot_set": ASKED.value,
            "prompt_index": prompt_index,
            "sample_index": sample_index,
            "answer": text,
            "match_strict": found.strict,
            "match_exact": found.exact,
            "match_released": found.released,
        }
