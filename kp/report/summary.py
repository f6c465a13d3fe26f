"""One row a trial: what went in, how it ended, what it packed and what it cost.

The report's first table, its opening sentences, its picture and the terminal's closing table all read this frame, so that they cannot
disagree. Rates are shares (0 to 1) and differences are differences of shares; nothing is rounded here.
"""

import polars as pl

from kp.report.tables import ReportTables
from kp.vocabulary import BASE, ShiftView

MMLU_DEV = "kp_mmlu_dev"
MISCONCEPTIONS = "kp_misconceptions"
BENCHMARK_COLUMNS = {"mmlu_dev": (MMLU_DEV, "acc"), "mc1": (MISCONCEPTIONS, "mc1"), "mc2": (MISCONCEPTIONS, "mc2")}
"""Prefix of the summary's columns -> task and metric of the benchmarks table."""


def arm_label(highly_known: int, paraphrases: int) -> str:
    """The data mix in words: `Unknown only`, `+1 HighlyKnown`, `+10 paraphrases`."""
    parts = []
    if highly_known:
        parts.append(f"+{highly_known} HighlyKnown")
    if paraphrases:
        parts.append(f"+{paraphrases} paraphrase{'s' if paraphrases > 1 else ''}")
    return " ".join(parts) or "Unknown only"


def summary_table(tables: ReportTables) -> pl.DataFrame:
    """One row a trial, ordered by mix, N, rank, learning rate and seed; what was not measured is null.

    Columns: `trial_id`, `label` (short, unique), `arm`, the knobs, `status`, `cause`, `epochs`, `unknown_accuracy`, `reliability`,
    `facts_packed` (reliability x N), `positive_excess`, `negative_excess`, `negative_at_risk`, `untrained_lost` of `untrained_n` facts,
    `refusal_rate`, `unique_answers`, `mmlu_dev`, `mc1`, `mc2`; `*_delta` is the difference to the base, `*_se` a standard error.
    """
    frame = _labelled(tables.trials)
    frame = _join(frame, _score(tables.scores, "reliability"))
    frame = frame.with_columns(
        facts_packed=pl.col("reliability") * pl.col("unknown"), facts_packed_se=pl.col("reliability_se") * pl.col("unknown")
    )
    for name, view, shift in (
        ("positive_excess", ShiftView.EXCESS, "positive"),
        ("negative_excess", ShiftView.EXCESS, "negative"),
        ("negative_at_risk", ShiftView.AT_RISK, "negative"),
    ):
        frame = _join(frame, _shift(tables.shifts, view, shift).select("trial_id", pl.col("rate").alias(name), _error(name)))
    excess = _shift(tables.shifts, ShiftView.EXCESS, "negative").select("trial_id", pl.col("n").alias("measured_n"))
    untrained = _shift(tables.shifts, ShiftView.UNTRAINED, "negative")
    frame = _join(frame, excess)
    frame = _join(frame, untrained.select("trial_id", pl.col("count").alias("untrained_lost"), pl.col("n").alias("untrained_n")))
    frame = _join(frame, _against_base(_score(tables.scores, "refusal_rate"), "refusal_rate"))
    frame = _join(frame, _score(tables.scores, "unique_answers").drop("unique_answers_se"))
    for name, (task, metric) in BENCHMARK_COLUMNS.items():
        frame = _join(frame, _against_base(_benchmark(tables.benchmarks, task, metric, name), name))
    return frame.sort("paraphrases", "highly_known", "unknown", "rank", "learning_rate", "seed", "trial_id")


def _labelled(trials: pl.DataFrame) -> pl.DataFrame:
    columns = ["trial_id", "unknown", "highly_known", "paraphrases", "rank", "learning_rate", "seed"]
    columns += ["status", "cause", "epochs", "max_epochs", "unknown_accuracy", "train_loss"]
    varied = [(key, name) for key, name in (("r", "rank"), ("lr", "learning_rate"), ("seed", "seed")) if trials[name].n_unique() > 1]
    rows = list(trials.select(columns).iter_rows(named=True))
    arms = [arm_label(row["highly_known"], row["paraphrases"]) for row in rows]
    labels = [
        f"N={row['unknown']} · " + _short(arm) + "".join(f" {key}={row[name]:g}" for key, name in varied)
        for row, arm in zip(rows, arms, strict=True)
    ]
    return (
        trials.select(columns)
        .with_columns(pl.Series("label", labels, pl.String), pl.Series("arm", arms, pl.String))
        .select("trial_id", "label", "arm", *columns[1:])
    )


def _short(arm: str) -> str:
    return arm.replace("Unknown only", "UK only").replace("HighlyKnown", "HK").replace("paraphrases", "P").replace("paraphrase", "P")


def _join(frame: pl.DataFrame, other: pl.DataFrame) -> pl.DataFrame:
    return frame.join(other, on="trial_id", how="left", validate="1:1", maintain_order="left")


def _error(name: str) -> pl.Expr:
    return pl.col("standard_error").alias(f"{name}_se")


def _score(scores: pl.DataFrame, measure: str) -> pl.DataFrame:
    return scores.filter(pl.col("measure") == measure).select("trial_id", pl.col("value").alias(measure), _error(measure))


def _shift(shifts: pl.DataFrame, view: ShiftView, shift: str) -> pl.DataFrame:
    return shifts.filter((pl.col("view") == view) & (pl.col("shift") == shift))


def _benchmark(benchmarks: pl.DataFrame, task: str, metric: str, name: str) -> pl.DataFrame:
    rows = benchmarks.filter((pl.col("task") == task) & (pl.col("metric") == metric))
    return rows.select("trial_id", pl.col("value").alias(name), _error(name))


def _against_base(measured: pl.DataFrame, name: str) -> pl.DataFrame:
    """Adds `*_delta` and its standard error, as of two independent samples: wider than of the paired ones these are."""
    base = measured.filter(pl.col("trial_id") == BASE).row(0, named=True) if BASE in measured["trial_id"] else {}
    value, error = (pl.lit(base.get(column), pl.Float64) for column in (name, f"{name}_se"))
    return measured.with_columns(
        (pl.col(name) - value).alias(f"{name}_delta"), ((pl.col(f"{name}_se") ** 2 + error**2).sqrt()).alias(f"{name}_delta_se")
    )
