"""From the committed steps of a study to the tables of its report; nothing is measured here, only read and computed.

The same study gives the same tables however often it was interrupted, because every input is a committed file in a fixed order.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa

from kp import schema
from kp.config.derived import ADAPTER_SHOT_SET, BASE_SHOT_SETS
from kp.config.study import StudyConfig
from kp.metrics.audit import disagreement_table
from kp.metrics.majority import majority_table
from kp.metrics.outcomes import fact_roles, outcome_table
from kp.metrics.scores import score_answers, score_generality
from kp.metrics.stories import fact_stories
from kp.report.derived import derived_tables
from kp.report.tables import ReportTables
from kp.schema import frame
from kp.store.filenames import (
    ANSWERS_FILE,
    BENCHMARK_ITEMS_FILE,
    BENCHMARKS_FILE,
    CATEGORIES_FILE,
    EPOCHS_FILE,
    PARTS_FILE,
    ROWS_FILE,
    SLICK_FILE,
    TRIAL_FILE,
)
from kp.store.steps import Step, Store
from kp.study.graph import Graph, Trial
from kp.study.measurements.answers import answers_on
from kp.study.measurements.placebo import placebo_on
from kp.study.session import training_facts
from kp.training.spec import TRIAL_END, TRIALS
from kp.vocabulary import BASE, PLACEBO, FactRole, Matcher, Role, ShotSet, TrialStatus


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
class _Adapter:
    """What was measured of a trial's adapter."""

    outcomes: pl.DataFrame  # OUTCOMES
    scores: pl.DataFrame  # SCORES of its answers on S1 and to held-out paraphrases
    stories: pl.DataFrame  # FACT_STORIES of its answers on S1


def collect_tables(config: StudyConfig, graph: Graph, store: Store, failed: list[dict[str, Any]]) -> ReportTables:
    """Read everything that the report shows; `failed` has rows of TRIALS for trials without a record."""
    facts, matcher = frame(training_facts(graph, store)), config.categorise.matcher
    answers, categories = _answers_and_categories(store, [graph.steps["categorise"], *graph.by_stage.get("repeat", ())])
    parts = frame(store.read(graph.steps["parts"], PARTS_FILE, schema.PARTS)) if "parts" in graph.steps else None
    committed = [trial for trial in graph.trials if store.is_done(trial.step)]
    rows = {trial.trial_id: frame(store.read(trial.step, ROWS_FILE, schema.TRAINING_ROWS)) for trial in committed}
    fact_ids = facts["fact_id"].to_list()
    measured = [
        _adapter(config, store, trial, rows[trial.trial_id], fact_roles(fact_ids, parts, rows[trial.trial_id]))
        for trial in evaluated(config, graph, store)
    ]
    roles = fact_roles(fact_ids, parts)
    of_base = outcome_table(BASE, _on(answers, BASE_SHOT_SETS), _on(categories, BASE_SHOT_SETS), roles, matcher)
    outcomes = pl.concat([of_base, *(one.outcomes for one in measured)])
    items = _benchmarks(config, graph, store, BENCHMARK_ITEMS_FILE, schema.BENCHMARK_ITEMS)
    scores = pl.concat([_answer_scores(BASE, answers, categories, matcher), *(one.scores for one in measured)])
    return ReportTables(
        facts=facts,
        base_categories=categories,
        trials=frame(pa.Table.from_pylist([*(_trial_row(store, trial) for trial in committed), *failed], schema=TRIALS)),
        epochs=_concat([store.read(trial.step, EPOCHS_FILE, schema.EPOCHS) for trial in committed], schema.EPOCHS, []),
        outcomes=outcomes,
        benchmarks=_benchmarks(config, graph, store, BENCHMARKS_FILE, schema.BENCHMARKS),
        benchmark_items=items,
        **derived_tables(outcomes, facts, items, scores, config.report.margin),
        majority=majority_table(facts, answers, categories, matcher),
        disagreement=disagreement_table(answers),
        training_rows=rows,
        parts=parts,
        fact_stories=pl.concat([_stories(answers, of_base), *(one.stories for one in measured)]),
        placebo=_placebo(config, graph, store, roles),
        slick=frame(store.read(graph.steps["samples"], SLICK_FILE, schema.SLICK)) if "samples" in graph.steps else None,
    )


def _adapter(config: StudyConfig, store: Store, trial: Trial, rows: pl.DataFrame, roles: Mapping[str, FactRole]) -> _Adapter:
    matcher = config.categorise.matcher
    asked = [trial.measurements[answers_on(shot_set)] for shot_set in config.evaluate.shot_sets]
    answers, categories = _answers_and_categories(store, asked)
    scores = [_answer_scores(trial.trial_id, answers, categories, matcher)]
    if "generality" in trial.measurements:
        held_out = frame(store.read(trial.measurements["generality"], ANSWERS_FILE, schema.HELD_OUT_ANSWERS))
        scores.append(score_generality(trial.trial_id, held_out, rows.filter(role=Role.UNKNOWN.value)["fact_id"].to_list(), matcher))
    outcomes = outcome_table(trial.trial_id, answers, categories, roles, matcher)
    return _Adapter(outcomes, pl.concat(scores), _stories(answers, outcomes))


def _placebo(config: StudyConfig, graph: Graph, store: Store, roles: Mapping[str, FactRole]) -> pl.DataFrame | None:
    """The OUTCOMES of the base asked once more, if the study does that."""
    if not config.evaluate.placebo:
        return None
    asked = [graph.base[placebo_on(shot_set)] for shot_set in config.evaluate.shot_sets]
    return outcome_table(PLACEBO, *_answers_and_categories(store, asked), roles, config.categorise.matcher)


def _answers_and_categories(store: Store, steps: Iterable[Step]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """ANSWERS and CATEGORIES of one model, over the shot sets of these steps."""
    asked = list(steps)
    tables = ((ANSWERS_FILE, schema.ANSWERS), (CATEGORIES_FILE, schema.CATEGORIES))
    answers, categories = (frame(pa.concat_tables([store.read(step, name, columns) for step in asked])) for name, columns in tables)
    return answers, categories


def _on(table: pl.DataFrame, shot_sets: Iterable[ShotSet]) -> pl.DataFrame:
    return table.filter(pl.col("shot_set").is_in([shot_set.value for shot_set in shot_sets]))


def _answer_scores(trial_id: str, answers: pl.DataFrame, categories: pl.DataFrame, matcher: Matcher) -> pl.DataFrame:
    """The SCORES of answers on the shot set on which adapters are compared with the base."""
    return score_answers(trial_id, _on(answers, (ADAPTER_SHOT_SET,)), _on(categories, (ADAPTER_SHOT_SET,)), matcher)


def _stories(answers: pl.DataFrame, outcomes: pl.DataFrame) -> pl.DataFrame:
    """The FACT_STORIES of one model on the shot set on which adapters are compared with the base."""
    return fact_stories(_on(answers, (ADAPTER_SHOT_SET,)), _on(outcomes, (ADAPTER_SHOT_SET,)))


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
