"""Which facts of a source a study measures.

The draw is one fixed order per seed, cut after `count`: a larger draw with the same seed contains every smaller one, and the order of rows
in the source does not matter, because each fact's position comes from a hash of the seed and its id.
"""

import hashlib
from collections.abc import Sequence

import polars as pl

from kp.errors import UserError

COUNT_FIELD = "facts.count"  # the field of the count, in messages, unless the caller passes another
BUCKETS = ("head", "torso", "tail", None)


def select_facts(
    facts: pl.DataFrame, relations: Sequence[str], count: int | None, seed: int, count_field: str = COUNT_FIELD
) -> pl.DataFrame:
    """Draw `count` facts (all when None) of `relations` (all when empty), in the row order of `facts`.

    Relations are drawn in turn until they are used up, and so are the popularity buckets within a relation. Raises UserError for a relation
    that `facts` does not have, and, for the config field `count_field`, if the count is above the number of facts.
    """
    pool = _of_relations(facts, relations)
    if count is None:
        return pool
    if count > pool.height:
        raise UserError(f"{count} facts asked for, {pool.height} exist: {count - pool.height} too many", field=count_field)
    return pool.filter(pl.col("fact_id").is_in(_draw_order(pool, seed)[:count]))


def _of_relations(facts: pl.DataFrame, relations: Sequence[str]) -> pl.DataFrame:
    existing = facts["relation"].unique().sort().to_list()
    unknown = [name for name in relations if name not in existing]
    if unknown:
        raise UserError(f"no relation '{unknown[0]}'; there are: {', '.join(existing)}", field="facts.relations")
    return facts.filter(pl.col("relation").is_in(list(relations))) if relations else facts


def _draw_order(pool: pl.DataFrame, seed: int) -> list[str]:
    """All fact ids in the order in which they are drawn."""
    ordered = (
        pool.select("fact_id", "relation", "popularity")
        .with_columns(
            pl.Series("random_key", [random_key(seed, identity) for identity in pool["fact_id"]], dtype=pl.String),
            pl.Series("turn", _turns(pool, seed), dtype=pl.Int64),
            pl.Series("relation_key", [random_key(seed, name) for name in pool["relation"]], dtype=pl.String),
        )
        .sort("random_key", "fact_id")
        .with_columns(pl.int_range(pl.len()).over("relation", "popularity").alias("round_in_bucket"))
        .sort("round_in_bucket", "turn")
        .with_columns(pl.int_range(pl.len()).over("relation").alias("round"))
        .sort("round", "relation_key")
    )
    return ordered["fact_id"].to_list()


def _turns(pool: pl.DataFrame, seed: int) -> list[int]:
    """Each bucket's turn within a round; which bucket starts differs between relations, or small draws would consist of heads."""
    opening = {name: int(random_key(seed, f"opening {name}"), 16) for name in pool["relation"].unique()}
    known = len(BUCKETS) - 1
    turns = []
    for relation, bucket in zip(pool["relation"], pool["popularity"], strict=True):
        place = BUCKETS.index(bucket) if bucket in BUCKETS else known
        turns.append((place + opening[relation]) % known if place < known else known)
    return turns


def random_key(seed: int, text: str) -> str:
    """The key of `text` in a draw with this seed: sorting by it shuffles, in the same way in every process and for any row order."""
    return hashlib.sha256(f"{seed} {text}".encode()).hexdigest()
