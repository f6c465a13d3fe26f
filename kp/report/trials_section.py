"""The table of all trials: their settings, how each ended, what it packed and what it cost."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from kp.benchmarks.registry import Score
from kp.metrics.benchmark_chance import at_chance
from kp.report.document import Row, Section, Table, columns
from kp.report.labels import KNOBS, STOPPED_MARK, knob_value, marked, varied_knobs
from kp.report.notation import MISSING, counted, learning_rate, measured, percent, points_interval, with_error
from kp.report.summary import measured_scores
from kp.report.tables import ReportTables
from kp.report.winners import STOPPED, Evidence
from kp.vocabulary import BASE, TrialStatus, Verdict


def trials_section(tables: ReportTables, found: Evidence) -> Section:
    """Every trial with N, mix, rank, learning rate, and the other knobs that differ between trials."""
    summary = found.summary
    knobs, guessed = _knobs_beside_mix(summary), at_chance(tables.benchmarks)
    scores = [score for benchmark, score in measured_scores(tables.benchmarks) if (benchmark.task, score.metric) not in guessed]
    cells = [_trial_cells(row, knobs, scores) for row in summary.iter_rows(named=True)]
    without = {"seed"} if summary["seed"].n_unique() < 2 else set()
    without |= {"generality ± s.e."} if summary["generality"].null_count() == len(summary) else set()
    titles = [title for title in (cells[0] if cells else ()) if title not in without]
    notes = [_note(row) for row in summary.iter_rows(named=True)]
    rows = [Row(tuple(cell[title] for title in titles), note=note) for cell, note in zip(cells, notes, strict=True)]
    base = _base_cells(tables)
    if base and titles:
        rows.insert(0, Row(tuple(base.get(title, MISSING) for title in titles), reference=True))
    caption = (
        "Every trial, failed ones included with their cause. Δ is the difference to the base, with its 95% interval; ± is one standard "
        "error. A star marks a loss of known facts that is a harm shown, with Holm's correction over the trials. Scores on which the "
        "base is at chance are left out."
    )
    if len(summary.filter(STOPPED)):
        caption += (
            f" {STOPPED_MARK} was stopped early by the scheduler: it trained for fewer epochs, so its harm is not that of a finished trial."
        )
    return Section("trials", "Trials", (Table(caption, columns(*titles, words=3), tuple(rows)),) if titles else ())


def _knobs_beside_mix(summary: pl.DataFrame) -> list[str]:
    """The knobs that differ between trials, less those that follow from the mix and stand in its name."""
    arms = summary["arm"].unique().to_list()
    of_arm = summary.group_by("arm").agg(pl.col(name).n_unique() for name in KNOBS)
    follow = {name for name in KNOBS if of_arm[name].max() == 1 and any(f", {KNOBS[name]} " in arm for arm in arms)}
    return [name for name in varied_knobs(summary) if name not in follow]


def _note(row: Mapping[str, Any]) -> str | None:
    """Why a trial did not finish."""
    unfinished = row["cause"] and row["status"] != TrialStatus.COMPLETED
    return f"{row['trial_id']}, {row['status']}: {row['cause']}" if unfinished else None


def _base_cells(tables: ReportTables) -> dict[str, str]:
    """The cells of the base; empty if it was not scored."""
    scores = {row["measure"]: row for row in tables.scores.filter(pl.col("trial_id") == BASE).iter_rows(named=True)}
    if not scores:
        return {}
    measured_cells = {
        "refusals (%)": percent(score_value(scores, "refusal_rate")),
        "unique answers": counted(score_value(scores, "unique_answers")),
    }
    return {"trial": "base", "mix": "no adapter"} | measured_cells


def _trial_cells(row: Mapping[str, Any], knobs: list[str], scores: list[Score]) -> dict[str, str]:
    """A trial's cells by the title of their column, in order."""
    return {
        "trial": str(row["trial_id"]),
        "mix": str(row["arm"]),
        "status": f"{row['status']}{marked(row['status'])}",
        "N": str(row["unknown"]),
        "rank": str(row["rank"]),
        "learning rate": learning_rate(row["learning_rate"]),
        **{KNOBS[name]: knob_value(row[name]) for name in knobs},
        "seed": str(row["seed"]),
        "epochs": f"{row['epochs']} of {row['max_epochs']}",
        "unknown_ accuracy": measured(row["unknown_accuracy"]),
        "reliability ± s.e.": with_error(row["reliability"], row["reliability_se"]),
        "generality ± s.e.": with_error(row["generality"], row["generality_se"]),
        "facts packed": measured(row["facts_packed"]),
        "loss of known facts (points)": _loss_cell(row),
        "refusals (%)": percent(row["refusal_rate"]),
        "unique answers": counted(row["unique_answers"]),
        **_benchmark_cells(row, scores),
    }


def _loss_cell(row: Mapping[str, Any]) -> str:
    """The loss with its interval, starred if the verdict over the trials is that harm is shown."""
    if row["knowledge_loss"] is None:
        return MISSING
    text = points_interval(row["knowledge_loss"], row["knowledge_loss_lower"], row["knowledge_loss_upper"])
    return f"{text}*" if row["knowledge_loss_verdict"] == Verdict.HARM_SHOWN else text


def _benchmark_cells(row: Mapping[str, Any], scores: list[Score]) -> dict[str, str]:
    return {
        delta_title(score): points_interval(*(row[f"{score.column}_delta{ending}"] for ending in ("", "_lower", "_upper")))
        for score in scores
    }


def delta_title(score: Score) -> str:
    """The title of the column with a score's difference to the base."""
    return f"{score.title} Δ (points)"


def score_value(scores: Mapping[str, Mapping[str, Any]], measure: str) -> float | None:
    return scores[measure]["value"] if measure in scores else None
