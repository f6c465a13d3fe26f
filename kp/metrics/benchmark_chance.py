"""Benchmarks on which the base does no better than guessing: what an adapter does to such a score says nothing of harm.

A base is at chance if its score is not shown to be above that of guessing: if the lower end of its 95% interval is not (Wilson's for a
share of right answers, otherwise two standard errors). So of bases that guess, 97.5% are found out.
"""

import polars as pl

from kp.metrics.intervals import wilson
from kp.metrics.statistics import NORMAL_95
from kp.vocabulary import BASE


def at_chance(benchmarks: pl.DataFrame) -> frozenset[tuple[str, str]]:
    """The task and metric of each score in BENCHMARKS on which the base is at chance."""
    of_base = benchmarks.filter(trial_id=BASE).drop_nulls("chance")
    return frozenset((row["task"], row["metric"]) for row in of_base.iter_rows(named=True) if _lower(row) <= row["chance"])


def _lower(row: dict[str, float]) -> float:
    right = row["value"] * row["n"]
    limits = wilson(right, row["n"]) if abs(right - round(right)) < 1e-6 else None
    return limits[0] if limits else row["value"] - NORMAL_95 * (row["standard_error"] or 0.0)
