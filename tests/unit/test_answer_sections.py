"""The report's sections on raw answers: reasons of shifts, locality, and changes of the answers."""

from dataclasses import replace

import polars as pl

from kp.metrics.answer_changes import answer_changes
from kp.metrics.locality import locality
from kp.metrics.reasons import reasons
from kp.report.answers_section import answers_section
from kp.report.document import Section, Table
from kp.report.locality_section import locality_section
from kp.report.reasons_section import reasons_section
from kp.report.summary import summary_table
from kp.report.tables import ReportTables
from tests.made_up_answers import published
from tests.made_up_study import study


def of_published() -> ReportTables:
    """The made-up study, whose first trial moved facts as the released notebook has it."""
    tables, compared = study(), published()
    trial = pl.lit(tables.trials["trial_id"][0]).alias("trial_id")
    made = {"reasons": reasons(compared), "locality": locality(compared), "answer_changes": answer_changes(compared)}
    return replace(tables, **{name: table.with_columns(trial) for name, table in made.items()})


def tables_in(section: Section) -> list[Table]:
    return [block for block in section.blocks if isinstance(block, Table)]


def test_reasons_section_has_a_table_for_each_variant_and_direction_and_rows_of_trials_that_moved_facts() -> None:
    tables = of_published()
    found = tables_in(reasons_section(tables, summary_table(tables)))
    assert [len(table.rows) for table in found] == [1, 1, 1, 1]
    rigorous, _, released, falls = found
    assert released.caption.startswith("UK→HK. As the released code counts")
    assert released.rows[0].cells[1:] == (
        "45",
        "20.0 (10.9 to 33.8)",
        "0.0 (0.0 to 7.9)",
        "6.7 (2.3 to 17.9)",
        "8.9 (3.5 to 20.7)",
        "28.9 (17.7 to 43.4)",
    )
    assert falls.rows[0].cells[1] == "153"
    assert "non-refusal" not in str(falls.columns)
    assert "\nchance " in rigorous.rows[0].cells[-2]
    assert rigorous.rows[0].cells[1] == "44"  # one of the 45 was trained on


def test_reasons_section_is_empty_where_no_fact_moved_or_nothing_was_compared() -> None:
    tables, summary = of_published(), summary_table(study())
    assert reasons_section(study(), summary).blocks == ()
    assert tables.reasons is not None
    still = replace(tables, reasons=tables.reasons.with_columns(n=pl.lit(0, dtype=pl.Int64)))
    assert reasons_section(still, summary).blocks == ()


def test_locality_section_has_the_groups_that_there_are() -> None:
    tables = of_published()
    unchanged, net = tables_in(locality_section(tables, summary_table(tables)))
    assert [column.title for column in unchanged.columns] == ["trial", "same relation, other subject", "unrelated"]
    assert len(unchanged.rows) == len(net.rows) == 1
    assert unchanged.rows[0].cells[1].endswith("\n6 facts")
    assert locality_section(study(), summary_table(study())).blocks == ()


def test_answers_section_shows_differences_only_where_raw_answers_were_compared() -> None:
    tables = of_published()
    summary = summary_table(tables)
    _, changes = tables_in(answers_section(tables, summary, set()))
    assert len(changes.rows) == 1
    assert changes.rows[0].cells[2].startswith("\u22120.9 (")  # nine of 1,049 facts were refused
    assert changes.rows[0].cells[2].endswith("\n0.858 → 0")
    assert len(tables_in(answers_section(study(), summary, set()))) == 1
