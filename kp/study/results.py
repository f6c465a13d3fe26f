"""From the committed steps of a study to the tables of its report; nothing is measured here, only read and computed.

The same study gives the same tables however often it was interrupted, because every input is a committed file in a fixed order.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import polars as pl
import pyarrow as pa

from kp import schema
from kp.config.derived import ADAPTER_SHOT_SET, BASE_SHOT_SETS, adapter_scales, fact_entropy
from kp.config.study import StudyConfig
from kp.metrics.answer_changes import answer_changes
from kp.metrics.audit import disagreement_table
from kp.metrics.capacity import adapter_sizes, capacity_table
from kp.metrics.compared_answers import ComparedAnswers
from kp.metrics.drift import drift_summary
from kp.metrics.locality import locality
from kp.metrics.majority import majority_table
from kp.metrics.outcomes import fact_roles, outcome_table
from kp.metrics.published import published_agreement
from kp.metrics.reasons import reasons
from kp.metrics.reversal import reversal_table
from kp.metrics.scale_curve import scale_curve
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
    DRIFT_FILE,
    EPOCHS_FILE,
    FACT_EPOCHS_FILE,
    PARTS_FILE,
    PUBLISHED_FILE,
    ROWS_FILE,
    SLICK_FILE,
    SURPRISAL_FILE,
    TRIAL_FILE,
)
from kp.store.steps import Step, Store
from kp.study.graph import Graph, Trial
from kp.study.measurement import scaled_name
from kp.study.measurements.answers import answers_on
from kp.study.measurements.harness import harness_on
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
    reasons: pl.DataFrame  # REASONS
    locality: pl.DataFrame  # LOCALITY
    answer_changes: pl.DataFrame  # ANSWER_CHANGES
    stories: pl.DataFrame  # FACT_STORIES of its answers on S1


@dataclass(frozen=True)
class _Base:
    """What the base answered, with which every adapter is compared."""

    facts: pl.DataFrame  # FACTS
    answers: pl.DataFrame  # ANSWERS on all its shot sets
    outcomes: pl.DataFrame  # OUTCOMES on S0, S1 and S2


def collect_tables(config: StudyConfig, graph: Graph, store: Store, failed: list[dict[str, Any]]) -> ReportTables:
    """Read everything that the report shows; `failed` has rows of TRIALS for trials without a record."""
    facts, matcher = frame(training_facts(graph, store)), config.categorise.matcher
    answers, categories = _answers_and_categories(store, [graph.steps["categorise"], *graph.by_stage.get("repeat", ())])
    parts = frame(store.read(graph.steps["parts"], PARTS_FILE, schema.PARTS)) if "parts" in graph.steps else None
    committed = [trial for trial in graph.trials if store.is_done(trial.step)]
    rows = {trial.trial_id: frame(store.read(trial.step, ROWS_FILE, schema.TRAINING_ROWS)) for trial in committed}
    fact_ids = facts["fact_id"].to_list()
    roles = fact_roles(fact_ids, parts)
    of_base = outcome_table(BASE, _on(answers, BASE_SHOT_SETS), _on(categories, BASE_SHOT_SETS), roles, matcher)
    base = _Base(facts, answers, of_base)
    # One after the other, because the answers of all adapters of a large study do not fit into memory together.
    measured = [
        _adapter(config, store, trial, rows[trial.trial_id], fact_roles(fact_ids, parts, rows[trial.trial_id]), base)
        for trial in (evaluated(config, graph, store) if config.evaluate.shot_sets else ())
    ]
    outcomes = pl.concat([of_base, *(one.outcomes for one in measured)])
    ended = [_trial_row(store, trial, rows[trial.trial_id].height) for trial in committed]
    trials = frame(pa.Table.from_pylist([*ended, *failed], schema=TRIALS))
    bits = _surprisal(config, graph, store)
    scaled = _scaled_outcomes(config, graph, store, parts, rows)
    drift = _drift(config, graph, store)
    items = _benchmarks(config, graph, store, BENCHMARK_ITEMS_FILE, schema.BENCHMARK_ITEMS)
    scores = pl.concat([_answer_scores(BASE, answers, categories, matcher), *(one.scores for one in measured)])
    return ReportTables(
        facts=facts,
        base_categories=categories,
        trials=trials,
        epochs=_concat([store.read(trial.step, EPOCHS_FILE, schema.EPOCHS) for trial in committed], schema.EPOCHS, []),
        outcomes=outcomes,
        benchmarks=_benchmarks(config, graph, store, BENCHMARKS_FILE, schema.BENCHMARKS),
        benchmark_items=items,
        **derived_tables(outcomes, facts, items, scores, config.report.margin),
        reasons=pl.concat([one.reasons for one in measured]) if measured else None,
        locality=pl.concat([one.locality for one in measured]) if measured else None,
        reversal=_reversal(config, graph, store, facts, rows),
        answer_changes=pl.concat([one.answer_changes for one in measured]) if measured else None,
        majority=majority_table(facts, answers, categories, matcher),
        disagreement=disagreement_table(answers),
        training_rows=rows,
        parts=parts,
        fact_stories=pl.concat([_stories(answers, of_base), *(one.stories for one in measured)]),
        fact_epochs=_fact_epochs(store, committed),
        placebo=_placebo(config, graph, store, roles),
        surprisal=bits,
        capacity=None if bits is None else capacity_table(bits, outcomes, facts, adapter_sizes(trials), rows, fact_entropy(config)),
        scaled_outcomes=scaled,
        scale_curve=None if scaled is None else scale_curve(outcomes, scaled, facts, config.report.margin),
        drift=drift,
        drift_summary=None if drift is None else drift_summary(drift),
        slick=frame(store.read(graph.steps["samples"], SLICK_FILE, schema.SLICK)) if "samples" in graph.steps else None,
        published_agreement=agreement_with_published(graph, store, matcher),
    )


def _adapter(config: StudyConfig, store: Store, trial: Trial, rows: pl.DataFrame, roles: Mapping[str, FactRole], base: _Base) -> _Adapter:
    matcher = config.categorise.matcher
    asked = [trial.measurements[answers_on(shot_set)] for shot_set in config.evaluate.shot_sets]
    answers, categories = _answers_and_categories(store, asked)
    scores = [_answer_scores(trial.trial_id, answers, categories, matcher)]
    if "generality" in trial.measurements:
        held_out = frame(store.read(trial.measurements["generality"], ANSWERS_FILE, schema.HELD_OUT_ANSWERS))
        scores.append(score_generality(trial.trial_id, held_out, rows.filter(role=Role.UNKNOWN.value)["fact_id"].to_list(), matcher))
    outcomes = outcome_table(trial.trial_id, answers, categories, roles, matcher)
    compared = ComparedAnswers(trial.trial_id, base.facts, pl.concat([base.outcomes, outcomes]), base.answers, answers, rows, matcher)
    return _Adapter(
        outcomes, pl.concat(scores), reasons(compared), locality(compared), answer_changes(compared), _stories(answers, outcomes)
    )


def _reversal(
    config: StudyConfig, graph: Graph, store: Store, facts: pl.DataFrame, rows: Mapping[str, pl.DataFrame]
) -> pl.DataFrame | None:
    """The REVERSAL of every measured adapter, if the study asks reversed questions."""
    if not config.evaluate.reversed_questions:
        return None
    base = frame(store.read(graph.base["reversal"], ANSWERS_FILE, schema.ANSWERS))
    tables = []
    for trial in evaluated(config, graph, store):
        answers = frame(store.read(trial.measurements["reversal"], ANSWERS_FILE, schema.ANSWERS))
        packed = rows[trial.trial_id].filter(role=Role.UNKNOWN.value)["fact_id"].to_list()
        tables.append(reversal_table(trial.trial_id, base, answers, facts, packed, config.categorise.matcher))
    return pl.concat(tables) if tables else None


def _surprisal(config: StudyConfig, graph: Graph, store: Store) -> pl.DataFrame | None:
    """The TRIAL_SURPRISAL of the base and of every measured adapter, if the study requests it."""
    if not config.evaluate.surprisal:
        return None
    steps = {BASE: graph.base["surprisal"]}
    steps |= {trial.trial_id: trial.measurements["surprisal"] for trial in evaluated(config, graph, store)}
    tables = [
        frame(store.read(step, SURPRISAL_FILE, schema.SURPRISAL)).select(pl.lit(trial_id).alias("trial_id"), pl.exclude("model_id"))
        for trial_id, step in steps.items()
    ]
    return pl.concat(tables)


def _scaled_outcomes(
    config: StudyConfig, graph: Graph, store: Store, parts: pl.DataFrame | None, rows: Mapping[str, pl.DataFrame]
) -> pl.DataFrame | None:
    """The SCALED_OUTCOMES of every adapter at the scales below 1, if the study requests any."""
    tables = []
    for trial in evaluated(config, graph, store):
        for scale in adapter_scales(config, trial.spec.seed)[:-1] if config.evaluate.shot_sets else ():
            asked = [trial.measurements[scaled_name(answers_on(shot_set), scale)] for shot_set in config.evaluate.shot_sets]
            answers, categories = _answers_and_categories(store, asked)
            roles = fact_roles(answers["fact_id"].unique(maintain_order=True).to_list(), parts, rows[trial.trial_id])
            outcomes = outcome_table(trial.trial_id, answers, categories, roles, config.categorise.matcher)
            tables.append(outcomes.with_columns(scale=pl.lit(scale)))
    return pl.concat(tables) if tables else None


def _drift(config: StudyConfig, graph: Graph, store: Store) -> pl.DataFrame | None:
    """The DRIFT of every adapter at every scale, if the study measures it."""
    steps = [
        (scale, trial.measurements.get(scaled_name("drift", scale)))
        for trial in evaluated(config, graph, store)
        for scale in adapter_scales(config, trial.spec.seed)
    ]
    tables = [frame(store.read(step, DRIFT_FILE, schema.TEXT_DRIFT)).with_columns(scale=pl.lit(scale)) for scale, step in steps if step]
    return pl.concat(tables) if tables else None


def _fact_epochs(store: Store, committed: Iterable[Trial]) -> pl.DataFrame | None:
    """The FACT_EPOCHS of the trials that were trained since it is kept; None if there are none."""
    kept = [trial.step for trial in committed if store.file(trial.step, FACT_EPOCHS_FILE).is_file()]
    tables = [store.read(step, FACT_EPOCHS_FILE, schema.FACT_EPOCHS) for step in kept]
    return _concat(tables, schema.FACT_EPOCHS, []) if tables else None


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


def agreement_with_published(graph: Graph, store: Store, matcher: Matcher) -> pl.DataFrame | None:
    """PUBLISHED_AGREEMENT of the base's categories; None if the source of the facts publishes none."""
    if not store.file(graph.steps["facts"], PUBLISHED_FILE).is_file():
        return None
    published = frame(store.read(graph.steps["facts"], PUBLISHED_FILE, schema.PUBLISHED_CATEGORIES))
    categories = frame(store.read(graph.steps["categorise"], CATEGORIES_FILE, schema.CATEGORIES))
    return published_agreement(categories, published, matcher)


