"""Curves over the scale of an adapter: each value is that of an adapter with these outcomes, and one that changes nothing costs nothing."""

import dataclasses

import polars as pl
import pytest

from kp.metrics.effect_summary import reported_effects
from kp.metrics.result_schema import SCALE_CURVE
from kp.metrics.scale_curve import ScaleMeasure, best_scale, scale_curve
from kp.metrics.scores import score_learning
from kp.report.document import Table, Text
from kp.report.scale_section import scale_lines, scale_section
from kp.report.tables import ReportTables
from kp.vocabulary import BASE, EffectKind, FactRole, FactSubset
from tests.made_up_study import found_in, frame_of, study

MARGIN = 0.02
TABLES = study()
TRIAL = str(TABLES.scores.filter(pl.col("measure") == "reliability")["trial_id"][0])
SCALES = (0.25, 0.5)


def like_base(outcomes: pl.DataFrame, scale: float) -> pl.DataFrame:
    """SCALED_OUTCOMES of an adapter that answers as the base does."""
    base = outcomes.filter(trial_id=BASE).select("fact_id", "shot_set", "correct", "asked", "category", "refused")
    kept = outcomes.filter(trial_id=TRIAL).select("fact_id", "trial_id", "shot_set", "role")
    return kept.join(base, on=["fact_id", "shot_set"]).select(*outcomes.columns, scale=pl.lit(scale))


def at(curve: pl.DataFrame, scale: float, measure: ScaleMeasure) -> dict[str, object]:
    return curve.filter(scale=scale, measure=measure.value).row(0, named=True)


@pytest.fixture(scope="module")
def curve() -> pl.DataFrame:
    scaled = pl.concat([like_base(TABLES.outcomes, scale) for scale in SCALES])
    return scale_curve(TABLES.outcomes, scaled, TABLES.facts, MARGIN)


def test_scale_at_which_an_adapter_answers_as_the_base_has_no_loss_and_changes_no_refusal(curve: pl.DataFrame) -> None:
    for scale in SCALES:
        for measure in (ScaleMeasure.LOSS, ScaleMeasure.DEV_LOSS, ScaleMeasure.TEST_LOSS, ScaleMeasure.REFUSAL_CHANGE):
            assert at(curve, scale, measure)["value"] == 0


def test_values_at_scale_1_are_those_of_the_study(curve: pl.DataFrame) -> None:
    learned = score_learning(TABLES.outcomes.filter(trial_id=TRIAL)).filter(measure="reliability")
    assert at(curve, 1.0, ScaleMeasure.RELIABILITY)["value"] == learned["value"][0]
    effects = reported_effects(TABLES.outcomes.filter(pl.col("trial_id").is_in([BASE, TRIAL])), TABLES.facts, MARGIN)
    (net,) = effects.filter(subset=FactSubset.CONTROL.value, at_risk=True, effect=EffectKind.NET_CHANGE.value).to_dicts()
    loss = at(curve, 1.0, ScaleMeasure.LOSS)
    assert (loss["value"], loss["lower"], loss["upper"]) == (-net["value"], -net["upper"], -net["lower"])
    assert loss["value"] != 0
    assert loss["verdict_alone"] == net["verdict_alone"]


def test_curve_has_every_measure_of_every_scale_under_its_schema(curve: pl.DataFrame) -> None:
    assert curve.to_arrow().cast(SCALE_CURVE).schema == SCALE_CURVE
    assert curve["scale"].unique().sort().to_list() == [*SCALES, 1.0]
    assert len(curve) == 3 * len(ScaleMeasure)


def made_up_curve(*points: tuple[float, float, float | None]) -> pl.DataFrame:
    """Scale, reliability and dev loss of trial `t`."""
    rows = [
        {"trial_id": "t", "scale": scale, "measure": measure.value, "value": value, "n": 10}
        for scale, learned, loss in points
        for measure, value in ((ScaleMeasure.RELIABILITY, learned), (ScaleMeasure.DEV_LOSS, loss))
    ]
    return frame_of(rows, SCALE_CURVE)


@pytest.mark.parametrize(
    ("points", "best"),
    [
        ([(0.25, 0.2, 0.0), (0.5, 0.8, 0.02), (1.0, 0.9, 0.1)], 0.5),
        ([(0.25, 0.2, 0.0), (0.5, 0.8, 0.03), (1.0, 0.9, 0.1)], 0.25),
        ([(0.5, 0.9, 0.0), (1.0, 0.9, 0.0)], 0.5),
        ([(0.5, 0.8, -0.01), (1.0, 0.9, 0.0)], 1.0),
        ([(0.5, 0.8, 0.03), (1.0, 0.9, 0.1)], None),
        ([(0.5, 0.8, None), (1.0, 0.9, 0.1)], None),
    ],
)
def test_best_scale_is_the_most_reliable_one_within_the_margin(points: list[tuple[float, float, float | None]], best: float | None) -> None:
    assert best_scale(made_up_curve(*points), "t", MARGIN) == best


def test_best_scale_is_chosen_on_dev_facts_alone(curve: pl.DataFrame) -> None:
    dev = TABLES.outcomes.filter(role=FactRole.CONTROL_DEV.value)["fact_id"].unique().implode()
    test_lost = pl.col("fact_id").is_in(dev).not_() & (pl.col("trial_id") == TRIAL)
    ruined = TABLES.outcomes.with_columns(correct=pl.when(test_lost & pl.col("role").eq("control_test")).then(0).otherwise("correct"))
    scaled = pl.concat([like_base(TABLES.outcomes, scale) for scale in SCALES])
    assert best_scale(scale_curve(ruined, scaled, TABLES.facts, MARGIN), TRIAL, MARGIN) == best_scale(curve, TRIAL, MARGIN)


def with_curve(curve: pl.DataFrame) -> ReportTables:
    return dataclasses.replace(TABLES, scale_curve=curve)


def test_section_has_a_row_a_scale_and_marks_the_chosen_one(curve: pl.DataFrame) -> None:
    tables = with_curve(curve)
    section = scale_section(tables, found_in(tables), MARGIN, {"scales"})
    (table,) = (block for block in section.blocks if isinstance(block, Table))
    assert [row.cells[1].removeprefix("→ ") for row in table.rows] == ["0.25", "0.5", "1"]
    assert sum(row.cells[1].startswith("→") for row in table.rows) == (best_scale(curve, TRIAL, MARGIN) is not None)
    assert any("chosen" in block.text for block in section.blocks if isinstance(block, Text))
    assert scale_section(TABLES, found_in(TABLES), MARGIN, set()).blocks == ()


def test_picture_has_a_line_a_trial_with_a_point_a_scale(curve: pl.DataFrame) -> None:
    tables = with_curve(curve)
    picture = scale_lines(tables, found_in(tables).summary)
    assert picture is not None
    ((line,),) = (panel.lines for panel in picture.panels)
    assert len(line.x) == len(line.y) == 3
    assert line.x[:2] == (0.0, 0.0)
    assert scale_lines(TABLES, found_in(TABLES).summary) is None
