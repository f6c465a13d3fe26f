"""How far each adapter moved what the model expects of ordinary text, and whether that goes with the loss of known facts."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from kp.metrics.drift import NEUTRAL, QUESTIONS, registers_of
from kp.report.document import Block, Figure, Row, Section, Table, Text, columns
from kp.report.figure_data import Group, Point, Scatter, arm_styles
from kp.report.notation import MISSING, measured, points
from kp.report.tables import ReportTables
from kp.report.winners import RELIABLE, Evidence
from kp.vocabulary import TrialStatus

HEAD = (
    "KL a token, neutral text (nats)",
    "perplexity, neutral text",
    "base",
    "ratio",
    "KL a token, questions (nats)",
    "perplexity ratio, questions",
)

Figures = Mapping[tuple[str, float, str], Mapping[str, Any]]  # rows of DRIFT_SUMMARY by trial, scale and register


def drift_section(tables: ReportTables, found: Evidence, pictures: set[str]) -> Section:
    """One row a trial and scale; empty if the study does not measure drift."""
    drift = tables.drift_summary
    if drift is None or drift.is_empty():
        return Section("drift", "Drift", ())
    figures = {(row["trial_id"], row["scale"], row["register"]): row for row in drift.iter_rows(named=True)}
    rows = _adapters(figures, found)
    blocks: list[Block] = [Text(_explained(figures)), Text(_range(figures, rows))]
    if "drift" in pictures:
        seen = (
            f"Drift on neutral text against the loss of {found.known_facts}, one marker an adapter, with one standard error each way. An "
            "adapter to the right with little loss has changed how the model writes more than what it knows."
        )
        blocks.append(Figure("drift", seen))
    caption = (
        "KL(base || adapter) over the whole vocabulary, and the adapter's perplexity by the base's; in brackets 95% intervals of each "
        "adapter alone, clustered by text. A ratio whose interval lies above 1: it predicts such text worse than the base does."
    )
    blocks.append(Table(caption, columns("trial", *HEAD), tuple(Row((name, *_cells(figures, *key))) for key, name in rows.items())))
    blocks.append(_by_register(figures, rows, registers_of(drift)))
    return Section("drift", "Drift from the base model", tuple(blocks))


def _adapters(figures: Figures, found: Evidence) -> dict[tuple[str, float], str]:
    """Trial and scale -> name of the row."""
    measured_at = sorted({(trial_id, scale) for trial_id, scale, _ in figures})
    return {
        (row["trial_id"], scale): row["label"] if scale == 1 else f"{row['label']}, at scale {scale:g}"
        for row in found.summary.iter_rows(named=True)
        for trial_id, scale in measured_at
        if trial_id == row["trial_id"]
    }


def _explained(figures: Figures) -> str:
    read = {register: row for (_, _, register), row in figures.items()}
    questions = read.get(QUESTIONS)
    and_questions = f" and on {questions['texts']:,} of the study's questions" if questions else ""
    return (
        "What the model expects of each next token was compared with and without the adapter, over the whole vocabulary, on "
        f"{read[NEUTRAL]['texts']:,} passages of neutral text ({read[NEUTRAL]['tokens']:,} tokens){and_questions}. It is 0 for an adapter "
        "that changes nothing, and needs no right answers: it shows change where no question is asked."
    )


def _range(figures: Figures, rows: Mapping[tuple[str, float], str]) -> str:
    """One sentence: least and most drift of adapters as trained, and how many read worse than the base."""
    whole = [figures[trial_id, scale, NEUTRAL] for trial_id, scale in rows if scale == 1 and (trial_id, scale, NEUTRAL) in figures]
    if not whole:
        return "No adapter as trained was compared."
    least, most = min(row["kl"] for row in whole), max(row["kl"] for row in whole)
    worse = sum(row["ratio_lower"] is not None and row["ratio_lower"] > 1 for row in whole)
    spread = measured(least) if len(whole) == 1 else f"from {measured(least)} to {measured(most)}"
    return (
        f"Drift on neutral text is {spread} nats a token; {worse} of {len(whole)} {'adapter' if len(whole) == 1 else 'adapters'} "
        "predict it worse than the base, beyond the 95% interval of each alone."
    )


def _cells(figures: Figures, trial_id: str, scale: float) -> tuple[str, ...]:
    neutral, questions = (figures.get((trial_id, scale, register)) for register in (NEUTRAL, QUESTIONS))
    own = (measured(neutral["perplexity"]), measured(neutral["base_perplexity"])) if neutral else (MISSING, MISSING)
    return _interval(neutral, "kl"), *own, _interval(neutral, "ratio"), _interval(questions, "kl"), _interval(questions, "ratio")


def _interval(row: Mapping[str, Any] | None, name: str) -> str:
    if row is None:
        return MISSING
    lower, upper = (row[f"{name}_{end}" if name == "ratio" else end] for end in ("lower", "upper"))
    return measured(row[name]) + ("" if lower is None else f" ({measured(lower)} to {measured(upper)})")


def _by_register(figures: Figures, rows: Mapping[tuple[str, float], str], registers: list[str]) -> Table:
    caption = "KL a token (nats) by register of the neutral text. Exploratory: a register has few passages."
    cells = {key: [figures.get((*key, register)) for register in registers] for key in rows}
    return Table(
        caption,
        columns("trial", *(register.replace("_", " ") for register in registers)),
        tuple(Row((name, *(MISSING if row is None else measured(row["kl"]) for row in cells[key]))) for key, name in rows.items()),
    )


def drift_scatter(found: Evidence, margin: float) -> Scatter | None:
    """One marker per measured trial: KL a token on neutral text against the loss of known facts, in points; None without drift."""
    if "drift" not in found.summary.columns:
        return None
    drawn = found.summary.filter(pl.col("drift").is_not_null() & pl.col("knowledge_loss").is_not_null())
    if drawn.is_empty():
        return None
    groups = [
        Group(arm, colour, marker, tuple(_point(row) for row in drawn.filter(arm=arm).iter_rows(named=True)))
        for arm, (colour, marker) in arm_styles(found.summary["arm"].to_list()).items()
    ]
    return Scatter(
        x_title="drift on neutral text (KL a token, nats)",
        y_title=f"knowledge lost (right answers to {found.known_facts}, points)",
        x_ticks=(),
        band=100 * margin,
        groups=tuple(group for group in groups if group.points),
        best=None,
    )


def _point(row: Mapping[str, Any]) -> Point:
    error = row["drift_se"] or 0.0
    loss, loss_error = row["knowledge_loss"], row["knowledge_loss_se"]
    return Point(
        label=row["label"],
        x=row["drift"],
        x_errors=(min(error, row["drift"]), error),
        y=100 * loss,
        y_error=100 * (loss_error or 0.0),
        reliable=(row["reliability"] or 0.0) >= RELIABLE,
        stopped=row["status"] == TrialStatus.STOPPED,
        detail=f"{row['label']}<br>drift {measured(row['drift'])} nats a token<br>lost {points(loss, loss_error)} points",
    )
