"""From the committed steps of a study to the tables of its report; nothing is measured here, only read and computed.

The same study gives the same tables however often it was interrupted, because every input is a committed file in a fixed order.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa

from kp import schema
from kp.config.derived import ADAPTER_SHOT_SET
from kp.config.study import StudyConfig
from kp.metrics.audit import disagreement_table
from kp.metrics.benchmark_effects import benchmark_effects
from kp.metrics.categories import of_matcher
from kp.metrics.majority import majority_table
from kp.metrics.scores import score_answers, score_generality, score_reliability
from kp.metrics.shifts import noise_table, shift_table
from kp.metrics.splits import split_facts
from kp.report.tables import ReportTables
from kp.schema import frame
from kp.store.filenames import (
    ANSWERS_FILE,
    BENCHMARK_ITEMS_FILE,
    BENCHMARKS_FILE,
    CATEGORIES_FILE,
    EPOCHS_FILE,
    ROWS_FILE,
    SLICK_FILE,
    TRIAL_FILE,
)
from kp.store.steps import Store
from kp.study.graph import Graph, Trial
from kp.study.measurements.answers import answers_on
from kp.study.outcomes import study_effects, study_outcomes
from kp.study.session import training_facts
from kp.training.spec import TRIAL_END, TRIALS
from kp.vocabulary import BASE, Matcher, Role, ShotSet, Split, TrialStatus


def with_adapter(graph: Graph, store: Store) -> list[Trial]:
    """The trials whose record says that they ended with an adapter."""
    return [trial for trial in graph.trials if _ended(store, trial).get("adapter_digest")]


def evaluated(config: StudyConfig, graph: Graph, store: Store) -> list[Trial]:
    """The trials with an adapter that the study measures."""
    left_out = set() if config.evaluate.stopped else {TrialStatus.STOPPED.value}
    return [trial for trial in with_adapter(graph, store) if _ended(store, trial)["status"] not in left_out]


def _ended(store: Store, trial: Trial) -> dict[str, Any]:
    return (store.record(trial.step) or {}).get("details") or {}


@dataclass(frozen=True)
class _Measured:
    """The measured tables of a trial's adapter."""

    trial: Trial
    answers: pl.DataFrame  # ANSWERS on S1
    categories: pl.DataFrame  # CATEGORIES on S1 by the study's matcher
    trained: list[str]  # ids of all facts it trained on
    packed: list[str]  # of the Unknown ones among them
    held_out: pl.DataFrame | None  # HELD_OUT_ANSWERS

    @property
    def trial_id(self) -> str:
        """Its name in tables."""
        return self.trial.trial_id


def collect_tables(config: StudyConfig, graph: Graph, store: Store, failed: list[dict[str, Any]]) -> ReportTables:
    """Read everything that the report shows; `failed` has rows of TRIALS for trials without a record."""
    facts = frame(training_facts(graph, store))
    asked = [graph.steps["categorise"], *graph.by_stage.get("repeat", ())]
    categories = frame(pa.concat_tables([store.read(step, CATEGORIES_FILE, schema.CATEGORIES) for step in asked]))
    answers = frame(pa.concat_tables([store.read(step, ANSWERS_FILE, schema.ANSWERS) for step in asked]))
    matcher = config.categorise.matcher
    base, again = (of_matcher(categories.filter(shot_set=shot_set.value), matcher) for shot_set in (ADAPTER_SHOT_SET, ShotSet.S2))
    committed = [trial for trial in graph.trials if store.is_done(trial.step)]
    rows = {trial.trial_id: frame(store.read(trial.step, ROWS_FILE, schema.TRAINING_ROWS)) for trial in committed}
    measured = [_measured(store, trial, rows[trial.trial_id], matcher) for trial in evaluated(config, graph, store)]
    scores = [score_answers(BASE, answers.filter(shot_set=ADAPTER_SHOT_SET.value), base, [], [], matcher)]
    for one in measured:
        scores.append(score_answers(one.trial_id, one.answers, one.categories, one.packed, one.trained, matcher))
        if one.held_out is not None:
            scores.append(score_generality(one.trial_id, one.held_out, one.packed, matcher))
    outcomes = study_outcomes(config, graph, store, facts, [one.trial for one in measured])
    items = _benchmarks(config, graph, store, BENCHMARK_ITEMS_FILE, schema.BENCHMARK_ITEMS)
    share = config.evaluate.dev_share
    splits = split_facts(facts, share, config.seed) if share else None
    return ReportTables(
        facts=facts,
        base_categories=categories,
        trials=frame(pa.Table.from_pylist([*(_trial_row(store, trial) for trial in committed), *failed], schema=TRIALS)),
        epochs=_concat([store.read(trial.step, EPOCHS_FILE, schema.EPOCHS) for trial in committed], schema.EPOCHS, []),
        outcomes=outcomes,
        effects=study_effects(outcomes, facts, config.report.margin),
        shifts=_shifts(measured, base, again, facts),
        scores=pl.concat(scores),
        benchmarks=_benchmarks(config, graph, store, BENCHMARKS_FILE, schema.BENCHMARKS),
        benchmark_items=items,
        benchmark_effects=benchmark_effects(items, config.report.margin),
        majority=majority_table(facts, answers, categories, matcher),
        disagreement=disagreement_table(answers),
        training_rows=rows,
        slick=frame(store.read(graph.steps["samples"], SLICK_FILE, schema.SLICK)) if "samples" in graph.steps else None,
        splits=splits,
        split_shifts=_of_each_half(splits, lambda half: _shifts(measured, base, again, half)),
        split_scores=_of_each_half(splits, lambda half: _reliability(measured, half, matcher)),
    )


