"""The report's section on locality: what happened to the neighbours of trained facts, and to facts that have nothing to do with them."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from kp.metrics.locality import LocalityMeasure, Neighbours
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
    """A table for each measure, a row for each trial, with the groups that any trial has."""
    found = tables.locality
    if found is None or found.is_empty():
        return Section("locality", "Locality", ())
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
    return Section("locality", "Locality", tuple(tabled))


def _cell(figure: Mapping[str, Any] | None, measure: LocalityMeasure) -> str:
    if figure is None:
        return MISSING
    facts = f"\n{figure['n']:,} facts"
    if measure is LocalityMeasure.NET_CHANGE:
        return points_interval(figure["value"], figure["lower"], figure["upper"]) + facts
    span = "" if figure["lower"] is None else f" ({100 * figure['lower']:.1f} to {100 * figure['upper']:.1f})"
    return f"{100 * figure['value']:.1f}{span}{facts}"
