"""Learning over epochs as small multiples: one panel per mix, as in figure 2 of the paper, with shared axes.

Colour shows N if the study has several, otherwise the rank; the dash shows the learning rate; the marker shows the rank if colour does not.
A curve is the mean over the seeds of one configuration. A seed that finished early keeps its last value for later epochs, because that is
the adapter it produced. Curves of seeds that were cut short end where the shortest of them ended.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from kp.report.figure_data import (
    ARM_COLOURS,
    CUT_SHORT,
    DASHES,
    MARKERS,
    QUIET_COLOUR,
    THICK,
    THIN,
    Line,
    LineKey,
    LinePanel,
    LinePanels,
)
from kp.report.labels import KNOBS, free_knobs, knob_value
from kp.report.notation import learning_rate
from kp.report.tables import ReportTables
from kp.vocabulary import TrialStatus

MANY_LINES = 12  # in a panel: with more lines, those that were cut short are grey and thin
UNKNOWN_ACCURACY = "unknown_accuracy (share of facts)"
TICK_STEPS = (1, 2, 5, 10, 20, 50, 100)
MOST_TICKS = 10

Row = Mapping[str, Any]


@dataclass(frozen=True)
class _Curve:
    """The trials of one configuration that ended in the same way, and their values by epoch."""

    first: Row  # of the summary; its knobs are those of all
    name: str
    epochs: tuple[int, ...]
    runs: tuple[tuple[float | None, ...], ...]  # a seed each, as long as `epochs`
    cut_short: bool


def learning_curves(tables: ReportTables, summary: pl.DataFrame) -> LinePanels | None:
    """unknown_accuracy by epoch."""
    return _panels(_curves(tables, summary, "unknown_accuracy"), summary, UNKNOWN_ACCURACY, (-0.03, 1.03))


def loss_curves(tables: ReportTables, summary: pl.DataFrame) -> LinePanels | None:
    """Training loss by epoch."""
    curves = _curves(tables, summary, "train_loss")
    highest = max((value for curve in curves for run in curve.runs for value in run if value is not None), default=0.0) or 1.0
    return _panels(curves, summary, "training loss (nats per token)", (-0.03 * highest, 1.05 * highest))


def _curves(tables: ReportTables, summary: pl.DataFrame, column: str) -> list[_Curve]:
    free = free_knobs(summary)
    by_trial = {key[0]: frame.sort("epoch") for key, frame in tables.epochs.group_by("trial_id")}
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in summary.iter_rows(named=True):
        if row["trial_id"] in by_trial:
            cut_short = row["status"] != TrialStatus.COMPLETED
            key = (row["arm"], row["unknown"], row["rank"], row["learning_rate"], *(row[name] for name in free), cut_short)
            groups.setdefault(key, []).append(row)
    curves = []
    for key, rows in groups.items():
        frames = [by_trial[row["trial_id"]] for row in rows]
        cut_short = bool(key[-1])
        lengths = [frame.height for frame in frames]
        length = min(lengths) if cut_short else max(lengths)
        longest = frames[lengths.index(max(lengths))]
        epochs = tuple(longest["epoch"][:length].to_list())
        runs = tuple(_run(frame[column].to_list(), length) for frame in frames)
        curves.append(_Curve(rows[0], _name(rows, free), epochs, runs, cut_short))
    return curves


def _run(values: Sequence[float | None], length: int) -> tuple[float | None, ...]:
    """One seed's values over `length` epochs; the last one is repeated."""
    finite = [value if value is not None and math.isfinite(value) else None for value in values[:length]]
    return tuple(finite + finite[-1:] * (length - len(finite)))


def _name(rows: Sequence[Row], free: list[str]) -> str:
    row = rows[0]
    others = "".join(f", {KNOBS[name]} {knob_value(row[name])}" for name in free)
    seeds = f", {len(rows)} seeds" if len(rows) > 1 else ""
    endings = ", ".join(sorted({each["status"] for each in rows} - {TrialStatus.COMPLETED.value}))
    rate = learning_rate(row["learning_rate"])
    return f"N = {row['unknown']}, rank {row['rank']}, learning rate {rate}{others}{seeds}" + (f" ({endings})" if endings else "")


@dataclass(frozen=True)
class _Styles:
    """Which visual property of a curve shows which knob."""

    colour_by: str  # column of the summary
    colours: Mapping[int, str]
    dashes: Mapping[float, str]  # by learning rate; empty if there are too many to distinguish
    markers: Mapping[int, str]  # by rank; empty if colour shows it

    def group(self, row: Row) -> str:
        return f"{'N = ' if self.colour_by == 'unknown' else 'rank '}{row[self.colour_by]:,}"


