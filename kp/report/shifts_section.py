"""The report's section on shifts: the facts that changed category, as the paper counts them and over the facts that can show harm."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from kp.metrics.paired_tests import bowker_p
from kp.metrics.shifts import MOVES
from kp.report.document import Block, Figure, Row, Section, Table, columns
from kp.report.labels import dagger_note
from kp.report.notation import MISSING, counted, measured, share_with_interval
from kp.report.tables import ReportTables
from kp.vocabulary import GREEDY_CATEGORIES, NOISE, ShiftView

COUNTED = (
    "% with Wilson's 95% interval, and the number of facts; p is that of rises and falls that are equally many (each fact for itself). On "
    "the same prompts: any adapter that changes answers has some."
)
VIEWS = {
    ShiftView.ALL: f"As the paper counts, over all measured facts, including trained ones: {COUNTED}",
    ShiftView.AT_RISK: "Over the facts at risk: only those whose category before could have moved that way are in the denominator.",
    ShiftView.UNTRAINED: "Without the facts the trial trained on. The noise row is over all facts.",
    ShiftView.CONTROL: "Over control facts, which no trial trained on. The noise row is over all facts.",
}
SHIFTS = ("UK->HK", "UK->MK", "MK->HK", "positive", "HK->UK", "HK->MK", "MK->UK", "negative")


def shifts_section(tables: ReportTables, summary: pl.DataFrame, pictures: set[str]) -> Section:
    """A table for each set of facts over which shifts are counted; `pictures` has the names of those that exist."""
    blocks: list[Block] = []
    if "shifts" in pictures:
        caption = (
            "Facts that changed category between the base and the adapter, over all measured facts; a bar's number is their count. "
            "The top row is the base model asked twice: anything within its length is noise."
        )
        blocks.append(Figure("shifts", caption + dagger_note(summary)))
    figures = {(row["trial_id"], row["view"], row["shift"]): row for row in tables.shifts.iter_rows(named=True)}
    names = dict(zip(summary["trial_id"], summary["label"], strict=True))
    for view, caption in VIEWS.items():
        rows = [_shift_row(name, trial_id, view, figures) for trial_id, name in names.items()]
        found = [row for row in rows if row is not None]
        if not found:
            continue
        noise = _noise_row(view, figures)
        head = columns("trial", *(shift.replace("->", "→") for shift in SHIFTS), "p (Bowker)")
        blocks.append(Table(caption, head, tuple(([] if noise is None else [noise]) + found)))
    return Section("shifts", "Shifts", tuple(blocks))


def _noise_row(view: ShiftView, figures: Mapping[tuple[str, str, str], Mapping[str, Any]]) -> Row | None:
    name = "noise (base twice)"
    row = _shift_row(name, NOISE, ShiftView.ALL if view in (ShiftView.UNTRAINED, ShiftView.CONTROL) else view, figures)
    return None if row is None else Row(row.cells, reference=True)


def _shift_row(name: str, trial_id: str, view: ShiftView, figures: Mapping[tuple[str, str, str], Mapping[str, Any]]) -> Row | None:
    cells = []
    for shift in SHIFTS:
        figure = figures.get((trial_id, view, shift))
        if figure is None:
            cells.append(MISSING)
        else:
            cells.append(f"{share_with_interval(figure['count'], figure['n'])}\n{counted(figure['count'])} of {figure['n']:,}")
    return None if set(cells) == {MISSING} else Row((name, *cells, _symmetry(trial_id, view, figures)))


def _symmetry(trial_id: str, view: ShiftView, figures: Mapping[tuple[str, str, str], Mapping[str, Any]]) -> str:
    """Bowker's test of the moves between the three categories: small if as many facts do not move one way as the other."""
    moved = np.zeros((len(GREEDY_CATEGORIES), len(GREEDY_CATEGORIES)), dtype=np.int64)
    for shift, pairs in MOVES.items():
        if len(pairs) == 1:
            ((before, after),) = pairs
            moved[GREEDY_CATEGORIES.index(before), GREEDY_CATEGORIES.index(after)] = figures[trial_id, view, shift]["count"]
    return measured(bowker_p(moved))
