"""The parts of the studied facts: a pool from which trials draw, and control facts, which no trial trains on or replays.

Harm is told of control facts, because all trials have the same ones and none of them rehearses any. They are drawn by relation and by the
base's category on S0, in two halves: winners are chosen on dev facts and told on test facts, which had no part in the choice. Facts that
the base knows need controls most, since only these can be lost; a few Unknown ones show what rises without being taught.

A fact's part comes from a hash of the seed and its id, as the order of a draw does, but from a different hash: otherwise the facts that a
trial draws first would all be in one part.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import polars as pl

from kp.config.study import control_count
from kp.metrics.categories import of_matcher, validate_unique_facts
from kp.metrics.effect_summary import fact_clusters
from kp.metrics.intervals import estimate_mean
from kp.schema import PARTS
from kp.store.draws import draw_key
from kp.vocabulary import KNOWN_CATEGORIES, Category, Matcher, Part, ShotSet


@dataclass(frozen=True)
class ControlShares:
    """Shares of the facts of a relation and category that become control facts."""

    known: float  # of the facts that the base got right at least once, greedy or sampled
    unknown: float

    def of(self, category: Category) -> float:
        """The share of this category's facts."""
        return self.unknown if category is Category.UNKNOWN else self.known


def draw_parts(facts: pl.DataFrame, categories: pl.DataFrame, shares: ControlShares, seed: int) -> pl.DataFrame:
    """The PARTS of FACTS, in their order, from the base's CATEGORIES on S0 by one matcher, or its SLICK.

    Of each category, the share is met as nearly as possible in every relation: where it is not a whole number, the largest remainders are
    rounded up until the category's total is met. The halves differ by at most one fact in each relation and category.
    """
    validate_unique_facts(categories)
    joined = facts.select("fact_id", "relation").join(
        categories.select("fact_id", "category"), on="fact_id", how="left", maintain_order="left", validate="1:1"
    )
    parts: dict[str, Part] = {}
    for category in Category:
        of_category = joined.filter(category=category.value)
        parts |= _control(of_category, shares.of(category), seed)
    named = [parts.get(fact_id, Part.POOL).value for fact_id in joined["fact_id"]]
    return joined.select("fact_id", pl.Series("part", named, dtype=pl.String)).select(PARTS.names)


def _control(facts: pl.DataFrame, share: float, seed: int) -> dict[str, Part]:
    """The control facts of one category with their halves."""
    quota = _quotas(facts, share, seed)
    by_relation: dict[str, list[str]] = {relation: [] for relation in sorted(quota)}
    for fact_id, relation in facts.select("fact_id", "relation").rows():
        by_relation[relation].append(fact_id)
    found: dict[str, Part] = {}
    for relation, ids in by_relation.items():
        for fact_id in sorted(ids, key=lambda one: draw_key(seed, f"part {one}"))[: quota[relation]]:
            found[fact_id] = Part.CONTROL_DEV if len(found) % 2 else Part.CONTROL_TEST  # in turn, over all relations
    return found


def _quotas(facts: pl.DataFrame, share: float, seed: int) -> dict[str, int]:
    """The number of control facts of each relation: the largest remainders are rounded up (Hamilton's method)."""
    due = {relation: Fraction(str(share)) * count for relation, count in facts["relation"].value_counts().iter_rows()}
    quota = {relation: math.floor(count) for relation, count in due.items()}
    by_remainder = sorted(due, key=lambda relation: (quota[relation] - due[relation], draw_key(seed, f"part {relation}")))
    for relation in by_remainder[: control_count(facts.height, share) - sum(quota.values())]:
        quota[relation] += 1
    return quota


def control_ids(parts: pl.DataFrame) -> list[str]:
    """Ids of the facts that no trial may train on or replay, of both halves."""
    return parts.filter(pl.col("part") != Part.POOL.value)["fact_id"].to_list()


def control_counts(parts: pl.DataFrame, categories: pl.DataFrame) -> dict[str, int]:
    """Control facts of each category; both halves together, every category named."""
    found = dict(categories.filter(pl.col("fact_id").is_in(control_ids(parts)))["category"].value_counts().iter_rows())
    return {category.value: found.get(category.value, 0) for category in Category}


def resolvable_change(parts: pl.DataFrame, facts: pl.DataFrame, categories: pl.DataFrame, matcher: Matcher) -> Mapping[Part, float | None]:
    """The smallest net change of known control facts that a study could resolve with 80% power, in each half; None where none is.

    `categories` are the base's CATEGORIES on S0, S1 and S2. An adapter is taken to change answers as much as other prompts change the
    base's from S1 to S2; a harmful one changes more, and then only a larger change is resolved.
    """
    judged = of_matcher(categories, matcher)
    origin, one, other = (judged.filter(shot_set=shot_set.value) for shot_set in (ShotSet.S0, ShotSet.S1, ShotSet.S2))
    known = origin.filter(pl.col("category").is_in([category.value for category in KNOWN_CATEGORIES]))
    moved = (
        parts.join(known.select("fact_id"), on="fact_id", how="semi")
        .join(facts.select("fact_id", "relation", "object"), on="fact_id")
        .join(one.select("fact_id", (pl.col("correct") / pl.col("asked")).alias("one")), on="fact_id")
        .join(other.select("fact_id", (pl.col("correct") / pl.col("asked")).alias("other")), on="fact_id")
        .sort("fact_id")
    )
    return {half: _resolvable(moved.filter(part=half.value)) for half in (Part.CONTROL_DEV, Part.CONTROL_TEST)}


def _resolvable(moved: pl.DataFrame) -> float | None:
    if moved.is_empty():
        return None
    differences = (moved["other"] - moved["one"]).to_numpy()
    return estimate_mean(differences, fact_clusters(moved)).resolvable()
