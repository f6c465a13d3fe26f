"""The pictures of benchmark scores against N and of where the first trial learned and lost hold what the tables say."""

import dataclasses

import polars as pl
import pytest

from kp.report.figures_html import interactive
from kp.report.figures_print import picture_bytes
from kp.report.size_curves import LEAST_HEIGHT, scores_by_size
from kp.report.summary import summary_table
from kp.report.tables import ReportTables
from kp.report.where_section import where_dots, where_section
from kp.report.winners import best_trial, evidence
from kp.vocabulary import BASE
from tests.made_up_study import study


@pytest.fixture(scope="module")
def tables() -> ReportTables:
    return study()


def test_scores_by_size_have_a_line_a_mix_whose_points_are_the_scores_in_percent(tables: ReportTables) -> None:
    summary = summary_table(tables)
    picture = scores_by_size(tables, summary)
    assert picture is not None
    sizes = [int(label.replace(",", "")) for label in picture.x_labels]
    measured = set(tables.benchmarks["trial_id"])
    assert sizes == sorted({row["unknown"] for row in summary.iter_rows(named=True) if row["trial_id"] in measured})
    assert len(picture.panels) == len(tables.benchmarks.select("task", "metric").unique())
    (panel,) = (panel for panel in picture.panels if panel.title.startswith("MMLU-dev"))
    values = dict(tables.benchmarks.filter(task="kp_mmlu_dev", metric="acc").select("trial_id", "value").iter_rows())
    base, *lines = panel.lines
    assert base.y == pytest.approx([100 * values[BASE]] * 2)
    drawn = {(line.group, sizes[round(x)]): y for line in lines for x, y in zip(line.x, line.y, strict=True)}
    expected = {
        (row["arm"], row["unknown"]): 100 * values[row["trial_id"]] for row in summary.iter_rows(named=True) if row["trial_id"] in values
    }
    assert drawn == pytest.approx(expected)


def test_scores_by_size_are_means_of_seeds_with_their_range(tables: ReportTables) -> None:
    first = tables.trials.filter(pl.col("trial_id").is_in(tables.benchmarks["trial_id"].implode())).row(0, named=True)
    again = tables.trials.filter(trial_id=first["trial_id"]).with_columns(trial_id=pl.lit("again"), seed=pl.lit(9, pl.Int32))
    scores = tables.benchmarks.filter(trial_id=first["trial_id"]).with_columns(trial_id=pl.lit("again"), value=pl.col("value") - 0.1)
    summary = summary_table(tables)
    named = summary.filter(trial_id=first["trial_id"]).with_columns(trial_id=pl.lit("again"), seed=pl.lit(9, pl.Int32))
    more = dataclasses.replace(tables, trials=pl.concat([tables.trials, again]), benchmarks=pl.concat([tables.benchmarks, scores]))
    picture = scores_by_size(more, pl.concat([summary, named]))
    assert picture is not None
    (panel,) = (panel for panel in picture.panels if panel.title.startswith("MMLU-dev"))
    value = 100 * tables.benchmarks.filter(trial_id=first["trial_id"], task="kp_mmlu_dev", metric="acc")["value"][0]
    banded = [line for line in panel.lines if line.low]
    assert len(banded) == 1
    place = banded[0].low.index(min(banded[0].low, key=lambda low: abs((low or 0) - (value - 10))))
    assert (banded[0].low[place], banded[0].y[place], banded[0].high[place]) == pytest.approx((value - 10, value - 5, value))


def test_scores_of_a_study_with_one_size_are_not_drawn_against_it(tables: ReportTables) -> None:
    summary = summary_table(tables)
    size = summary.filter(pl.col("trial_id").is_in(tables.benchmarks["trial_id"].implode()))["unknown"][0]
    assert scores_by_size(tables, summary.filter(unknown=size)) is None


def test_scores_that_are_nearly_equal_do_not_look_like_mountains(tables: ReportTables) -> None:
    flat = dataclasses.replace(tables, benchmarks=tables.benchmarks.with_columns(value=pl.lit(0.5)))
    picture = scores_by_size(flat, summary_table(tables))
    assert picture is not None
    assert picture.y_range == (50 - LEAST_HEIGHT / 2, 50 + LEAST_HEIGHT / 2)


def test_where_picture_has_the_values_of_its_tables(tables: ReportTables) -> None:
    found = evidence(tables, summary_table(tables))
    picture = where_dots(tables, found)
    assert picture is not None
    packed, lost = (panel.dots for panel in picture.panels)
    section = where_section(tables, found, {"where"})
    _, of_packed, of_lost = section.blocks
    told = {row.cells[0]: float(row.cells[2].split(" ")[0]) for row in of_packed.rows}  # type: ignore[union-attr]
    assert {dot.row: round(dot.value / 100, 3) for dot in packed} == pytest.approx(told, abs=6e-4)
    changes = {row.cells[0]: float(row.cells[4].split(" ")[0].replace("−", "-")) for row in of_lost.rows}  # type: ignore[union-attr]
    assert {dot.row: dot.value for dot in lost} == pytest.approx(changes, abs=0.051)
    assert all(low <= dot.value <= high for dot in (*packed, *lost) for low, high in [dot.ends])
    assert set(picture.rows) == set(told) | set(changes)


def test_nothing_is_drawn_where_no_trial_stands_first(tables: ReportTables) -> None:
    nothing = study(reliability=0.2)
    found = evidence(nothing, summary_table(nothing))
    assert best_trial(found) is None
    assert where_dots(nothing, found) is None


def test_hover_text_names_the_size_and_not_its_place(tables: ReportTables) -> None:
    picture = scores_by_size(tables, summary_table(tables))
    assert picture is not None
    for panel, drawn in zip(picture.panels, interactive(picture).panels, strict=True):
        assert drawn["layout"]["xaxis"]["ticktext"] == list(picture.x_labels)
        lines = [trace for trace in drawn["data"] if "customdata" in trace]
        assert len(lines) == len(panel.lines)
        assert all(set(trace["customdata"]) <= set(picture.x_labels) for trace in lines)
        assert all(picture.x_title in trace["hovertemplate"] for trace in lines)
    assert picture_bytes(picture, "svg") == picture_bytes(picture, "svg")
