"""Measured facts in two splits: a winner is chosen on dev and reported on test, which had no part in the choice.

A fact's split comes from a hash of the seed and its id, as the order of a draw does, but from a different hash: otherwise the facts that a
trial draws first would all be in dev.
"""

import math
from fractions import Fraction

import polars as pl

from kp.errors import UserError
from kp.store.draws import draw_key
from kp.vocabulary import Split

FIELD = "evaluate.dev_share"  # named in messages


def split_facts(facts: pl.DataFrame, dev_share: float, seed: int) -> pl.DataFrame:
    """fact_id and split of every fact of FACTS, in their order: `dev_share` of all facts are dev, as nearly as possible in each relation.

    Where a relation's share is not a whole number, the largest remainders are rounded up until the total is met. Raises UserError if either
    split would be empty.
    """
    quota = _quotas(facts, dev_share, seed)
    place = (
        facts.select("fact_id", "relation")
        .with_columns(pl.Series("key", [draw_key(seed, f"split {fact_id}") for fact_id in facts["fact_id"]], dtype=pl.String))
        .with_columns(pl.col("key").rank("ordinal").over("relation").alias("place"))
    )
    allowed = pl.col("relation").replace_strict(quota, return_dtype=pl.Int64)
    split = pl.when(pl.col("place") <= allowed).then(pl.lit(Split.DEV.value)).otherwise(pl.lit(Split.TEST.value))
    return place.select("fact_id", split.alias("split"))


def _quotas(facts: pl.DataFrame, dev_share: float, seed: int) -> dict[str, int]:
    """The number of dev facts of each relation: the largest remainders are rounded up (Hamilton's method)."""
    share = Fraction(str(dev_share))  # the share as it is written: 0.3 of 10 facts are 3
    due = {relation: share * count for relation, count in facts["relation"].value_counts().iter_rows()}
    total = math.floor(share * facts.height + Fraction(1, 2))
    if not 0 < total < facts.height:
        raise UserError(f"{dev_share:g} of {facts.height} facts leaves none for {Split.TEST if total else Split.DEV}", field=FIELD)
    quota = {relation: math.floor(count) for relation, count in due.items()}
    by_remainder = sorted(due, key=lambda relation: (quota[relation] - due[relation], draw_key(seed, f"split {relation}")))
    for relation in by_remainder[: total - sum(quota.values())]:
        quota[relation] += 1
    return quota
