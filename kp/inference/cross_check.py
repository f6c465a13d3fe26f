"""A sample of a study's questions put to the `hf` engine as well, where another engine answered them.

Engines round differently, and in low precision a rounding can turn an answer. How often it did is part of what a study's categories are
worth, so it is measured in the study itself, on its own facts and model, and stands in the record of the step that it belongs to.
"""

import random
from dataclasses import dataclass, replace
from typing import Any

import polars as pl
import pyarrow as pa

from kp.cluster import Cluster
from kp.inference.answering import EngineSpec, FactIndex, answer_chunk, sorted_answers
from kp.inference.pipeline import Categorisation
from kp.metrics.agreement import Agreement, agreement
from kp.metrics.categories import categorise, of_matcher
from kp.prompts import ShotSets
from kp.schema import frame
from kp.vocabulary import Engine, Matcher, ShotSet

CHECKED_FACTS = 16
"""Facts in the sample; each is asked under every prompt of S0, so that its category can be compared too."""


@dataclass(frozen=True)
class EngineAgreement:
    """One matcher's view of two engines: equal answers and equal verdicts over questions, equal categories over facts."""

    answers: Agreement
    matches: Agreement
    categories: Agreement

    def details(self) -> dict[str, Any]:
        """For a step's record: of each what was compared, `n`, and the share that is equal."""
        compared = {"answers": self.answers, "matches": self.matches, "categories": self.categories}
        return {name: {"n": one.n, "share": one.share} for name, one in compared.items()}


def agreement_with_hf(job: Categorisation, answers: pa.Table, matcher: Matcher, cluster: Cluster) -> EngineAgreement:
    """Compare `answers` (ANSWERS, what another engine made of `job`) with those that `hf` gives to a sample of its facts on S0."""
    import ray

    facts = FactIndex(job.facts).take(checked_facts(job.facts["fact_id"].to_pylist()))
    ask: Any = ray.remote(num_cpus=cluster.actor_cpus, num_gpus=cluster.actor_gpus)(_answered)
    reference: pa.Table = ray.get(ask.remote(replace(job.engine, engine=Engine.HF), facts, job.shot_sets))
    return compare_answers(answers, reference, matcher)


def checked_facts(fact_ids: list[str]) -> list[str]:
    """The sample: drawn once and for all from the ids themselves, whatever order they come in."""
    return random.Random(0).sample(sorted(fact_ids), min(CHECKED_FACTS, len(fact_ids)))


def compare_answers(answers: pa.Table, reference: pa.Table, matcher: Matcher) -> EngineAgreement:
    """Compare two ANSWERS tables on the questions of `reference`, all of which `answers` must hold; ValueError where it does not."""
    asked, key = frame(reference), ["fact_id", "shot_set", "prompt_index"]
    same = frame(answers).join(asked.select(key), on=key, how="semi").sort(key)
    asked = asked.sort(key)
    column = f"match_{matcher}"
    return EngineAgreement(
        agreement(same["answer"].to_list(), asked["answer"].to_list()),
        agreement(same[column].cast(pl.String).to_list(), asked[column].cast(pl.String).to_list()),
        agreement(_categories(same, matcher), _categories(asked, matcher)),
    )


def _answered(engine: EngineSpec, facts: pa.Table, shot_sets: ShotSets) -> pa.Table:
    model, generator = engine.load()
    chunk = {"shot_set": ShotSet.S0.value, "fact_ids": facts["fact_id"].to_pylist()}
    return sorted_answers(answer_chunk(generator, facts, shot_sets, chunk, model.revision))


def _categories(answers: pl.DataFrame, matcher: Matcher) -> list[str]:
    return of_matcher(categorise(answers), matcher)["category"].to_list()
