"""The base model compared with itself: what would count as harm and gain although nothing was trained.

Each further shot set measures the same model again, so S1 compared with each of them is one draw of the noise. The standard error of one
draw covers only the facts; several draws show how far the noise floor itself moves with the few-shot examples.
"""

import polars as pl

from kp.errors import UserError
from kp.metrics.categories import of_matcher
from kp.metrics.inspection_schema import NOISE_SHIFTS, NOISE_SPREAD, NOISE_TRANSITIONS
from kp.metrics.shifts import noise_table, transitions
from kp.vocabulary import Matcher, ShotSet

_NOT_AGAIN = (ShotSet.S0.value, ShotSet.S1.value)  # S0 assigns the categories, S1 is the first measurement


def noise_transitions(categories: pl.DataFrame, matcher: Matcher) -> pl.DataFrame:
    """The NOISE_TRANSITIONS of the base's CATEGORIES: 3x3 counts from S1 to each later shot set; raises UserError like `noise_shifts`."""
    tables = [
        _pair(matcher, shot_set, transitions(before, after).rename({"count": "facts"}))
        for shot_set, before, after in _draws(categories, matcher)
    ]
    return pl.concat(tables).select(NOISE_TRANSITIONS.names)


def noise_shifts(categories: pl.DataFrame, matcher: Matcher) -> pl.DataFrame:
    """The NOISE_SHIFTS of the base's CATEGORIES: the shifts from S1 to each later shot set, over all facts and at risk.

    Raises UserError if S1 or a later shot set is missing, or if two shot sets hold different facts.
    """
    tables = [_pair(matcher, shot_set, noise_table(before, after)) for shot_set, before, after in _draws(categories, matcher)]
    return pl.concat(tables).select(NOISE_SHIFTS.names)


def noise_spread(shifts: pl.DataFrame) -> pl.DataFrame:
    """The NOISE_SPREAD over the draws of NOISE_SHIFTS: mean, standard deviation (n - 1), minimum and maximum rate of each shift."""
    grouped = shifts.group_by("matcher", "view", "shift", maintain_order=True).agg(
        pl.len().cast(pl.Int64).alias("draws"),
        pl.col("n").first(),
        pl.col("count").mean().alias("mean_count"),
        pl.col("rate").mean().alias("mean"),
        pl.col("rate").std().alias("standard_deviation"),
        pl.col("rate").min().alias("minimum"),
        pl.col("rate").max().alias("maximum"),
    )
    return grouped.select(NOISE_SPREAD.names)


def _draws(categories: pl.DataFrame, matcher: Matcher) -> list[tuple[str, pl.DataFrame, pl.DataFrame]]:
    """Each later shot set in order, with the categories on S1 and on that set."""
    judged = of_matcher(categories, matcher)
    before = judged.filter(shot_set=ShotSet.S1.value)
    later = sorted(set(judged["shot_set"]) - set(_NOT_AGAIN), key=lambda name: (len(name), name))
    if before.is_empty() or not later:
        raise UserError(f"categories: column 'shot_set': {ShotSet.S1} and at least one later shot set are needed to see the noise")
    return [(name, before, judged.filter(shot_set=name)) for name in later]


def _pair(matcher: Matcher, second: str, table: pl.DataFrame) -> pl.DataFrame:
    return table.with_columns(
        pl.lit(matcher.value).alias("matcher"), pl.lit(ShotSet.S1.value).alias("first"), pl.lit(second).alias("second")
    )
