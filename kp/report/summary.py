"""One row per trial: its settings, how it ended, what it packed and what it cost.

The report's first table, its opening sentences, its picture and the closing table on the terminal all read this frame, so they cannot
disagree. Rates are shares (0 to 1), differences are differences of shares, and nothing is rounded here.
"""

import polars as pl

from kp.benchmarks.registry import BENCHMARKS
from kp.metrics.refusal_changes import refusal_changes
from kp.report.labels import KNOBS, arm_label, trial_labels
from kp.report.tables import ReportTables
from kp.vocabulary import EffectKind, FactSubset, ShiftView, Split

PACKED_AND_LOST = [
    *("reliability", "reliability_se", "facts_packed", "facts_packed_se", "negative_at_risk", "negative_at_risk_se"),
    *("untrained_lost", "untrained_n"),
]
"""The columns that are computed over facts; a study with splits has them for each split."""


def summary_table(tables: ReportTables) -> pl.DataFrame:
    """One row per trial, ordered by mix, N, rank, learning rate, seed and the other knobs; what was not measured is null.

    Columns: `trial_id`, `label` (short, unique), `arm`, the knobs, `status`, `cause`, `epochs`, `unknown_accuracy`, `reliability`,
    `facts_packed` (reliability x N), `negative_at_risk`, `untrained_lost` of `untrained_n` facts, `knowledge_loss` (see `_loss`),
    `generality`, `refusal_rate`, `unique_answers`, one for each score of a benchmark; `*_delta` is the difference to the base over the
    same prompts or questions, `*_se` a standard error, `*_lower` and `*_upper` a 95% interval; `*_p_holm`, `*_verdict` and `*_resolvable`
    are corrected over all trials.
    """
    frame = _packed_and_lost(_labelled(tables.trials), tables.shifts, tables.scores)
    frame = _join(frame, _loss(tables.effects))
    frame = _join(frame, _score(tables.scores, "generality"))
    frame = _join(frame, _score(tables.scores, "refusal_rate"))
    frame = _join(frame, _delta(refusal_changes(tables.outcomes, tables.facts), "refusal_rate", "p_holm"))
    frame = _join(frame, _score(tables.scores, "unique_answers").drop("unique_answers_se"))
    for benchmark in BENCHMARKS:
        for score in benchmark.scores:
            frame = _join(frame, _benchmark(tables.benchmarks, benchmark.task, score.metric, score.column))
            effects = tables.benchmark_effects.filter(task=benchmark.task, metric=score.metric)
            frame = _join(frame, _delta(effects, score.column, "resolvable", "verdict"))
    order = ["paraphrases", "highly_known", "maybe_known", "unknown", "rank", "learning_rate", "seed", *KNOBS, "trial_id"]
    return frame.sort(order)


def summary_of_split(tables: ReportTables, summary: pl.DataFrame, split: Split) -> pl.DataFrame:
    """The summary with `PACKED_AND_LOST` over the facts of one split; raises ValueError if the study has no splits."""
    if tables.split_shifts is None or tables.split_scores is None:
        raise ValueError("the study's facts are not split")
    of_split = pl.col("split") == split
    bare = summary.drop(PACKED_AND_LOST)
    return _packed_and_lost(bare, tables.split_shifts.filter(of_split).drop("split"), tables.split_scores.filter(of_split).drop("split"))


def _packed_and_lost(frame: pl.DataFrame, shifts: pl.DataFrame, scores: pl.DataFrame) -> pl.DataFrame:
    """`frame` with the columns `PACKED_AND_LOST`."""
    frame = _join(frame, _score(scores, "reliability"))
    frame = frame.with_columns(
        facts_packed=pl.col("reliability") * pl.col("unknown"), facts_packed_se=pl.col("reliability_se") * pl.col("unknown")
    )
    at_risk = _shift(shifts, ShiftView.AT_RISK, "negative")
    frame = _join(frame, at_risk.select("trial_id", pl.col("rate").alias("negative_at_risk"), _error("negative_at_risk")))
    untrained = _shift(shifts, ShiftView.UNTRAINED, "negative")
    return _join(frame, untrained.select("trial_id", pl.col("count").alias("untrained_lost"), pl.col("n").alias("untrained_n")))


def _loss(effects: pl.DataFrame) -> pl.DataFrame:
    """The loss of knowledge: minus the net change of the facts that the base knew on S0 and the trial did not train on."""
    net = effects.filter(subset=FactSubset.UNTRAINED.value, at_risk=True, effect=EffectKind.NET_CHANGE.value)
    return net.select(
        "trial_id",
        (-pl.col("value")).alias("knowledge_loss"),
        pl.col("standard_error").alias("knowledge_loss_se"),
        (-pl.col("upper")).alias("knowledge_loss_lower"),
        (-pl.col("lower")).alias("knowledge_loss_upper"),
        pl.col("n").alias("knowledge_loss_n"),
        pl.col("verdict").alias("knowledge_loss_verdict"),
    )


def _labelled(trials: pl.DataFrame) -> pl.DataFrame:
    named = trials.with_columns(pl.col("target_modules").list.join(" "))
    arms = [arm_label(*mix) for mix in named.select("highly_known", "maybe_known", "paraphrases").iter_rows()]
    columns = ["unknown", "highly_known", "maybe_known", "paraphrases", "rank", "learning_rate", "seed", *KNOBS]
    columns += ["status", "cause", "epochs", "max_epochs", "unknown_accuracy", "train_loss"]
    return named.select("trial_id", pl.Series("label", trial_labels(named), pl.String), pl.Series("arm", arms, pl.String), *columns)


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


def _delta(effects: pl.DataFrame, name: str, *more: str) -> pl.DataFrame:
    """The columns `*_delta` of a score from its paired differences to the base, with those in `more`."""
    columns = {"value": "", "standard_error": "_se", "lower": "_lower", "upper": "_upper"} | {column: f"_{column}" for column in more}
    return effects.select("trial_id", *(pl.col(column).alias(f"{name}_delta{ending}") for column, ending in columns.items()))
