"""A sample of a study's questions is also answered by the `hf` engine if another engine answered the study.

Engines round differently, and in low precision rounding can change an answer. How often it does is part of how reliable a study's
categories are, so it is measured in the study itself, on its own facts and model, and stored in the step's record.
"""

import random
from dataclasses import dataclass, replace
from typing import Any

import polars as pl
import pyarrow as pa

from kp.cluster.sizing import Cluster
from kp.inference.answering import EngineSpec, FactIndex, answer_chunk, sorted_answers
from kp.inference.base_answers import Categorisation
from kp.metrics.agreement import Agreement, agreement
from kp.metrics.categories import categorise, of_matcher
from kp.metrics.matching import AnswerKeys
from kp.prompts import ShotSets
from kp.schema import frame
from kp.vocabulary import Engine, Matcher, ShotSet

CHECKED_FACTS = 16
"""Facts in the sample; each is asked under every prompt of S0, so that its category can also be compared."""


@dataclass(frozen=True)
class EngineAgreement:
    """The agreement of two engines for one matcher: equal answers and verdicts over questions, equal categories over facts."""

    answers: Agreement
    matches: Agreement
    categories: Agreement

    def details(self) -> dict[str, Any]:
        """For a step's record: for each comparison its `n` and the share that is equal."""
        compared = {"answers": self.answers, "matches": self.matches, "categories": self.categories}
        return {name: {"n": one.n, "share": one.share} for name, one in compared.items()}


def agreement_with_hf(job: Categorisation, answers: pa.Table, matcher: Matcher, cluster: Cluster) -> EngineAgreement:
    """Compare `answers` (ANSWERS to `job` by another engine) with the answers of `hf` to a sample of its facts on S0."""
    import ray

    facts = FactIndex(job.facts).take(checked_facts(job.facts["fact_id"].to_pylist()))
    ask: Any = ray.remote(**cluster.actor_options())(_answered)
    reference: pa.Table = ray.get(ask.remote(replace(job.engine, engine=Engine.HF), facts, job.shot_sets, job.keys))
    return compare_answers(answers, reference, matcher)


def checked_facts(fact_ids: list[str]) -> list[str]:
    """The sample of facts, which depends only on the ids and not on their order."""
    return random.Random(0).sample(sorted(fact_ids), min(CHECKED_FACTS, len(fact_ids)))


def compare_answers(answers: pa.Table, reference: pa.Table, matcher: Matcher) -> EngineAgreement:
    """Compare two ANSWERS tables on the questions of `reference`; raises ValueError if `answers` lacks one of them."""
    asked, key = frame(reference), ["fact_id", "shot_set", "prompt_index"]
    same = frame(answers).join(asked.select(key), on=key, how="semi").sort(key)
    asked = asked.sort(key)
    column = f"match_{matcher}"
    return EngineAgreement(
        agreement(same["answer"].to_list(), asked["answer"].to_list()),
        agreement(same[column].cast(pl.String).to_list(), asked[column].cast(pl.String).to_list()),
        agreement(_categories(same, matcher), _categories(asked, matcher)),
    )


def _answered(engine: EngineSpec, facts: pa.Table, shot_sets: ShotSets, keys: AnswerKeys) -> pa.Table:
    model, generator = engine.load()
    chunk = {"shot_set": ShotSet.S0.value, "fact_ids": facts["fact_id"].to_pylist()}
    return sorted_answers(answer_chunk(generator, facts, shot_sets, chunk, model.revision, keys))


def _categories(answers: pl.DataFrame, matcher: Matcher) -> list[str]:
    return of_matcher(categorise(answers), matcher)["category"].to_list()