def _styles(summary: pl.DataFrame) -> _Styles:
    sizes, ranks = sorted(summary["unknown"].unique()), sorted(summary["rank"].unique())
    rates = sorted(summary["learning_rate"].unique())
    by_size = len(sizes) > 1
    colours = {value: ARM_COLOURS[place % len(ARM_COLOURS)] for place, value in enumerate(sizes if by_size else ranks)}
    dashes = dict(zip(rates, reversed(DASHES[: len(rates)]), strict=True)) if len(rates) <= len(DASHES) else {}
    markers = dict(zip(ranks, MARKERS, strict=False)) if by_size and 1 < len(ranks) <= len(MARKERS) else {}
    return _Styles("unknown" if by_size else "rank", colours, dashes, markers)


def style_sentence(summary: pl.DataFrame) -> str:
    """A sentence on what the colours, dashes and markers of the curves show."""
    styles = _styles(summary)
    properties = [f"Colour is {'N' if styles.colour_by == 'unknown' else 'the rank'}"]
    properties += ["the dash the learning rate"] if len(styles.dashes) > 1 else []
    properties += ["the marker the rank"] if styles.markers else []
    return ", ".join(properties) + "."


def _panels(curves: list[_Curve], summary: pl.DataFrame, y_title: str, y_range: tuple[float, float]) -> LinePanels | None:
    drawn = [curve for curve in curves if any(value is not None for run in curve.runs for value in run)]
    if not drawn:
        return None
    styles = _styles(summary)
    arms = [arm for arm in summary["arm"].unique(maintain_order=True) if any(curve.first["arm"] == arm for curve in drawn)]
    by_arm = {arm: [curve for curve in drawn if curve.first["arm"] == arm] for arm in arms}
    crowded = max(map(len, by_arm.values())) > MANY_LINES
    panels = tuple(
        # background lines come first, so that others are drawn over them
        LinePanel(arm, tuple(_line(curve, styles, crowded) for curve in sorted(of_arm, key=lambda curve: not curve.cut_short)))
        for arm, of_arm in by_arm.items()
    )
    longest = max(max(curve.epochs) for curve in drawn)
    room = 0.03 * longest
    return LinePanels("epoch", y_title, (1 - room, longest + room), _ticks(longest), y_range, panels, _keys(drawn, styles, crowded))


def _ticks(longest: int) -> tuple[int, ...]:
    """The first epoch and round ones after it."""
    step = next((step for step in TICK_STEPS if longest <= step * MOST_TICKS), TICK_STEPS[-1])
    return (1, *range(max(step, 2), longest + 1, step))


def _line(curve: _Curve, styles: _Styles, crowded: bool) -> Line:
    behind = crowded and curve.cut_short
    row, columns = curve.first, list(zip(*curve.runs, strict=True))
    whole = [[value for value in column if value is not None] for column in columns]
    banded = len(curve.runs) > 1
    return Line(
        name=f"{row['arm']}, {curve.name}",
        group=styles.group(row),
        colour=QUIET_COLOUR if behind else styles.colours[row[styles.colour_by]],
        dash=styles.dashes.get(row["learning_rate"], "solid"),
        marker=styles.markers.get(row["rank"], "circle"),
        width=THIN if behind else THICK,
        x=curve.epochs,
        y=tuple(sum(values) / len(values) if values else None for values in whole),
        low=tuple(min(values, default=None) for values in whole) if banded and not behind else (),
        high=tuple(max(values, default=None) for values in whole) if banded and not behind else (),
        cut_short=curve.cut_short,
    )


def _keys(curves: list[_Curve], styles: _Styles, crowded: bool) -> tuple[LineKey, ...]:
    groups = {styles.group(curve.first): styles.colours[curve.first[styles.colour_by]] for curve in curves}
    order = [styles.group({styles.colour_by: value}) for value in styles.colours]
    keys = [LineKey(name, name, groups[name], "solid") for name in order if name in groups]
    if len(styles.dashes) > 1:
        keys += [LineKey(f"learning rate {learning_rate(rate)}", "", QUIET_COLOUR, dash) for rate, dash in styles.dashes.items()]
    keys += [LineKey(f"rank {rank}", "", QUIET_COLOUR, marker) for rank, marker in styles.markers.items()]
    if any(curve.cut_short for curve in curves):
        keys.append(LineKey("ended early" + (", thin and grey" if crowded else ""), "", QUIET_COLOUR, CUT_SHORT))
    return tuple(keys)
