"""The report's section on answers: how varied they are, and how many are refusals or cut short."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from kp.metrics.answer_changes import RELEASED_REFUSALS
from kp.report.document import Block, Figure, Row, Section, Table, columns
from kp.report.effects_section import untrained_right
from kp.report.labels import dagger_note
from kp.report.notation import MISSING, counted, measured, percent, points_interval
from kp.report.tables import ReportTables
from kp.report.trials_section import score_value
from kp.vocabulary import BASE

SHARES = ("refusal_rate", RELEASED_REFUSALS, "top_answer_share")
CHANGES = {
    "refusal_rate": "refusals (points)",
    RELEASED_REFUSALS: "refusals as released (points)",
    "unique_answers": "unique answers",
    "mean_count": "mean count",
    "std_count": "std of counts",
    "variance_count": "variance of counts",
    "top_answer_share": "top answer (points)",
}
CHANGED = (
    "Adapter − base over the same facts and prompts of S1, with the 95% interval of this trial alone (refusals clustered by relation and "
    "object; the others by leaving out one fact after the other), and base → adapter. Refusals as released are answers of the base and the "
    'adapter to the first prompt with the word "information".'
)


def answers_section(tables: ReportTables, summary: pl.DataFrame, pictures: set[str]) -> Section:
    """The answers of the base and of every adapter; `pictures` has the names of those that exist."""
    by_model: dict[str, dict[str, Mapping[str, Any]]] = {}
    for score in tables.scores.iter_rows(named=True):
        by_model.setdefault(score["trial_id"], {})[score["measure"]] = score
    names = {BASE: "base"} | dict(zip(summary["trial_id"], summary["label"], strict=True))
    untrained = untrained_right(tables.effects)
    rows = [
        Row(_answer_cells(name, by_model[key], untrained.get(key)), reference=key == BASE) for key, name in names.items() if key in by_model
    ]
    if not rows:
        return Section("answers", "Answers", ())
    head = columns(
        "model", "refusals (%)", "cut by length (%)", "unique answers", "mean count", "std of counts", "variance of counts",
        "top answer (%)", "right (%)", "right, untrained (%), base on the same",
    )  # fmt: skip
    caption = (
        "Over all answers on S1. A model that collapses repeats itself: fewer unique answers, a higher mean count, a larger share of its "
        "most frequent answer. Std and variance are of how often an answer occurs."
    )
    blocks: list[Block] = []
    if "answers" in pictures:
        seen = "Refusals (bars: two standard errors) and unique answers of each adapter; the line is the base model."
        blocks.append(Figure("answers", seen + dagger_note(summary)))
    return Section("answers", "Answers", (*blocks, Table(caption, head, tuple(rows)), *_changes(tables, summary)))


def _changes(tables: ReportTables, summary: pl.DataFrame) -> tuple[Table, ...]:
    """How each statistic of the answers changed, on the same facts and prompts."""
    found = tables.answer_changes
    if found is None:
        return ()
    figures = {(row["trial_id"], row["measure"]): row for row in found.iter_rows(named=True)}
    rows = tuple(
        Row((label, *(_change_cell(figures[trial_id, measure], measure in SHARES) for measure in CHANGES)))
        for trial_id, label in summary.select("trial_id", "label").iter_rows()
        if (trial_id, RELEASED_REFUSALS) in figures
    )
    return (Table(CHANGED, columns("trial", *CHANGES.values()), rows),)


def _change_cell(figure: Mapping[str, Any], share: bool) -> str:
    """The difference with its interval, and the two values; shares in points."""
    if share:
        difference = points_interval(figure["value"], figure["lower"], figure["upper"])
        return f"{difference}\n{percent(figure['base'])} → {percent(figure['adapter'])}"
    span = "" if figure["lower"] is None else f" ({_signed(figure['lower'])} to {_signed(figure['upper'])})"
    return f"{_signed(figure['value'])}{span}\n{counted(figure['base'])} → {counted(figure['adapter'])}"


def _signed(value: float) -> str:
    return measured(value) if value <= 0 else f"+{measured(value)}"


def _answer_cells(name: str, scores: Mapping[str, Mapping[str, Any]], untrained: Mapping[str, Any] | None) -> tuple[str, ...]:
    shares = {
        measure: percent(score_value(scores, measure), scores[measure]["standard_error"] if measure in scores else None)
        for measure in ("refusal_rate", "cut_by_length", "top_answer_share", "accuracy")
    }
    spread = (measured(score_value(scores, measure)) for measure in ("mean_count", "std_count", "variance_count"))
    return (
        name, shares["refusal_rate"], shares["cut_by_length"], counted(score_value(scores, "unique_answers")), *spread,
        shares["top_answer_share"], shares["accuracy"],
        f"{percent(untrained['adapter'])}\nbase {percent(untrained['base'])}" if untrained else MISSING,
    )  # fmt: skip
