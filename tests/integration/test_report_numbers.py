"""Every number of finished studies' reports follows from their outcomes and benchmark items, as computed once more without kp."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from kp.report.tables import ReportTables
from tests.conftest import REPOSITORY
from tests.independent_capacity import SECTION, wrong_capacity
from tests.independent_opening import wrong_opening
from tests.independent_page import tables_of, wrong_page
from tests.independent_paper import raw_answers, wrong_paper
from tests.independent_report import Numbers, wrong_tables
from tests.made_up_report import save_made_up_report
from tests.made_up_study import search, study

COMMITTED = sorted(path.parents[1] for path in (REPOSITORY / "results").glob("*/tables/outcomes.parquet"))
CHECKED = ("Trials", "Effects on facts that were not trained on", "Mixes compared", "Shifts", "Answers", "Benchmarks")


def assert_right(report: Path) -> None:
    """Tables, printed tables and the opening paragraph of a report have the numbers that follow from single facts and questions."""
    numbers, page = Numbers.read(report), report / "report.md"
    assert wrong_tables(numbers) == []
    assert wrong_page(numbers, page) == []
    assert wrong_opening(numbers, page) == []
    assert wrong_capacity(numbers, page) == []


def test_finished_study_reports_the_numbers_of_its_outcomes(finished_tiny: Path) -> None:
    report = finished_tiny / "tiny" / "report"
    assert_right(report)
    assert wrong_paper(Numbers.read(report), report / "report.md", raw_answers(finished_tiny)) == []
    assert set(CHECKED) <= tables_of(report / "report.md").keys()
    assert len(Numbers.read(report).finished) == 3


@pytest.mark.parametrize("made_up", [study, search])
def test_made_up_study_with_many_changes_reports_the_numbers_of_its_outcomes(made_up: Callable[[], ReportTables], tmp_path: Path) -> None:
    assert_right(save_made_up_report(made_up(), tmp_path / "report"))


@pytest.mark.parametrize("report", COMMITTED, ids=lambda path: path.name)
def test_committed_report_has_the_numbers_of_its_outcomes(report: Path) -> None:
    assert_right(report)
    assert wrong_paper(Numbers.read(report), report / "report.md") == []


@pytest.mark.parametrize("printed", ["5.46", "0.232", "80.0<br>(49.0 to 100)"])
def test_another_number_of_capacity_is_found(tmp_path: Path, printed: str) -> None:
    report, changed = REPOSITORY / "results" / "capacity", tmp_path / "report.md"
    text = (report / "report.md").read_text(encoding="utf-8")
    before, after = text.split(f"\n## {SECTION}\n")
    assert printed in after
    other = re.sub(r"\d", lambda digit: str((int(digit[0]) + 1) % 10), printed, count=1)
    changed.write_text(f"{before}\n## {SECTION}\n{after.replace(printed, other, 1)}", encoding="utf-8")
    numbers = Numbers.read(report)
    assert wrong_capacity(numbers, report / "report.md") == []
    assert wrong_capacity(numbers, changed) != []


@pytest.mark.parametrize("table", ["Table 1:", "Table 2:", "Tables 3 and 6:", "Table 4:", "Table 5:"])
def test_another_number_in_a_table_of_the_paper_is_found(finished_tiny: Path, tmp_path: Path, table: str) -> None:
    report = finished_tiny / "tiny" / "report"
    before, caption, after = (report / "report.md").read_text(encoding="utf-8").partition(f"\n{table}")
    head, row = after.split("\n", 4)[:4], after.split("\n", 4)[4]
    cells = row.split(" | ", 4)
    place = next(place for place in range(1 if table == "Table 1:" else 3, 5) if re.search(r"\d", cells[place]))
    cells[place] = re.sub(r"\d", lambda digit: str((int(digit[0]) + 1) % 10), cells[place], count=1)
    changed = tmp_path / "report.md"
    changed.write_text(before + caption + "\n".join([*head, " | ".join(cells)]), encoding="utf-8")
    assert wrong_paper(Numbers.read(report), report / "report.md", raw_answers(finished_tiny)) == []
    assert wrong_paper(Numbers.read(report), changed, raw_answers(finished_tiny)) != []
