"""The study's pictures, made from its tables; those over epochs are in kp.report.curves."""

from typing import Any

import polars as pl

from kp.facts.popularity import BUCKETS
from kp.report.benchmarks_section import benchmark_dots
from kp.report.capacity_curves import bits_per_parameter, recall_against_load
from kp.report.capacity_section import capacity_dots
from kp.report.curves import learning_curves, loss_curves
from kp.report.drift_section import drift_scatter
from kp.report.figure_data import (
    Dot,
    DotPanel,
    DotPanels,
    Group,
    Picture,
    Point,
    Positions,
    Scatter,
    Series,
    StackedBars,
    arm_styles,
)
from kp.report.notation import counted, learning_rate, points, with_error
from kp.report.scale_section import scale_lines
from kp.report.size_curves import scores_by_size
from kp.report.tables import ReportTables
from kp.report.where_section import where_dots
from kp.report.winners import RELIABLE, Evidence, best_trial
from kp.vocabulary import BASE, NOISE, Category, Matcher, ShiftView, ShotSet, TrialStatus

CATEGORY_COLOURS = {
    Category.HIGHLY_KNOWN: ("#0072B2", "#ffffff"),
    Category.MAYBE_KNOWN: ("#8cc5e3", "#10212b"),
    Category.UNKNOWN: ("#d9d6cf", "#2b2a27"),
}
SHIFT_COLOURS = {
    "UK->HK": ("#00553f", "#ffffff"),
    "UK->MK": ("#009E73", "#ffffff"),
    "MK->HK": ("#8fd3bd", "#10271f"),
    "HK->UK": ("#8a3d00", "#ffffff"),
    "HK->MK": ("#D55E00", "#ffffff"),
    "MK->UK": ("#f0b48a", "#2e1a0c"),
}
POSITIVE = ("UK->HK", "UK->MK", "MK->HK")


def pictures(tables: ReportTables, found: Evidence, matcher: Matcher, margin: float) -> dict[str, Picture]:
    """Every picture for which the tables have data, by the name of its file."""
    summary = found.summary
    drawn: dict[str, Picture | None] = {
        "packed_against_lost": packed_against_lost(found, margin),
        "base_categories": base_categories(tables, matcher),
        "learning_curves": learning_curves(tables, summary),
        "loss_curves": loss_curves(tables, summary),
        "shifts": shift_bars(tables, summary),
        "answers": answer_dots(tables, summary),
        "benchmarks": benchmark_dots(tables, summary),
        "scores_by_size": scores_by_size(tables, summary),
        "where": where_dots(tables, found),
        "scales": scale_lines(tables, summary),
        "capacity": capacity_dots(tables, summary),
        "recall_against_load": recall_against_load(tables, summary),
        "bits_per_parameter": bits_per_parameter(tables, summary),
        "drift": drift_scatter(found, margin),
    }
    return {name: picture for name, picture in drawn.items() if picture is not None}


def packed_against_lost(found: Evidence, margin: float) -> Scatter | None:
    """One marker per measured trial: reliability x N against the loss of knowledge on other facts, in percentage points."""
    summary = found.summary
    drawn = summary.filter(pl.col("facts_packed").is_not_null() & pl.col("knowledge_loss").is_not_null())
    if drawn.is_empty():
        return None
    positions = Positions(tuple(drawn["unknown"].to_list()))
    styles = arm_styles(summary["arm"].to_list())
    groups = []
    for arm, (colour, marker) in styles.items():
        rows = drawn.filter(pl.col("arm") == arm).iter_rows(named=True)
        groups.append(Group(arm, colour, marker, tuple(_point(row, positions) for row in rows)))
    best = best_trial(found)
    return Scatter(
        x_title="facts packed (reliability × N)",
        y_title=f"knowledge lost (right answers to {found.known_facts}, points)",
        x_ticks=positions.ticks(),
        band=100 * margin,
        groups=tuple(group for group in groups if group.points),
        best=None if best is None else best["label"],
    )


def _point(row: dict[str, Any], positions: Positions) -> Point:
    packed, packed_error = row["facts_packed"], row["facts_packed_se"]
    harm, harm_error = row["knowledge_loss"], row["knowledge_loss_se"]
    detail = (
        f"{row['arm']}, N = {row['unknown']}, rank {row['rank']}, learning rate "
        f"{learning_rate(row['learning_rate'])}, seed {row['seed']}{', stopped early' if row['status'] == TrialStatus.STOPPED else ''}"
        f"<br>packed {with_error(packed, packed_error)}<br>lost {points(harm, harm_error)} points"
    )
    return Point(
        label=row["label"],
        x=positions.place(packed),
        x_errors=positions.errors(packed, packed_error),
        y=100 * harm,
        y_error=100 * (harm_error or 0.0),
        reliable=row["reliability"] >= RELIABLE,
        stopped=row["status"] == TrialStatus.STOPPED,
        detail=detail,
    )


