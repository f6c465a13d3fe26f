"""SliCK's fourth category: facts that a model never answers greedily, but sometimes when its answers are sampled.

Gekhman et al. ("Does fine-tuning LLMs on new knowledge encourage hallucinations?", 2024) call these WeaklyKnown. Training on them as if
they were Unknown would count as packed what the model already held. A fact is sampled only if no greedy answer is right according to the
study's matcher, so the category exists for that matcher alone.
"""

import hashlib
from collections.abc import Sequence

import polars as pl

from kp.errors import UserError
from kp.metrics.categories import of_matcher, validate_unique_facts
from kp.schema import SLICK
from kp.vocabulary import Category, Matcher, ShotSet


def sample_seed(seed: int, fact_id: str, shot_set: ShotSet, prompt_index: int) -> int:
    """The 64-bit seed of one question's samples: a hash of the study's seed and the question, independent of what else is asked."""
    question = f"{seed}\n{fact_id}\n{shot_set}\n{prompt_index}"
    return int.from_bytes(hashlib.blake2b(question.encode(), digest_size=8).digest())


def never_right(categories: pl.DataFrame, matcher: Matcher) -> list[str]:
    """The sorted ids of the facts without a right greedy answer on S0; `categories` are the CATEGORIES of one model.

    Raises UserError if they lack the matcher, or have a fact twice.
    """
    return _assigned(categories, matcher).filter(correct=0)["fact_id"].sort().to_list()


def slick_table(categories: pl.DataFrame, samples: pl.DataFrame, matcher: Matcher) -> pl.DataFrame:
    """The SLICK of every fact on S0, sorted by fact, from the CATEGORIES of one model and the SAMPLES of its facts that are `never_right`.

    Raises UserError if other facts were sampled, or if a fact has fewer samples than others.
    """
    assigned = _assigned(categories, matcher)
    right = pl.col(f"match_{matcher}").sum().cast(pl.Int32)
    counted = samples.group_by("fact_id").agg(right.alias("sampled_correct"), pl.len().cast(pl.Int32).alias("sampled"))
    _validate_samples(counted, never_right(categories, matcher))
    joined = assigned.join(counted, on="fact_id", how="left").with_columns(pl.col("sampled_correct", "sampled").fill_null(0))
    weakly = pl.when(pl.col("sampled_correct") > 0).then(pl.lit(Category.WEAKLY_KNOWN.value)).otherwise(pl.col("category"))
    return joined.with_columns(weakly.alias("category")).select(SLICK.names).sort("fact_id")


def _assigned(categories: pl.DataFrame, matcher: Matcher) -> pl.DataFrame:
    assigned = of_matcher(categories, matcher).filter(shot_set=ShotSet.S0.value)
    validate_unique_facts(assigned)
    return assigned


def _validate_samples(counted: pl.DataFrame, expected: Sequence[str]) -> None:
    odd = sorted(set(counted["fact_id"]) ^ set(expected))
    if odd:
        raise UserError(f"samples: fact '{odd[0]}' was sampled or has no right greedy answer, but not both ({len(odd)} such facts)")
    for row in counted.filter(pl.col("sampled") < pl.col("sampled").max()).sort("fact_id").head(1).iter_rows(named=True):
        raise UserError(f"samples: fact '{row['fact_id']}' has {row['sampled']} samples, others have {max(counted['sampled'])}")