def _on(table: pl.DataFrame, shot_sets: Iterable[ShotSet]) -> pl.DataFrame:
    return table.filter(pl.col("shot_set").is_in([shot_set.value for shot_set in shot_sets]))


def _answer_scores(trial_id: str, answers: pl.DataFrame, categories: pl.DataFrame, matcher: Matcher) -> pl.DataFrame:
    """The SCORES of answers on the shot set on which adapters are compared with the base."""
    return score_answers(trial_id, _on(answers, (ADAPTER_SHOT_SET,)), _on(categories, (ADAPTER_SHOT_SET,)), matcher)


def _stories(answers: pl.DataFrame, outcomes: pl.DataFrame) -> pl.DataFrame:
    """The FACT_STORIES of one model on the shot set on which adapters are compared with the base."""
    return fact_stories(_on(answers, (ADAPTER_SHOT_SET,)), _on(outcomes, (ADAPTER_SHOT_SET,)))


def trial_columns(trial: Trial, drawn: int | None = None) -> dict[str, Any]:
    """The columns of TRIALS that follow from the spec, and from how many rows were drawn."""
    return {"trial_id": trial.trial_id, **replace(trial.spec, drawn=drawn).columns()}


def _trial_row(store: Store, trial: Trial, drawn: int) -> dict[str, Any]:
    """A row of TRIALS: how the trial ended, as recorded, and its knobs, as this study has them.

    The knobs in the trial's file are those of the study that trained it: it lacks a knob that is newer, and has another value of a knob
    without effect on this trial, which is no part of its identity.
    """
    (outcome,) = store.read(trial.step, TRIAL_FILE, TRIAL_END).to_pylist()
    return trial_columns(trial, drawn) | outcome


def _benchmarks(config: StudyConfig, graph: Graph, store: Store, file: str, table_schema: pa.Schema) -> pl.DataFrame:
    """One table of the benchmarks, of the base and of every measured adapter."""
    measured = [graph.base, *(trial.measurements for trial in evaluated(config, graph, store))]
    names = ["benchmarks", *(harness_on(task.name) for task in config.evaluate.tasks)]
    steps = [of_model[name] for name in names for of_model in measured if name in of_model]
    tables = [store.read(step, file, table_schema) for step in steps]
    return _concat(tables, table_schema, [])


def _concat(tables: list[pa.Table], table_schema: pa.Schema, more: list[dict[str, Any]]) -> pl.DataFrame:
    extra = pa.Table.from_pylist(more, schema=table_schema)
    return frame(pa.concat_tables([*tables, extra]))