def base_categories(tables: ReportTables, matcher: Matcher) -> StackedBars | None:
    """Shares of the three categories: the base on each shot set, then on S0 by popularity and by relation."""
    categories = tables.base_categories.filter(pl.col("matcher") == matcher)
    rows: list[tuple[str, pl.DataFrame]] = []
    gaps = []
    for shot_set in ShotSet:
        rows.append((f"all facts, {shot_set}", categories.filter(pl.col("shot_set") == shot_set)))
    rows = [(name, frame) for name, frame in rows if len(frame)]
    gaps.append(len(rows) - 1)
    assigned = categories.filter(pl.col("shot_set") == ShotSet.S0).join(
        tables.facts.select("fact_id", "relation", "popularity"), on="fact_id"
    )
    buckets = [(name, assigned.filter(pl.col("popularity") == name)) for name in BUCKETS]
    rows += [(name, frame) for name, frame in buckets if len(frame)]
    gaps.append(len(rows) - 1)
    rows += [(name.replace("_", " "), assigned.filter(pl.col("relation") == name)) for name in sorted(assigned["relation"].unique())]
    if not rows:
        return None
    series = []
    for category, (colour, text_colour) in CATEGORY_COLOURS.items():
        counts = [int((frame["category"] == category).sum()) for _, frame in rows]
        values = tuple(100 * count / len(frame) for count, (_, frame) in zip(counts, rows, strict=True))
        texts = tuple(str(count) if count else "" for count in counts)
        series.append(Series(str(category), colour, text_colour, values, texts))
    return StackedBars("share of facts (%)", tuple(name for name, _ in rows), tuple(series), tuple(gaps))


def shift_bars(tables: ReportTables, summary: pl.DataFrame) -> StackedBars | None:
    """Gains to the right, losses to the left, in percent of all facts; the base compared with itself is the top row."""
    shifts = tables.shifts.filter(pl.col("view") == ShiftView.ALL)
    names = {NOISE: "noise (base twice)"} | dict(zip(summary["trial_id"], summary["label"], strict=True))
    present = [trial_id for trial_id in names if trial_id in set(shifts["trial_id"])]
    if not present:
        return None
    figures = {(row["trial_id"], row["shift"]): row for row in shifts.iter_rows(named=True)}
    series = []
    for shift, (colour, text_colour) in SHIFT_COLOURS.items():
        sign = 1 if shift in POSITIVE else -1
        rows = [figures.get((trial_id, shift)) for trial_id in present]
        values = tuple(sign * 100 * (row["rate"] or 0.0) if row else 0.0 for row in rows)
        texts = tuple(counted(row["count"]) if row and row["count"] else "" for row in rows)
        series.append(Series(shift.replace("->", "→"), colour, text_colour, values, texts))
    gaps = (0,) if present[0] == NOISE else ()
    return StackedBars("← fell · % of all facts · rose →", tuple(names[key] for key in present), tuple(series), gaps)


def answer_dots(tables: ReportTables, summary: pl.DataFrame) -> DotPanels | None:
    """Refusals and unique answers of each adapter, compared with the base."""
    panels = []
    for measure, title, factor in (("refusal_rate", "refusals (% of answers)", 100), ("unique_answers", "unique answers", 1)):
        base = tables.scores.filter((pl.col("trial_id") == BASE) & (pl.col("measure") == measure))
        error = f"{measure}_se" if measure == "refusal_rate" else None
        panels.append(_dots(summary, measure, error, title, factor, factor * base["value"][0] if len(base) else None, "base"))
    return _dot_panels(summary, panels)


def _dots(summary: pl.DataFrame, column: str, error: str | None, title: str, factor: float, reference: float | None, name: str) -> DotPanel:
    styles = arm_styles(summary["arm"].to_list())
    dots = []
    for row in summary.filter(pl.col(column).is_not_null()).iter_rows(named=True):
        spread = row[error] if error else None
        dots.append(Dot(row["label"], factor * row[column], _ends(column, factor, row[column], spread), *styles[row["arm"]]))
    return DotPanel(title, reference, name, tuple(dots))


def _ends(column: str, factor: float, value: float, error: float | None) -> tuple[float, float]:
    """Two standard errors to each side; a share stays within 0 and 1."""
    low, high = value - 2 * (error or 0.0), value + 2 * (error or 0.0)
    if column.endswith("_rate"):
        low, high = max(low, 0.0), min(high, 1.0)
    return factor * low, factor * high


def _dot_panels(summary: pl.DataFrame, panels: list[DotPanel]) -> DotPanels | None:
    drawn = tuple(panel for panel in panels if panel.dots)
    named = {dot.row for panel in drawn for dot in panel.dots}
    return DotPanels(tuple(label for label in summary["label"] if label in named), drawn) if drawn else None
