"""The report's section on locality: what happened to the neighbours of trained facts, and to facts that have nothing to do with them."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from kp.metrics.locality import LocalityMeasure, Neighbours
from kp.metrics.reversal import Asked
from kp.report.document import Row, Section, Table, columns
from kp.report.notation import MISSING, points_interval
from kp.report.tables import ReportTables

TITLES = {
    Neighbours.SAME_SUBJECT: "same subject, other relation",
    Neighbours.SAME_RELATION: "same relation, other subject",
    Neighbours.SAME_DOMAIN: "same domain, other relation",
    Neighbours.UNRELATED: "unrelated",
}
CAPTIONS = {
    LocalityMeasure.UNCHANGED: "Share of answers that say what the base says to the same prompt of S1 (%), with the 95% interval, by what "
    "a fact shares with the trained facts; facts that were trained on or replayed are left out. An adapter that changes nothing has 100",
    LocalityMeasure.NET_CHANGE: "Net change of right answers to the same facts: adapter − base, in points with the 95% interval",
}

Figures = Mapping[tuple[str, str, str], Mapping[str, Any]]


def locality_section(tables: ReportTables, summary: pl.DataFrame) -> Section:
    """A table for each measure of locality, and one of reversed questions; a row for each trial."""
    return Section("locality", "Locality", (*_neighbours(tables, summary), *_reversed(tables, summary)))


def _neighbours(tables: ReportTables, summary: pl.DataFrame) -> tuple[Table, ...]:
    """With the groups that any trial has."""
    found = tables.locality
    if found is None or found.is_empty():
        return ()
    figures: Figures = {(row["trial_id"], row["measure"], row["neighbours"]): row for row in found.iter_rows(named=True)}
    names = dict(zip(summary["trial_id"], summary["label"], strict=True))
    shown = [group for group in Neighbours if group.value in set(found["neighbours"])]
    head = columns("trial", *(TITLES[group] for group in shown))
    tabled = []
    for measure, caption in CAPTIONS.items():
        rows = tuple(
            Row((name, *(_cell(figures.get((trial_id, measure.value, group.value)), measure) for group in shown)))
            for trial_id, name in names.items()
            if trial_id in set(found["trial_id"])
        )
        tabled.append(Table(f"{caption}.", head, rows))
    return tuple(tabled)


def _reversed(tables: ReportTables, summary: pl.DataFrame) -> tuple[Table, ...]:
    found = tables.reversal
    if found is None or found.is_empty():
        return ()
    rows_of = {(row["trial_id"], row["facts"]): row for row in found.iter_rows(named=True)}
    rows = []
    for trial_id, name in summary.select("trial_id", "label").iter_rows():
        cells = [_reversed_cells(rows_of.get((trial_id, group.value))) for group in Asked]
        if any(cell != MISSING for group in cells for cell in group):
            rows.append(Row((name, *(cell for group in cells for cell in group))))
    titles = [title for group in Asked for title in (f"{group}: right (%)", f"{group}: adapter \u2212 base (points)")]
    caption = (
        "Reversed questions on S1, which ask for the subject given the object: right answers of the adapter, and the difference to the "
        "base over the same questions, with 95% intervals. Untaught facts are Unknown ones that the trial did not train on."
    )
    return (Table(caption, columns("trial", *titles), tuple(rows)),)


def _reversed_cells(row: Mapping[str, Any] | None) -> tuple[str, str]:
    if row is None:
        return MISSING, MISSING
    facts = f"\n{row['n']:,} fact{'s' if row['n'] != 1 else ''}"
    return _share(row["adapter"], row["adapter_lower"], row["adapter_upper"]) + facts, points_interval(
        row["value"], row["lower"], row["upper"]
    )


def _cell(figure: Mapping[str, Any] | None, measure: LocalityMeasure) -> str:
    if figure is None:
        return MISSING
    facts = f"\n{figure['n']:,} facts"
    if measure is LocalityMeasure.NET_CHANGE:
        return points_interval(figure["value"], figure["lower"], figure["upper"]) + facts
    return _share(figure["value"], figure["lower"], figure["upper"]) + facts


def _share(value: float, lower: float | None, upper: float | None) -> str:
    span = "" if lower is None or upper is None else f" ({100 * lower:.1f} to {100 * upper:.1f})"
    return f"{100 * value:.1f}{span}"
