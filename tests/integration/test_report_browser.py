"""A report's page in a browser: it draws, sorts, filters and fits, asks nobody for anything, and runs nothing that a model wrote."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from kp.metrics.stories import stories_of_outcomes
from kp.report.writing import write_report
from tests.browser import CHROMIUM, Page, browser_page
from tests.made_up_study import context, study

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
ATTACK = "</script><script>window.attacked = true</script><img src=x onerror='window.attacked = true'>\u001b[31m"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tables = study()
    answered = stories_of_outcomes(tables.outcomes, "S1").with_columns(answer=pl.lit(ATTACK), answer_count=pl.lit(9, pl.Int32))
    folder = tmp_path_factory.mktemp("report")
    facts = tables.facts.with_columns(question=pl.lit(ATTACK) + pl.col("question"))
    return write_report(replace(tables, facts=facts, fact_stories=answered), context(), folder)


@pytest.fixture(params=[1300, 390])
def page(report: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Page]:
    with browser_page(tmp_path) as opened:
        opened.open(report, request.param)
        yield opened


def test_page_draws_every_figure_and_fits_without_a_complaint_or_a_request(page: Page, report: Path) -> None:
    assert page.value("[...document.querySelectorAll('.panels > div')].every(place => place.querySelector('svg path'))")
    assert page.value("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert page.value("window.attacked === undefined")
    assert page.complaints == []
    assert page.requests == [report.as_uri()]


def test_tables_sort_by_number_and_facts_are_searched(page: Page) -> None:
    rows = "[...document.querySelectorAll('#trials tbody tr:not(.note):not(.reference)')].map(row => numberIn(row.cells[3].textContent))"
    page.value("[...document.querySelectorAll('#trials thead th')].find(title => title.textContent === 'N').click()")
    sizes = page.value(rows)
    assert sizes == sorted(sizes)
    shown = "document.querySelectorAll('.browser tbody tr').length"
    assert page.value(shown) == 100
    search = "{ const field = document.querySelector('.browser input'); field.value = 'is 123?'; field.dispatchEvent(new Event('input')); }"
    page.value(search)
    assert page.value(shown) == 5
