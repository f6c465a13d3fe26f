"""What adapters change in benchmarks: differences over the same questions, with intervals and verdicts.

Base and adapter answer the same questions, so the difference of their scores is a mean over questions. Most of what makes scores vary, that
some questions are harder than others, cancels in it; an error for two independent samples would keep that, and hide harm behind it.
Questions of one group, such as a subject, form a cluster.

A study compares many adapters with one base, so verdicts and p_holm are corrected (Holm) over the trials of each score; intervals are not.
"""

from collections.abc import Iterator

import polars as pl

from kp.errors import UserError
from kp.metrics.intervals import CONFIDENCE, Estimate, estimate_difference
from kp.metrics.paired_tests import holm, mcnemar_p
from kp.metrics.result_schema import BENCHMARK_EFFECTS
from kp.metrics.verdicts import MARGIN, Finding, judge_grid
from kp.vocabulary import BASE

_SCORE = ("task", "metric")
_Row = dict[str, str | float | int | None]


def benchmark_effects(items: pl.DataFrame, margin: float = MARGIN) -> pl.DataFrame:
    """The BENCHMARK_EFFECTS of every trial in BENCHMARK_ITEMS, sorted by task, metric and trial; a lower score is the harm.

    Raises UserError if a trial has other items than the base, if an item occurs twice, or if a score is not from 0 to 1.
    """
    _validate(items)
    rows: list[_Row] = []
    for (task, metric), of_score in items.sort(*_SCORE, "trial_id", "item").group_by(*_SCORE, maintain_order=True):
        rows += [{"task": str(task), "metric": str(metric), **row} for row in _of_score(of_score, margin)]
    return pl.DataFrame(rows, schema=pl.DataFrame(BENCHMARK_EFFECTS.empty_table()).schema)


def _of_score(items: pl.DataFrame, margin: float) -> Iterator[_Row]:
    """One row per trial, from the items of one task and metric."""
    base = items.filter(trial_id=BASE).select("item", "group", pl.col("score").alias("base"))
    adapters = items.filter(pl.col("trial_id") != BASE).select("trial_id", "item", pl.col("score").alias("adapter"))
    pairs = adapters.join(base, on="item", maintain_order="left").partition_by("trial_id", maintain_order=True)
    estimates = [estimate_difference(one["adapter"], one["base"], one["group"]) for one in pairs]
    findings = judge_grid([estimate.negated() for estimate in estimates], margin)
    p_values = [_mcnemar(one) for one in pairs] if items["score"].is_in([0.0, 1.0]).all() else []
    adjusted = holm(p_values)
    for place, (one, estimate, finding) in enumerate(zip(pairs, estimates, findings, strict=True)):
        tested: _Row = {"p_value": p_values[place], "p_holm": adjusted[place]} if p_values else {}
        yield _summary(one, estimate, finding, trials=len(pairs)) | tested


def _summary(pairs: pl.DataFrame, estimate: Estimate, finding: Finding, trials: int) -> _Row:
    return {
        "trial_id": pairs["trial_id"][0],
        "base": float(pairs["base"].to_numpy().mean()),
        "adapter": float(pairs["adapter"].to_numpy().mean()),
        **estimate.columns(),
        "resolvable": finding.harm.resolvable(confidence=1 - (1 - CONFIDENCE) / trials),
        "verdict": finding.verdict.value,
    }


def _mcnemar(pairs: pl.DataFrame) -> float:
    change = pairs["adapter"] - pairs["base"]
    return mcnemar_p(lost=int((change < 0).sum()), won=int((change > 0).sum()))


def _validate(items: pl.DataFrame) -> None:
    key = [*_SCORE, "item"]
    _refuse(items.filter(items.select("trial_id", *key).is_duplicated()), "has more than one score")
    _refuse(items.filter(~pl.col("score").is_between(0, 1)), "has a score that is not from 0 to 1")
    base, adapters = items.filter(trial_id=BASE), items.filter(pl.col("trial_id") != BASE)
    _refuse(adapters.join(base, on=key, how="anti"), "has no score of the base")
    expected = adapters.select("trial_id").unique().join(base.select(key), how="cross")
    _refuse(expected.join(adapters, on=["trial_id", *key], how="anti"), "has none, and the base has one")


def _refuse(items: pl.DataFrame, problem: str) -> None:
    """Raise UserError about the first of these items, if there is one."""
    for row in items.sort(*_SCORE, "trial_id", "item").head(1).iter_rows(named=True):
        raise UserError(f"benchmark_items: item {row['item']} of {row['task']} {row['metric']}, trial '{row['trial_id']}', {problem}")
