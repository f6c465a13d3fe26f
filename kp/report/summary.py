"""One row per trial: its settings, how it ended, what it packed and what it cost.

The report's first table, its opening sentences, its picture and the closing table on the terminal all read this frame, so they cannot
disagree. Rates are shares (0 to 1), differences are differences of shares, and nothing is rounded here.
"""

import polars as pl

from kp.benchmarks.registry import SCORES, Benchmark, Score
from kp.metrics.drift import NEUTRAL
from kp.metrics.refusal_changes import refusal_changes
from kp.report.labels import KNOBS, trial_labels
from kp.report.tables import ReportTables
from kp.vocabulary import EffectKind, FactSubset


def summary_table(tables: ReportTables) -> pl.DataFrame:
    """One row per trial, ordered by mix, N, rank, learning rate, seed and the other knobs; what was not measured is null.

    Columns: `trial_id`, `label` (short, unique), `arm`, the knobs, `status`, `cause`, `epochs`, `unknown_accuracy`, `reliability` on S1 and
    `reliability_s2`, `facts_packed` (reliability x N), `knowledge_loss` (see `_loss`) and `dev_loss`, `generality`, `refusal_rate`,
    `unique_answers`, one for each measured score of kp's own benchmarks, and `drift` (KL a token on neutral text, in nats) if the study
    measures it; `*_delta` is the difference to the base over the same prompts or questions, `*_se` a standard error, `*_lower` and
    `*_upper` a 95% interval; `*_p_holm`, `*_verdict` and `*_resolvable` are corrected over all trials.
    """
    frame = _join(_labelled(tables.trials), _score(tables.scores, "reliability"))
    frame = frame.with_columns(
        facts_packed=pl.col("reliability") * pl.col("unknown"), facts_packed_se=pl.col("reliability_se") * pl.col("unknown")
    )
    frame = _join(frame, _score(tables.scores, "reliability_s2"))
    frame = _join(frame, _loss(tables.effects, harm_subset(tables.effects)))
    frame = _join(frame, _loss(tables.effects, choosing_subset(tables.effects)).select("trial_id", dev_loss="knowledge_loss"))
    frame = _join(frame, _score(tables.scores, "generality"))
    frame = _join(frame, _score(tables.scores, "refusal_rate"))
    frame = _join(frame, _delta(refusal_changes(tables.outcomes, tables.facts), "refusal_rate", "p_holm"))
    frame = _join(frame, _score(tables.scores, "unique_answers").drop("unique_answers_se"))
    for benchmark, score in measured_scores(tables.benchmarks):
        frame = _join(frame, _benchmark(tables.benchmarks, benchmark.task, score.metric, score.column))
        effects = tables.benchmark_effects.filter(task=benchmark.task, metric=score.metric)
        frame = _join(frame, _delta(effects, score.column, "resolvable", "verdict"))
    if tables.drift_summary is not None:
        frame = _join(frame, _drift(tables.drift_summary))
    order = ["paraphrases", "highly_known", "maybe_known", "unknown", "rank", "learning_rate", "seed", *KNOBS, "trial_id"]
    return frame.sort(order)


def measured_scores(benchmarks: pl.DataFrame) -> list[tuple[Benchmark, Score]]:
    """The scores of kp's own benchmarks that BENCHMARKS has."""
    measured = set(benchmarks.select("task", "metric").iter_rows())
    return [(benchmark, score) for benchmark, score in SCORES if (benchmark.task, score.metric) in measured]


def harm_subset(effects: pl.DataFrame) -> FactSubset:
    """The facts on which these EFFECTS tell harm: control facts, or those that a trial did not train on if the study has no controls."""
    return FactSubset.CONTROL if FactSubset.CONTROL.value in effects["subset"] else FactSubset.UNTRAINED


def choosing_subset(effects: pl.DataFrame) -> FactSubset:
    """The facts by whose loss winners are chosen."""
    return FactSubset.CONTROL_DEV if harm_subset(effects) is FactSubset.CONTROL else FactSubset.UNTRAINED


def telling_subset(effects: pl.DataFrame) -> FactSubset:
    """The facts on which the loss of a winner is told; those by which it was chosen only if the study has no controls."""
    return FactSubset.CONTROL_TEST if harm_subset(effects) is FactSubset.CONTROL else FactSubset.UNTRAINED


def _loss(effects: pl.DataFrame, subset: FactSubset) -> pl.DataFrame:
    """The loss of knowledge: minus the net change of the facts of a subset that the base knew on S0."""
    net = effects.filter(subset=subset.value, at_risk=True, effect=EffectKind.NET_CHANGE.value)
    return net.select(
        "trial_id",
        (0.0 - pl.col("value")).alias("knowledge_loss"),  # no change is 0.0, not -0.0
        pl.col("standard_error").alias("knowledge_loss_se"),
        (0.0 - pl.col("upper")).alias("knowledge_loss_lower"),
        (0.0 - pl.col("lower")).alias("knowledge_loss_upper"),
        pl.col("n").alias("knowledge_loss_n"),
        pl.col("verdict").alias("knowledge_loss_verdict"),
    )


def _drift(drift: pl.DataFrame) -> pl.DataFrame:
    """The drift of adapters as trained, on neutral text."""
    whole = drift.filter(scale=1.0, register=NEUTRAL)
    interval = (pl.col(end).alias(f"drift_{end}") for end in ("lower", "upper"))
    return whole.select("trial_id", pl.col("kl").alias("drift"), _error("drift"), *interval)


def _labelled(trials: pl.DataFrame) -> pl.DataFrame:
    named = trials.with_columns(pl.col("target_modules").list.join(" "))
    columns = ["unknown", "highly_known", "maybe_known", "paraphrases", "rank", "learning_rate", "seed", *KNOBS]
    columns += ["status", "cause", "epochs", "max_epochs", "unknown_accuracy", "train_loss"]
    return named.select("trial_id", pl.Series("label", trial_labels(named), pl.String), "arm", *columns)


def _join(frame: pl.DataFrame, other: pl.DataFrame) -> pl.DataFrame:
    return frame.join(other, on="trial_id", how="left", validate="1:1", maintain_order="left")


def _error(name: str) -> pl.Expr:
    return pl.col("standard_error").alias(f"{name}_se")


def _score(scores: pl.DataFrame, measure: str) -> pl.DataFrame:
    return scores.filter(pl.col("measure") == measure).select("trial_id", pl.col("value").alias(measure), _error(measure))


def _benchmark(benchmarks: pl.DataFrame, task: str, metric: str, name: str) -> pl.DataFrame:
    rows = benchmarks.filter((pl.col("task") == task) & (pl.col("metric") == metric))
    return rows.select("trial_id", pl.col("value").alias(name), _error(name))


def _delta(effects: pl.DataFrame, name: str, *more: str) -> pl.DataFrame:
    """The columns `*_delta` of a score from its paired differences to the base, with those in `more`."""
    columns = {"value": "", "standard_error": "_se", "lower": "_lower", "upper": "_upper"} | {column: f"_{column}" for column in more}
    return effects.select("trial_id", *(pl.col(column).alias(f"{name}_delta{ending}") for column, ending in columns.items()))
