"""The paper's tables of a study: its own numbers, and the published cell where N and mix are the same."""

import dataclasses

import polars as pl
import pytest

from kp.metrics.result_schema import REASONS
from kp.report.document import Table
from kp.report.markdown import escape
from kp.report.paper_figures import BASE_MIX, published
from kp.report.paper_section import paper_section
from kp.report.summary import summary_table
from kp.report.tables import ReportTables
from tests.made_up_study import context, frame_of, study

TABLES = study()


def tables_of(tables: ReportTables) -> dict[str, Table]:
    section = paper_section(tables, context(), summary_table(tables))
    return {block.caption.split(":")[0]: block for block in section.blocks if isinstance(block, Table)}


def reason(trial_id: str, direction: str, name: str, share: float) -> dict[str, object]:
    return {"trial_id": trial_id, "variant": "released", "direction": direction, "reason": name, "count": 1.0, "n": 8, "share": share}


def test_published_cell_stands_where_n_and_mix_are_the_same() -> None:
    table = tables_of(TABLES)["Table 2"]
    rows = {(row.cells[1], row.cells[2]): row.cells for row in table.rows}
    assert rows["10", "Unknown only"][-1] == f"{published('table2_reliability')[10, 0, 0]['reliability']:.2f}"
    assert rows["40", "Unknown only"][-1] == "–"


def test_table_5_has_the_reasons_of_the_released_definitions_beside_the_published_ones() -> None:
    trial = TABLES.trials.filter(unknown=10, highly_known=0, paraphrases=0)["trial_id"][0]
    rows = [reason(trial, "UK->HK", name, 0.25) for name in ("non_refusal", "explosion", "target", "domain", "explained")]
    rows += [reason(trial, "HK->UK", name, 0.5) for name in ("explosion", "target", "domain", "explained")]
    tables = dataclasses.replace(TABLES, reasons=frame_of(rows, REASONS))
    section = paper_section(tables, context(), summary_table(tables))
    up, down = (block for block in section.blocks if isinstance(block, Table) and block.caption.startswith("Table 5"))
    assert up.rows[0].cells[3:] == ("8", *["25.0"] * 5, "111", "21.0", "27.0", "24.0", "35.0", "54.0")
    assert down.rows[0].cells[3:] == ("8", *["50.0"] * 4, "409", "29.0", "4.00", "27.0", "48.0")


def test_scores_of_generated_answers_are_compared_as_shares() -> None:
    assert published("table7_benchmarks")[BASE_MIX]["bleu"] == pytest.approx(35.78)
    how = {"num_fewshot": 0, "task_version": "3", "template_hash": "0" * 16, "n": 817, "standard_error": 0.01, "chance": None}
    trial = TABLES.trials["trial_id"][0]
    made = [{"trial_id": one, "task": "truthfulqa_gen", "metric": "bleu_max", "value": 0.3, **how} for one in ("base", trial)]
    scores = pl.DataFrame(made, schema=TABLES.benchmarks.schema)
    table = tables_of(dataclasses.replace(TABLES, benchmarks=scores))["Table 7"]
    assert table.rows[0].cells[3:] == ("30.0 ± 1.0", "35.8")


def test_control_characters_of_a_text_are_shown_and_not_obeyed() -> None:
    assert escape("a\x1b[31mred\x07 b\x9b") == "a␛[31mred␇ b␡"
    assert escape("tab\tand\nline") == "tab\tand<br>line"
