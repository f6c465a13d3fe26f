"""Two studies side by side: a study differs from itself in nothing, and what differs is shown with its interval."""

import dataclasses
from pathlib import Path

import polars as pl
import pytest

from kp.errors import UserError
from kp.report.compare_page import Compared, compare_page
from kp.report.document import Document, Table
from kp.report.tables import ReportTables
from kp.study.comparing import compare_studies
from tests.made_up_study import context, study

TABLES = study()


def compared(name: str, tables: ReportTables = TABLES, **changes: object) -> Compared:
    made = context()
    return Compared(name, tables, dataclasses.replace(made, config={**made.config, **changes}))


def table(page: Document, anchor: str) -> Table:
    (section,) = (section for section in page.sections if section.anchor == anchor)
    (found,) = (block for block in section.blocks if isinstance(block, Table))
    return found


def test_study_compared_with_itself_differs_in_nothing() -> None:
    page = compare_page(compared("a"), compared("a"))
    assert [section.anchor for section in page.sections] == ["trials"]
    found = table(page, "trials")
    assert len(found.rows) > 2
    assert all(row.cells[column].startswith("0.0") for row in found.rows for column in (6, 9) if row.cells[column] != "–")
    assert "more in 0, less in 0" in " ".join(page.answer)
    assert page.title == "a (1) and a (2)"


def test_settings_that_differ_are_listed_without_those_of_place_and_speed() -> None:
    page = compare_page(compared("a"), compared("b", seed=7, resources={"threads": 3}))
    assert [row.cells[:1] for row in table(page, "settings").rows] == [("seed",)]


def test_better_learning_is_shown_with_its_interval_and_trials_of_one_study_are_named() -> None:
    scores = TABLES.scores.with_columns(
        value=pl.when(pl.col("measure") == "reliability").then(pl.col("value") - 0.5).otherwise("value"),
        standard_error=pl.when(pl.col("measure") == "reliability").then(0.02).otherwise("standard_error"),
    )
    trials = TABLES.trials.filter(~((pl.col("unknown") == 10) & (pl.col("highly_known") == 0) & (pl.col("paraphrases") == 0)))
    worse = dataclasses.replace(TABLES, scores=scores, trials=trials)
    page = compare_page(compared("worse", worse), compared("better"))
    rows = table(page, "trials").rows
    assert all(row.cells[6].startswith("+50.0 (+") for row in rows)
    assert any(section.anchor == "alone" for section in page.sections)
    assert f"better has more in {len(rows)}, less in 0 of {len(rows)} settings" in " ".join(page.answer)


def test_compared_results_are_written_as_page_and_markdown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = Path(__file__).parents[2] / "results"
    assert compare_studies(results / "quickstart", results / "quickstart", tmp_path / "to") == 0
    assert "Trials of the same setting" in (tmp_path / "to" / "compare.md").read_text(encoding="utf-8")
    assert "Trials of the same setting" in (tmp_path / "to" / "compare.html").read_text(encoding="utf-8")
    assert "compared:" in capsys.readouterr().out


def test_folder_without_a_report_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no report there; give the folder of a finished study"):
        compare_studies(tmp_path, tmp_path, tmp_path / "to")
