"""The report's section on bits: one row a measured trial, as the table has it; none where nothing was measured."""

import dataclasses

import polars as pl

from kp.metrics.capacity import adapter_sizes
from kp.metrics.result_schema import CAPACITY
from kp.report.capacity_section import capacity_dots, capacity_section
from kp.report.document import Table
from kp.report.summary import summary_table
from kp.report.tables import ReportTables
from tests.made_up_study import frame_of, study

TABLES = study()
MEASURED = sorted(set(TABLES.outcomes["trial_id"]) - {"base"})


def with_capacity() -> tuple[pl.DataFrame, ReportTables]:
    rows = [
        {
            "trial_id": trial_id, "facts": 10, "parameters": 1000, "held_bits": 120.0, "memorised_bits": 100.0, "lower": 80.0,
            "upper": 120.0,
            "per_fact": 10.0, "per_parameter": 0.1, "load": 0.12, "untaught_gain": -0.5, "untaught_facts": 7, "stand_ins": 0,
            "end_loss": 0.1, "recall": 0.75, "recall_lower": 0.5, "recall_upper": 0.9, "untaught_recall": 0.0,
        }
        for trial_id in MEASURED
    ]  # fmt: skip
    tables = dataclasses.replace(TABLES, capacity=frame_of(rows, CAPACITY))
    return summary_table(tables), tables


def test_section_gives_bits_a_fact_and_a_parameter_with_intervals() -> None:
    summary, tables = with_capacity()
    (table,) = (block for block in capacity_section(tables, summary, {"capacity"}).blocks if isinstance(block, Table))
    assert len(table.rows) == len(MEASURED)
    assert table.rows[0].cells[1:] == (
        "10", "7.00", "75.0\n(50.0 to 90.0)", "1,000", "120", "100\n(80 to 120)", "10\n(8 to 12)", "0.1\n(0.08 to 0.12)",
        "0.120", "\u22120.5\nn = 7",
    )  # fmt: skip


def test_picture_has_a_dot_a_trial_in_each_panel() -> None:
    summary, tables = with_capacity()
    picture = capacity_dots(tables, summary)
    assert picture is not None
    assert [[(dot.value, dot.ends) for dot in panel.dots[:1]] for panel in picture.panels] == [[(10.0, (8.0, 12.0))], [(0.1, (0.08, 0.12))]]
    assert picture.panels[0].reference == 12.0


def test_study_without_surprisal_has_no_section() -> None:
    summary = summary_table(TABLES)
    assert capacity_section(TABLES, summary, set()).blocks == ()
    assert capacity_dots(TABLES, summary) is None


def test_adapter_sizes_leave_out_trials_without_an_adapter() -> None:
    trials = TABLES.trials.with_columns(trainable_parameters=pl.when(pl.int_range(pl.len()) > 0).then(5))
    assert set(adapter_sizes(trials)) == set(trials["trial_id"][1:])
