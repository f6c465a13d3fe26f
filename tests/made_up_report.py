"""The report of a made-up study whose scores follow from its outcomes, and whose facts are in clusters of unequal size.

It has what no small real study has: many changed clusters, so Student's intervals, verdicts of all kinds and mixes of several trials.
"""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from kp import schema
from kp.metrics.benchmark_effects import benchmark_effects
from kp.metrics.effect_summary import reported_effects
from kp.metrics.scores import score_answers, score_learning
from kp.report.tables import ReportTables
from kp.report.writing import write_report
from kp.vocabulary import Matcher
from tests.made_up_outcomes import CLUSTER_SIZES
from tests.made_up_study import context, frame_of

MARGIN = 0.1  # wide, so that some verdicts are "within margin"


def save_made_up_report(made_up: ReportTables, folder: Path) -> Path:
    """Write the report of tables from `tests.made_up_study`, without pictures, into `folder`, which is made."""
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kp.report.writing.pictures", lambda *_: {})
        circumstances = context()
        write_report(agreeing(made_up), replace(circumstances, config={**circumstances.config, "report": {"margin": MARGIN}}), folder)
    return folder


def agreeing(made_up: ReportTables) -> ReportTables:
    """The tables with other objects, and with all that follows from them, from outcomes and from benchmark items."""
    objects = [f"object {number}" for number, size in enumerate(CLUSTER_SIZES) for _ in range(size)]
    facts = made_up.facts.with_columns(relation=pl.lit("capital_of"), object=pl.Series(objects))
    on_s1 = made_up.outcomes.filter(shot_set="S1").partition_by("trial_id", maintain_order=True)
    scores = [_scores(of_model) for of_model in on_s1]
    return replace(
        made_up,
        facts=facts,
        effects=reported_effects(made_up.outcomes, facts, MARGIN),
        scores=pl.concat([*scores, score_learning(made_up.outcomes)]),
        benchmark_effects=benchmark_effects(made_up.benchmark_items, MARGIN),
    )


def _scores(outcomes: pl.DataFrame) -> pl.DataFrame:
    """The SCORES of answers that have the OUTCOMES of one model on one shot set."""
    rows = [
        {name: row[name] for name in ("fact_id", "shot_set")}
        | {"model_id": "m", "prompt_index": place, "answer": f"answer {place}", "finish_reason": "stop", "refused": place < row["refused"]}
        | {f"match_{matcher}": place < row["correct"] for matcher in Matcher}
        for row in outcomes.iter_rows(named=True)
        for place in range(row["asked"])
    ]
    categories = outcomes.with_columns(model_id=pl.lit("m"), matcher=pl.lit("strict")).select(schema.CATEGORIES.names)
    return score_answers(outcomes["trial_id"][0], frame_of(rows, schema.ANSWERS), categories, Matcher.STRICT)
