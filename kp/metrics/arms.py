"""Two arms of a search compared fact by fact, on facts that no run of either trained on, with the conditions under which that is fair.

Runs of the same setting and seed are paired; they drew the same Unknown facts. The base drops out of every difference, because both arms
are compared with it on the same facts. Arms that took different numbers of steps, or whose runs did not end alike, differ in more than
their mix: `compare_arms` compares them all the same and returns what does not hold, so that a report can say it.

Several settings are a choice and no sample, so the difference is a mean over them and its interval is about these settings; seeds are a
sample, and with several of them the interval also covers other seeds.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import polars as pl

from kp.errors import UserError
from kp.metrics.effect_summary import fact_clusters
from kp.metrics.effects import Effect, on_subset, require_effect
from kp.metrics.intervals import Estimate, estimate_mean
from kp.vocabulary import FactSubset

_SAME_RATE = 0.01  # of the larger peak rate: final learning rates this close count as equal


class Condition(StrEnum):
    """What a fair comparison of arms needs."""

    EQUAL_STEPS = "equal_steps"  # optimiser steps
    EQUAL_FINAL_LEARNING_RATE = "equal_final_learning_rate"  # to within 1% of the peak rate
    EQUAL_END = "equal_end"  # how the runs ended
    EQUAL_PAIRS = "equal_pairs"  # the arms have runs of the same settings and seeds


@dataclass(frozen=True)
class ArmRun:
    """One trial of an arm, as far as a comparison depends on it."""

    trial_id: str
    pair: str  # setting and seed: what it has in common with one run of another arm
    seed: int
    steps: int  # of the optimiser, in all
    learning_rate: float  # at its peak
    final_learning_rate: float  # after the last step
    end: str  # such as completed, stopped at accuracy, stopped by the scheduler
    exposures: float  # times that each Unknown fact was trained on


_STATED: dict[Condition, Callable[[ArmRun], str | float]] = {
    Condition.EQUAL_STEPS: lambda run: run.steps,
    Condition.EQUAL_FINAL_LEARNING_RATE: lambda run: run.final_learning_rate,
    Condition.EQUAL_END: lambda run: run.end,
}


@dataclass(frozen=True)
class Unmet:
    """A condition that does not hold, with what each run has, in the order of the pairs."""

    condition: Condition
    first: tuple[str | float, ...]
    second: tuple[str | float, ...]


@dataclass(frozen=True)
class ArmComparison:
    """How much an effect of the first arm exceeds that of the second."""

    difference: Estimate | None  # first - second, a mean over facts and pairs of runs; None if no fact is common
    facts: int  # common ones
    pairs: tuple[tuple[str, str], ...]  # trial ids; several runs of both arms are averaged instead if they have no pair in common
    exposures: tuple[float, float]  # a fact, mean over the runs of each arm
    unmet: tuple[Unmet, ...]


def compare_arms(
    effects: pl.DataFrame, effect: Effect, first: Sequence[ArmRun], second: Sequence[ArmRun], subset: FactSubset = FactSubset.CONTROL
) -> ArmComparison:
    """Compare two arms on the facts that belong to `subset` in every run of both, from FACT_EFFECTS.

    Runs without a partner in the other arm are left out, unless none has one: then each fact's values are averaged over the runs of an arm,
    and the interval covers the facts alone. Raises UserError if an arm is empty or has two runs of one setting and seed, or if a run was
    not measured on what the effect needs.
    """
    for name, runs in (("first", first), ("second", second)):
        _validate(name, runs)
    of_first, of_second = {run.pair: run for run in first}, {run.pair: run for run in second}
    common = sorted(of_first.keys() & of_second.keys())
    ones, others = ([of_first[pair] for pair in common], [of_second[pair] for pair in common]) if common else (list(first), list(second))
    values = _common_values(effects, effect, ones, others, subset)
    paired = _pairs(values, ones, others) if common else _averages(values, ones, others)
    compared = list(zip(ones, others, strict=True)) if common else list(itertools.product(ones, others))
    unmet = [_pairs_unmet(first, second), *_conditions_unmet(ones, others, compared)]
    return ArmComparison(
        difference=_estimate(paired),
        facts=paired["fact_id"].n_unique(),
        pairs=tuple((one.trial_id, other.trial_id) for one, other in zip(ones, others, strict=True)) if common else (),
        exposures=(_mean_exposures(ones), _mean_exposures(others)),
        unmet=tuple(found for found in unmet if found),
    )


def _common_values(effects: pl.DataFrame, effect: Effect, ones: list[ArmRun], others: list[ArmRun], subset: FactSubset) -> pl.DataFrame:
    """The effect's FACT_EFFECTS of these runs, on the facts that all of them have in the subset."""
    trials = sorted({run.trial_id for run in (*ones, *others)})
    among = effects.filter(pl.col("trial_id").is_in(trials))
    missing = sorted(set(trials) - set(among["trial_id"].unique()))
    if missing:
        raise UserError(f"effects: no rows of trial '{missing[0]}'")
    chosen = on_subset(require_effect(among, effect), subset)
    return chosen.filter(pl.col("trial_id").n_unique().over("fact_id") == len(trials))


