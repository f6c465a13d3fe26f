"""The outcomes of a study: what base and adapters know of every measured fact, and what each fact was to the trial."""

from collections.abc import Iterable

import polars as pl
import pyarrow as pa

from kp import schema
from kp.config.study import StudyConfig
from kp.metrics.effect_summary import effect_table
from kp.metrics.effects import fact_effects
from kp.metrics.outcomes import fact_roles, outcome_table
from kp.schema import frame
from kp.store.filenames import ANSWERS_FILE, CATEGORIES_FILE, ROWS_FILE
from kp.store.steps import Step, Store
from kp.study.graph import Graph, Trial
from kp.study.measurements.answers import answers_on
from kp.vocabulary import BASE, FactSubset, Matcher

REPORTED = (FactSubset.UNTRAINED, FactSubset.ALL)
"""What effects are reported on: the facts that a trial did not train on, and all of them as the paper counts."""


def study_outcomes(config: StudyConfig, graph: Graph, store: Store, facts: pl.DataFrame, measured: Iterable[Trial]) -> pl.DataFrame:
    """The OUTCOMES of the base and of these trials over the measured facts (FACTS), by the study's matcher."""
    matcher, fact_ids = config.categorise.matcher, facts["fact_id"].to_list()
    tables = [_outcomes(store, BASE, (graph.steps["categorise"],), fact_ids, None, matcher)]
    for trial in measured:
        rows = frame(store.read(trial.step, ROWS_FILE, schema.TRAINING_ROWS))
        asked = [trial.measurements[answers_on(shot_set)] for shot_set in config.evaluate.shot_sets]
        tables.append(_outcomes(store, trial.trial_id, asked, fact_ids, rows, matcher))
    return pl.concat(tables)


def study_effects(outcomes: pl.DataFrame, facts: pl.DataFrame, margin: float) -> pl.DataFrame:
    """The EFFECTS of every trial in OUTCOMES, on each subset of REPORTED; `margin` is the harm that counts as small, a share."""
    of_facts = fact_effects(outcomes, facts)
    return pl.concat([effect_table(of_facts, subset, margin) for subset in REPORTED])


def _outcomes(
    store: Store, trial_id: str, steps: Iterable[Step], fact_ids: list[str], rows: pl.DataFrame | None, matcher: Matcher
) -> pl.DataFrame:
    asked = list(steps)
    answers = frame(pa.concat_tables([store.read(step, ANSWERS_FILE, schema.ANSWERS) for step in asked]))
    categories = frame(pa.concat_tables([store.read(step, CATEGORIES_FILE, schema.CATEGORIES) for step in asked]))
    return outcome_table(trial_id, answers, categories, fact_roles(fact_ids, (), rows), matcher)
