"""Scores on which the base guesses are told apart from those that say something, and carry no verdict and no sentence."""

import dataclasses

import numpy as np
import polars as pl
import pytest

from kp.metrics.benchmark_chance import at_chance
from kp.report.answer import answer_text
from kp.report.benchmarks_section import AT_CHANCE, benchmark_dots, benchmarks_section
from kp.report.document import Table, Text
from kp.report.summary import summary_table
from kp.report.tables import ReportTables
from kp.schema import BENCHMARKS
from tests.made_up_study import frame_of, study

TABLES = study()


def base_score(value: float, n: int, chance: float | None, error: float | None = None, metric: str = "acc") -> dict[str, object]:
    how = {"num_fewshot": 0, "task_version": "1", "template_hash": "0" * 16}
    return {"trial_id": "base", "task": "t", "metric": metric, "value": value, "standard_error": error, "n": n, "chance": chance, **how}


def is_at_chance(**score: float | None) -> bool:
    return bool(at_chance(frame_of([base_score(**score)], BENCHMARKS)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "n", "chance", "guesses"),
    [(0.25, 100, 0.25, True), (0.30, 100, 0.25, True), (0.40, 100, 0.25, False), (0.10, 100, 0.25, True), (0.30, 4000, 0.25, False)],
)
def test_base_is_at_chance_unless_its_interval_lies_above(value: float, n: int, chance: float, guesses: bool) -> None:
    assert is_at_chance(value=value, n=n, chance=chance) is guesses


def test_score_of_generated_answers_has_no_chance() -> None:
    assert not is_at_chance(value=0.001, n=100, chance=None)


def test_score_that_is_no_share_has_the_interval_of_its_error() -> None:
    assert is_at_chance(value=0.4512, n=50, chance=0.43, error=0.02)
    assert not is_at_chance(value=0.4912, n=50, chance=0.43, error=0.02)


def test_bases_that_guess_are_nearly_always_found_out() -> None:
    random = np.random.default_rng(0)
    found = [is_at_chance(value=random.binomial(200, 0.25) / 200, n=200, chance=0.25) for _ in range(300)]
    assert np.mean(found) >= 0.95


def guessing(tables: ReportTables) -> ReportTables:
    return dataclasses.replace(tables, benchmarks=tables.benchmarks.with_columns(chance=pl.lit(0.999)))


def test_report_gives_no_verdict_and_no_sentence_where_the_base_guesses() -> None:
    above = dataclasses.replace(TABLES, benchmarks=TABLES.benchmarks.with_columns(chance=pl.lit(0.001)))
    assert "Benchmarks against the base" in answer_text(above, 0.02)
    assert "Benchmarks against the base" not in answer_text(guessing(TABLES), 0.02)
    for tables, said in ((above, False), (guessing(TABLES), True)):
        summary = summary_table(tables)
        section = benchmarks_section(tables, summary, set(), 0.02)
        (table,) = (block for block in section.blocks if isinstance(block, Table))
        assert any(AT_CHANCE in cell for row in table.rows for cell in row.cells) is said
        assert any("at chance" in block.text for block in section.blocks if isinstance(block, Text)) is said
        picture = benchmark_dots(tables, summary)
        assert picture is not None
        assert all((AT_CHANCE in panel.x_title) is said for panel in picture.panels)


def test_task_that_is_asked_for_by_name_has_its_rows_and_its_panel() -> None:
    items = TABLES.benchmark_items.with_columns(task=pl.lit("arc_easy")).filter(metric="acc")
    assert len(items)
    effects = TABLES.benchmark_effects.filter(metric="acc").with_columns(task=pl.lit("arc_easy"))
    scores = TABLES.benchmarks.filter(metric="acc").with_columns(task=pl.lit("arc_easy"), chance=pl.lit(0.001))
    tables = dataclasses.replace(TABLES, benchmarks=scores, benchmark_items=items, benchmark_effects=effects)
    picture = benchmark_dots(tables, summary_table(tables))
    assert picture is not None
    assert [panel.x_title for panel in picture.panels] == ["arc_easy, difference (points)"]
    assert "arc_easy" in answer_text(tables, 0.02)
