"""The tables of a report that follow from what single facts and questions came to, whether a study or an earlier report has those."""

import polars as pl

from kp.metrics.benchmark_effects import benchmark_effects
from kp.metrics.effect_summary import reported_effects
from kp.metrics.scores import LEARNING, score_learning
from kp.metrics.shifts import outcome_shifts


def derived_tables(
    outcomes: pl.DataFrame, facts: pl.DataFrame, items: pl.DataFrame, scores: pl.DataFrame, margin: float
) -> dict[str, pl.DataFrame]:
    """`effects`, `shifts`, `scores` and `benchmark_effects` from OUTCOMES, FACTS and BENCHMARK_ITEMS.

    `scores` are the SCORES that need the raw answers; those of what was learned are made here, in place of any that are there. `margin` is
    the harm that counts as small, a share.
    """
    of_answers = scores.filter(~pl.col("measure").is_in([measure.value for measure in LEARNING]))
    return {
        "effects": reported_effects(outcomes, facts, margin),
        "shifts": outcome_shifts(outcomes),
        "scores": pl.concat([of_answers, score_learning(outcomes)]),
        "benchmark_effects": benchmark_effects(items, margin),
    }
