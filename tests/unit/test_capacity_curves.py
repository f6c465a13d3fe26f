"""Curves of capacity in a report: the range that was measured, a line a rank, and no number that trials do not determine."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from kp.metrics.result_schema import CAPACITY
from kp.report.capacity_curves import CAPTIONS, bits_per_parameter, fit_sentences, loaded_trials, range_sentences, recall_against_load
from kp.report.summary import summary_table
from kp.report.tables import ReportTables
from kp.report.writing import write_report
from tests.made_up_study import context, frame_of, study, told

STUDY = study()


def with_capacity(entropy: float | None = 10.0) -> ReportTables:
    """The trials that have an adapter, with 31 bits a fact under the base, of which they memorised 7."""
    rows = [
        {"trial_id": trial_id, "facts": size, "parameters": 1000, "held_bits": 31.0 * size, "memorised_bits": 7.0 * size}
        | {"lower": 6.5 * size, "upper": 7.5 * size, "per_fact": 7.0, "per_parameter": 7.0 * size / 1000, "load": 31.0 * size / 1000}
        | {"entropy": entropy, "untaught_gain": 18.0, "untaught_facts": 30, "stand_ins": 0, "end_loss": 0.1}
        | {"recall": 0.75, "recall_lower": 0.6, "recall_upper": 0.9, "untaught_recall": 0.0}
        for trial_id, size in STUDY.trials.filter(status="completed").select("trial_id", "unknown").iter_rows()
    ]
    return replace(STUDY, capacity=frame_of(rows, CAPACITY))


def trials(tables: ReportTables) -> pl.DataFrame:
    return loaded_trials(tables, summary_table(tables))


def test_study_without_surprisal_has_no_curves() -> None:
    assert loaded_trials(STUDY, summary_table(STUDY)).is_empty()
    assert recall_against_load(STUDY, summary_table(STUDY)) is None


def test_load_counts_the_entropy_of_facts_where_it_is_known_and_else_their_surprisal() -> None:
    assert trials(with_capacity())["load"].to_list()[:2] == pytest.approx([0.1, 0.4])
    assert trials(with_capacity(None))["load"].to_list()[:2] == pytest.approx([0.31, 1.24])


def test_range_names_the_loads_and_exposures_that_were_measured() -> None:
    known, unknown = (range_sentences(trials(with_capacity(entropy))) for entropy in (10.0, None))
    assert "Measured at 0.100 to 0.400 bits to learn a parameter (of each fact, the entropy" in known
    assert "its surprisal under the base, an upper bound" in unknown
    assert "at 7.00 to 14.0 exposures a fact" in known


def test_report_of_adapters_that_answered_nothing_begins_with_the_most_bits_a_parameter() -> None:
    unasked = replace(with_capacity(), scores=STUDY.scores.clear())
    assert told(unasked).startswith("Adapters answered no questions; of 5 measured trials, N=40")
    assert "0.280 (0.260 to 0.300) bits a parameter, 7.00 bits of each of 40 facts after" in told(unasked)
    assert not told(with_capacity()).startswith("Adapters answered")


def test_two_loads_give_no_curve_and_say_why() -> None:
    said = fit_sentences(trials(with_capacity()))
    assert "No curve of recall against load: 2 different loads, and a curve needs 4." in said
    assert "No curve of capacity against rank: 2 different loads, and a curve needs 4." in said


def test_pictures_have_a_line_for_each_rank_over_a_logarithmic_axis() -> None:
    tables = with_capacity()
    recall, bits = (draw(tables, summary_table(tables)) for draw in (recall_against_load, bits_per_parameter))
    assert recall is not None
    assert bits is not None
    (line,) = bits.panels[0].lines
    assert line.x[0] == pytest.approx(3.3219, abs=1e-3)  # log2 of 10 facts
    assert (line.y[0], line.low[0], line.high[0]) == pytest.approx((0.07, 0.065, 0.075))
    assert recall.panels[0].lines[0].y[0] == 75.0
    assert bits.y_range[0] < 0 < max(one for one in line.high if one is not None) < bits.y_range[1]


def test_report_with_capacity_is_written_with_its_pictures_and_sentences(tmp_path: Path) -> None:
    write_report(with_capacity(), context(), tmp_path)
    assert {f"{name}.png" for name in CAPTIONS} <= {file.name for file in (tmp_path / "figures").iterdir()}
    assert "exposures a fact; nothing is said of other loads." in (tmp_path / "report.md").read_text(encoding="utf-8")