def _measured(store: Store, trial: Trial, rows: pl.DataFrame, matcher: Matcher) -> _Measured:
    held_out, on_s1 = trial.measurements.get("generality"), trial.measurements[answers_on(ADAPTER_SHOT_SET)]
    return _Measured(
        trial=trial,
        answers=frame(store.read(on_s1, ANSWERS_FILE, schema.ANSWERS)),
        categories=of_matcher(frame(store.read(on_s1, CATEGORIES_FILE, schema.CATEGORIES)), matcher),
        trained=rows["fact_id"].unique().to_list(),
        packed=rows.filter(role=Role.UNKNOWN.value)["fact_id"].to_list(),
        held_out=frame(store.read(held_out, ANSWERS_FILE, schema.HELD_OUT_ANSWERS)) if held_out else None,
    )


def _shifts(measured: list[_Measured], base: pl.DataFrame, again: pl.DataFrame, facts: pl.DataFrame) -> pl.DataFrame:
    """The SHIFTS of the base compared with itself and of every adapter, over these facts only."""
    before, after = _only(base, facts), _only(again, facts)
    shifts = [noise_table(before, after)]
    shifts += [shift_table(one.trial_id, before, _only(one.categories, facts), one.trained) for one in measured]
    return pl.concat(shifts)


def _reliability(measured: list[_Measured], facts: pl.DataFrame, matcher: Matcher) -> pl.DataFrame:
    """SCORES of the measure "reliability", over these facts only; a trial that packed none of them has no row."""
    none = frame(schema.SCORES.empty_table())
    return pl.concat([none, *(score_reliability(one.trial_id, _only(one.answers, facts), one.packed, matcher) for one in measured)])


def _only(table: pl.DataFrame, facts: pl.DataFrame) -> pl.DataFrame:
    return table.filter(pl.col("fact_id").is_in(facts["fact_id"].implode()))


def _of_each_half(splits: pl.DataFrame | None, made_of: Callable[[pl.DataFrame], pl.DataFrame]) -> pl.DataFrame | None:
    """The table of each split's facts, with the column `split`."""
    if splits is None:
        return None
    return pl.concat([made_of(splits.filter(split=half.value)).with_columns(pl.lit(half.value).alias("split")) for half in Split])


def trial_columns(trial: Trial) -> dict[str, Any]:
    """The columns of TRIALS that follow from the spec."""
    return {"trial_id": trial.trial_id, **trial.spec.columns()}


def _trial_row(store: Store, trial: Trial) -> dict[str, Any]:
    """A row of TRIALS: how the trial ended, as recorded, and its knobs, as this study has them.

    The knobs in the trial's file are those of the study that trained it: it lacks a knob that is newer, and has another value of a knob
    without effect on this trial, which is no part of its identity.
    """
    (outcome,) = store.read(trial.step, TRIAL_FILE, TRIAL_END).to_pylist()
    return trial_columns(trial) | outcome


def _benchmarks(config: StudyConfig, graph: Graph, store: Store, file: str, table_schema: pa.Schema) -> pl.DataFrame:
    """One table of the benchmarks, of the base and of every measured adapter."""
    measured = [graph.base, *(trial.measurements for trial in evaluated(config, graph, store))]
    steps = [of_model.get("benchmarks") for of_model in measured]
    tables = [store.read(step, file, table_schema) for step in steps if step]
    return _concat(tables, table_schema, [])


def _concat(tables: list[pa.Table], table_schema: pa.Schema, more: list[dict[str, Any]]) -> pl.DataFrame:
    extra = pa.Table.from_pylist(more, schema=table_schema)
    return frame(pa.concat_tables([*tables, extra]))