def _pairs(values: pl.DataFrame, ones: list[ArmRun], others: list[ArmRun]) -> pl.DataFrame:
    """A row per fact and pair of runs: fact_id, relation, object, run (its seed), difference."""
    tables = []
    for one, other in zip(ones, others, strict=True):
        left = values.filter(pl.col("trial_id") == one.trial_id).select("fact_id", "relation", "object", "value")
        right = values.filter(pl.col("trial_id") == other.trial_id).select("fact_id", pl.col("value").alias("other"))
        tables.append(left.join(right, on="fact_id").with_columns(pl.lit(one.seed).alias("run")))
    return _differences(pl.concat(tables))


def _averages(values: pl.DataFrame, ones: list[ArmRun], others: list[ArmRun]) -> pl.DataFrame:
    """The same with one row per fact, from each arm's mean over its runs."""
    of_first = pl.col("trial_id").is_in([run.trial_id for run in ones])
    of_second = pl.col("trial_id").is_in([run.trial_id for run in others])
    means = values.group_by("fact_id", "relation", "object").agg(
        pl.col("value").filter(of_first).mean(), pl.col("value").filter(of_second).mean().alias("other")
    )
    return _differences(means.with_columns(pl.lit(0).alias("run")))


def _differences(values: pl.DataFrame) -> pl.DataFrame:
    difference = (pl.col("value") - pl.col("other")).alias("difference")
    return values.select("fact_id", "relation", "object", "run", difference).sort("run", "fact_id", "difference")


def _estimate(paired: pl.DataFrame) -> Estimate | None:
    if paired.is_empty():
        return None
    return estimate_mean(paired["difference"].to_numpy(), fact_clusters(paired), paired["run"].to_numpy())


def _conditions_unmet(ones: Sequence[ArmRun], others: Sequence[ArmRun], compared: Sequence[tuple[ArmRun, ArmRun]]) -> list[Unmet | None]:
    def same_rate(one: ArmRun, other: ArmRun) -> bool:
        tolerance = _SAME_RATE * max(one.learning_rate, other.learning_rate)
        return math.isclose(one.final_learning_rate, other.final_learning_rate, rel_tol=0.0, abs_tol=tolerance)

    held = {
        Condition.EQUAL_STEPS: all(one.steps == other.steps for one, other in compared),
        Condition.EQUAL_FINAL_LEARNING_RATE: all(same_rate(one, other) for one, other in compared),
        Condition.EQUAL_END: all(one.end == other.end for one, other in compared),
    }
    return [None if held[condition] else _unmet(condition, ones, others) for condition in held]


def _unmet(condition: Condition, ones: Sequence[ArmRun], others: Sequence[ArmRun]) -> Unmet:
    """The condition with what each run has."""
    return Unmet(condition, tuple(_STATED[condition](run) for run in ones), tuple(_STATED[condition](run) for run in others))


def _pairs_unmet(first: Sequence[ArmRun], second: Sequence[ArmRun]) -> Unmet | None:
    pairs = tuple(sorted(run.pair for run in first)), tuple(sorted(run.pair for run in second))
    return None if pairs[0] == pairs[1] else Unmet(Condition.EQUAL_PAIRS, *pairs)


def _mean_exposures(runs: Sequence[ArmRun]) -> float:
    return sum(run.exposures for run in runs) / len(runs)


def _validate(name: str, runs: Sequence[ArmRun]) -> None:
    pairs = [run.pair for run in runs]
    if not pairs:
        raise UserError(f"the {name} arm has no runs")
    repeated = sorted(pair for pair in set(pairs) if pairs.count(pair) > 1)
    if repeated:
        raise UserError(f"the {name} arm has more than one run of {repeated[0]}: choose one of each")
