"""Drift in tables and reports: none of an adapter that changes nothing, and intervals that hold."""

import dataclasses
import math

import numpy as np
import polars as pl
import pytest

from kp.metrics.drift import NEUTRAL, QUESTIONS, drift_summary
from kp.metrics.intervals import estimate_mean, estimate_ratio
from kp.metrics.result_schema import DRIFT_SUMMARY
from kp.report.document import Table, Text
from kp.report.drift_section import drift_scatter, drift_section
from kp.report.summary import summary_table
from kp.report.tables import ReportTables
from kp.schema import DRIFT
from tests.made_up_study import found_in, frame_of, study

TABLES = study()
TRIALS = TABLES.effects["trial_id"].unique().sort().to_list()
REGISTERS = ("news", "poems", QUESTIONS)


def drift_of(trial_id: str, kl: float, extra: float, scale: float = 1.0, texts: int = 6) -> pl.DataFrame:
    """DRIFT of one adapter on texts of 10, 20, ... tokens of each register: these nats a token on average, with some spread."""
    rows = [
        {
            "trial_id": trial_id,
            "scale": scale,
            "text": f"{register}-{number}",
            "register": register,
            "tokens": 10 * number,
            "kl": kl * 10 * number * (1 + (-1) ** number / 4),
            "nll": (3 + extra) * 10 * number,
            "base_nll": 3.0 * 10 * number,
        }
        for register in REGISTERS
        for number in range(1, texts + 1)
    ]
    return frame_of(rows, DRIFT)


def only(summary: pl.DataFrame, register: str) -> dict[str, float]:
    return summary.row(by_predicate=pl.col("register") == register, named=True)


def with_drift(drift: pl.DataFrame) -> ReportTables:
    return dataclasses.replace(TABLES, drift=drift, drift_summary=drift_summary(drift))


def test_adapter_that_changes_nothing_has_no_drift_and_the_perplexity_of_its_base() -> None:
    for row in drift_summary(drift_of("t", 0.0, 0.0)).iter_rows(named=True):
        assert (row["kl"], row["lower"], row["upper"], row["standard_error"]) == (0.0, 0.0, 0.0, 0.0)
        assert row["perplexity"] == row["base_perplexity"] == pytest.approx(math.exp(3))
        assert (row["ratio"], row["ratio_lower"], row["ratio_upper"]) == (1.0, 1.0, 1.0)


def test_summary_is_over_tokens_and_has_all_neutral_text_the_questions_and_each_register() -> None:
    drift = drift_of("t", 0.1, 0.2)
    summary = drift_summary(drift)
    assert summary.to_arrow().cast(DRIFT_SUMMARY).schema == DRIFT_SUMMARY
    assert summary["register"].to_list() == [NEUTRAL, QUESTIONS, "news", "poems"]
    neutral, read = only(summary, NEUTRAL), drift.filter(pl.col("register") != QUESTIONS)
    assert (neutral["texts"], neutral["tokens"]) == (12, 420)
    assert neutral["kl"] == pytest.approx(read["kl"].sum() / 420)
    assert 0 < neutral["lower"] < neutral["kl"] < neutral["upper"]
    assert neutral["ratio"] == pytest.approx(math.exp(0.2))
    assert neutral["perplexity"] == pytest.approx(math.exp(3.2))


def test_text_of_one_token_predicts_none_and_does_not_count() -> None:
    drift = drift_of("t", 0.1, 0.2)
    empty = drift.head(1).with_columns(text=pl.lit("empty"), tokens=pl.lit(0, pl.Int64), kl=0.0, nll=0.0, base_nll=0.0)
    assert drift_summary(pl.concat([drift, empty])).equals(drift_summary(drift))


def test_single_text_has_no_interval_and_a_broken_adapter_an_infinite_perplexity() -> None:
    row = only(drift_summary(drift_of("t", 0.1, 800.0, texts=1)), "news")
    assert (row["lower"], row["ratio_lower"]) == (None, None)
    assert row["perplexity"] == row["ratio"] == math.inf


def test_ratio_of_sums_is_the_mean_over_the_items_of_all_clusters() -> None:
    random = np.random.default_rng(0)
    sizes = random.integers(1, 9, 30)
    values, clusters = random.exponential(size=sizes.sum()), np.repeat(np.arange(30), sizes)
    expected = estimate_mean(np.minimum(values, 1), clusters)
    found = estimate_ratio(np.bincount(clusters, np.minimum(values, 1)), sizes)
    assert found.limits() == pytest.approx(expected.limits())
    assert (found.value, found.n, found.clusters) == (pytest.approx(expected.value), expected.n, expected.clusters)
    with pytest.raises(ValueError, match="no items"):
        estimate_ratio([0.0], [0])


def test_interval_of_skewed_drift_covers_the_truth() -> None:
    random = np.random.default_rng(1)
    truth = math.exp(0.5**2 / 2)  # mean of the log-normal
    covered = []
    for _ in range(2000):
        sizes = random.integers(80, 220, 16)
        limits = estimate_ratio(sizes * random.lognormal(0, 0.5, 16), sizes, (0, math.inf)).limits()
        assert limits is not None
        covered.append(limits[0] <= truth <= limits[1])
    assert 0.91 < np.mean(covered) < 0.98


def test_summary_has_the_drift_of_adapters_as_trained_on_neutral_text() -> None:
    trial = TRIALS[-1]
    summary = summary_table(with_drift(pl.concat([drift_of(trial, 0.1, 0.2), drift_of(trial, 0.01, 0.0, scale=0.5)])))
    row = summary.row(by_predicate=pl.col("trial_id") == trial, named=True)
    assert row["drift"] == pytest.approx(only(drift_summary(drift_of(trial, 0.1, 0.2)), NEUTRAL)["kl"])
    assert row["drift_lower"] < row["drift"] < row["drift_upper"]
    assert summary["drift"].null_count() == len(summary) - 1
    assert "drift" not in summary_table(TABLES).columns


def test_section_has_a_row_an_adapter_and_scale_and_says_who_reads_worse() -> None:
    first, second = TRIALS[:2]
    drift = pl.concat([drift_of(first, 0.1, 0.2), drift_of(first, 0.01, 0.01, scale=0.5), drift_of(second, 0.0, 0.0)])
    tables = with_drift(drift)
    section = drift_section(tables, found_in(tables), {"drift"})
    table, registers = (block for block in section.blocks if isinstance(block, Table))
    assert len(table.rows) == len(registers.rows) == 3
    assert [column.title for column in registers.columns] == ["trial", "news", "poems"]
    assert sum("at scale 0.5" in row.cells[0] for row in table.rows) == 1
    said = " ".join(block.text for block in section.blocks if isinstance(block, Text))
    assert "1 of 2 adapters predict it worse" in said
    assert drift_section(TABLES, found_in(TABLES), set()).blocks == ()


def test_picture_has_a_marker_an_adapter_whose_drift_and_loss_are_known() -> None:
    tables = with_drift(pl.concat([drift_of(trial, 0.1 * place, 0.1) for place, trial in enumerate(TRIALS)]))
    found = found_in(tables)
    picture = drift_scatter(found, 0.02)
    assert picture is not None
    points = [point for group in picture.groups for point in group.points]
    assert len(points) == len(found.summary.filter(pl.col("drift").is_not_null() & pl.col("knowledge_loss").is_not_null()))
    assert drift_scatter(found_in(TABLES), 0.02) is None
