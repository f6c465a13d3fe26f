"""The pictures for print (SVG) and for Markdown (PNG), drawn by matplotlib.

Figures are made without pyplot: there is no global state and no display, and two reports in one process cannot interfere.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from kp.report.figure_data import (
    BEST,
    CUT_SHORT,
    DotPanel,
    DotPanels,
    Group,
    Histogram,
    Histograms,
    Line,
    LineKey,
    LinePanels,
    Picture,
    Scatter,
    StackedBars,
    row_places,
)

INK, QUIET, RULE = "#1c2024", "#5f6770", "#e3e6e9"
MARKERS = {"circle": "o", "square": "s", "diamond": "D", "triangle-up": "^", "pentagon": "p", "cross": "P", CUT_SHORT: "x"}
DASHES: dict[str, Any] = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.labelsize": 9.5,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": "white",
    "svg.hashsalt": "kp",  # else the names inside differ from run to run
}
DOTS_PER_INCH = 200  # twice matplotlib's default
PANELS_ABREAST = 3  # histograms, or panels of lines, in one row
LONGEST_TICKS = 20  # characters of all labels below a histogram; longer ones are rotated
METADATA: dict[str, dict[str, Any]] = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}
"""By the endings that a picture can have: what would make the same picture another file."""
BAR_COLOUR = "#0072B2"
LEGEND_WIDTH = 120  # characters that fit beside each other in a legend
KEYS_ABREAST = 4  # entries in one row of a legend of lines


def save_picture(picture: Picture | Histograms, folder: Path, name: str) -> None:
    """Draw the picture and write it into `folder` as `name`.png and `name`.svg; the same picture gives the same files."""
    with _style():
        figure = _drawn(picture)
        for ending in METADATA:
            _save(figure, folder / f"{name}.{ending}", ending)


def picture_bytes(picture: Picture | Histograms, ending: str) -> bytes:
    """The picture as a file with this ending, `png` or `svg`."""
    file = BytesIO()
    with _style():
        _save(_drawn(picture), file, ending)
    return file.getvalue()


def _save(figure: Figure, to: Path | BytesIO, ending: str) -> None:
    figure.savefig(to, format=ending, dpi=DOTS_PER_INCH, bbox_inches="tight", pad_inches=0.12, metadata=METADATA[ending])


def _drawn(picture: Picture | Histograms) -> Figure:
    match picture:
        case Scatter():
            return _scatter(picture)
        case LinePanels():
            return _lines(picture)
        case StackedBars():
            return _bars(picture)
        case DotPanels():
            return _dots(picture)
        case Histograms():
            return _histograms(picture)


@contextmanager
def _style() -> Iterator[None]:
    with matplotlib.rc_context(STYLE):
        yield


def _scatter(picture: Scatter) -> Figure:
    figure = Figure(figsize=(8.4, 5.2), layout="constrained")
    axes = figure.add_subplot()
    axes.axhline(0, color=QUIET, linewidth=0.9)
    keys: list[Line2D | Patch] = []
    if picture.band is not None:
        axes.axhspan(-picture.band, picture.band, color="#9aa3ab", alpha=0.22, linewidth=0)
    for group in picture.groups:
        _draw_group(axes, group)
        keys.append(Line2D([], [], linestyle="", marker=MARKERS[group.marker], color=group.colour, markersize=7.5, label=group.name))
    _draw_best(axes, picture)
    if picture.band is not None:
        keys.append(Patch(color="#9aa3ab", alpha=0.3, label="within the margin"))
    axes.plot([0], [0], marker="+", markersize=13, markeredgewidth=2, color=INK, linestyle="")
    axes.annotate("base", (0, 0), xytext=(8, -14), textcoords="offset points", color=INK, fontsize=9)
    if picture.best_point is not None:
        keys.append(Line2D([], [], linestyle="", marker="o", color=INK, markerfacecolor="none", markersize=11, label=BEST))
    if picture.hollow:
        keys.append(_marker_key("o", "hollow: reliability < 0.8"))
    if picture.stopped:
        keys.append(_marker_key("x", "stopped early"))
    if picture.x_ticks:
        axes.set_xticks([place for place, _ in picture.x_ticks], [label for _, label in picture.x_ticks])
    axes.set_xlabel(picture.x_title)
    axes.set_ylabel(picture.y_title.replace(" (", "\n("))
    axes.margins(x=0.07, y=0.1)
    longest = max(len(str(key.get_label())) for key in keys)
    abreast = max(1, min(5, LEGEND_WIDTH // (longest + 5)))
    figure.legend(handles=keys, loc="outside upper left", ncols=abreast, handletextpad=0.4, columnspacing=1.6, handlelength=1.4)
    return figure


def _marker_key(marker: str, label: str) -> Line2D:
    return Line2D([], [], linestyle="", marker=marker, color=QUIET, markerfacecolor="white", markersize=7.5, label=label)


def _draw_group(axes: Axes, group: Group) -> None:
    for point in group.points:
        errors = [[point.x_errors[0]], [point.x_errors[1]]]
        faded = 0.25 if point.stopped else 0.6
        axes.errorbar(point.x, point.y, xerr=errors, yerr=point.y_error, color=group.colour, linewidth=1.2, alpha=faded, zorder=3)
        face = group.colour if point.reliable else "white"
        marker = MARKERS[CUT_SHORT if point.stopped else group.marker]
        axes.plot(point.x, point.y, marker=marker, markersize=8.5, markeredgewidth=1.7, color=group.colour, markerfacecolor=face, zorder=4)


def _draw_best(axes: Axes, picture: Scatter) -> None:
    point = picture.best_point
    if point is None:
        return
    axes.plot(point.x, point.y, marker="o", markersize=19, markeredgewidth=1.3, color=INK, markerfacecolor="none", zorder=5)


def _lines(picture: LinePanels) -> Figure:
    rows = -(-len(picture.panels) // PANELS_ABREAST)
    abreast = min(PANELS_ABREAST, len(picture.panels))
    key_rows = -(-len(picture.keys) // KEYS_ABREAST)
    figure = Figure(figsize=(8.4, 2.6 * rows + 0.55 + 0.22 * key_rows), layout="constrained")
    grid = figure.subplots(rows, abreast, sharex=True, sharey=True, squeeze=False)
    places = grid.flatten()
    for axes, panel in zip(places, picture.panels, strict=False):
        axes.set_title(panel.title, fontsize=9.5, loc="left")
        for line in panel.lines:
            _draw_line(axes, line)
    places[0].set(xlim=picture.x_range, ylim=picture.y_range)
    places[0].set_xticks(picture.x_ticks, picture.x_labels or None)
    for row in grid:
        row[0].set_ylabel(picture.y_title)
    for place, axes in enumerate(places):
        axes.set_visible(place < len(picture.panels))
        if place + abreast >= len(picture.panels):  # nothing is below it
            axes.set_xlabel(picture.x_title)
            axes.xaxis.set_tick_params(labelbottom=True)
    handles = [_line_key(key) for key in picture.keys]
    figure.legend(handles=handles, loc="outside lower center", ncols=KEYS_ABREAST, handlelength=2.8, columnspacing=2)
    return figure


def _draw_line(axes: Axes, line: Line) -> None:
    values, low, high = (_with_gaps(numbers) for numbers in (line.y, line.low, line.high))
    if low:
        axes.fill_between(line.x, low, high, color=line.colour, alpha=0.16, linewidth=0)
    marker, size = MARKERS[line.marker], 2.8 if line.marker == "circle" else 4.2
    axes.plot(line.x, values, color=line.colour, linestyle=DASHES[line.dash], linewidth=line.width)
    axes.plot(line.x, values, color=line.colour, linestyle="", marker=marker, markersize=size * min(1.0, line.width))
    last = line.last
    if line.cut_short and last is not None:
        axes.plot(line.x[last], values[last], marker="x", markersize=3 + 1.9 * line.width, markeredgewidth=1.6, color=line.colour, zorder=5)


def _with_gaps(values: tuple[float | None, ...]) -> list[float]:
    return [float("nan") if value is None else value for value in values]


def _line_key(key: LineKey) -> Line2D:
    if key.shape in DASHES:
        return Line2D([], [], color=key.colour, linestyle=DASHES[key.shape], linewidth=1.9, label=key.name)
    return Line2D([], [], color=key.colour, linestyle="", marker=MARKERS[key.shape], markersize=6, label=key.name)


def _bars(picture: StackedBars) -> Figure:
    places = row_places(len(picture.rows), picture.gaps_after)
    figure = Figure(figsize=(8.4, 1.15 + 0.31 * (places[-1] + 1)), layout="constrained")
    axes = figure.add_subplot()
    rights, lefts = [0.0] * len(places), [0.0] * len(places)
    widest = max(sum(abs(series.values[row]) for series in picture.series) for row in range(len(places))) or 1.0
    for series in picture.series:
        starts = [right if value >= 0 else left for value, right, left in zip(series.values, rights, lefts, strict=True)]
        axes.barh(places, series.values, left=starts, height=0.74, color=series.colour, label=series.name, edgecolor="white", linewidth=0.6)
        for place, start, value, text in zip(places, starts, series.values, series.texts, strict=True):
            if abs(value) > 0.021 * widest * max(1, len(text)):
                axes.text(start + value / 2, place, text, ha="center", va="center_baseline", fontsize=8, color=series.text_colour)
        rights = [right + max(value, 0) for right, value in zip(rights, series.values, strict=True)]
        lefts = [left + min(value, 0) for left, value in zip(lefts, series.values, strict=True)]
    axes.axvline(0, color=QUIET, linewidth=0.9)
    axes.set_yticks(places, picture.rows)
    axes.set_ylim(places[-1] + 0.6, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(picture.x_title)
    axes.margins(x=0.03 if min(lefts) < 0 else 0)
    figure.legend(loc="outside upper center", ncols=6, handlelength=1, handletextpad=0.5, columnspacing=1.4)
    return figure


def _dots(picture: DotPanels) -> Figure:
    figure = Figure(figsize=(8.4, 0.95 + 0.33 * len(picture.rows)), layout="constrained")
    panels = figure.subplots(1, len(picture.panels), sharey=True, squeeze=False)[0]
    for axes, panel in zip(panels, picture.panels, strict=True):
        _dot_panel(axes, panel, picture.rows)
    panels[0].set_yticks(range(len(picture.rows)), picture.rows)
    panels[0].set_ylim(len(picture.rows) - 0.4, -0.6)
    return figure


def _dot_panel(axes: Axes, panel: DotPanel, rows: tuple[str, ...]) -> None:
    if panel.reference is not None:
        axes.axvline(panel.reference, color=INK, linewidth=1.2)
        axes.annotate(
            panel.reference_name,
            (panel.reference, 1),
            xycoords=("data", "axes fraction"),
            xytext=(3, 1),
            textcoords="offset points",
            fontsize=8.5,
        )
    for dot in panel.dots:
        place = rows.index(dot.row)
        axes.hlines(place, *dot.ends, color=dot.colour, linewidth=1.5)
        axes.plot(dot.value, place, color=dot.colour, marker=MARKERS[dot.marker], markersize=6.5, linestyle="")
    axes.set_xlabel(panel.x_title, fontsize=9)
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.12)


def _histograms(picture: Histograms) -> Figure:
    rows = -(-len(picture.panels) // PANELS_ABREAST)
    figure = Figure(figsize=(8.4, 2.5 * rows), layout="constrained")
    grid = figure.subplots(rows, PANELS_ABREAST, squeeze=False)
    places = grid.flatten()
    for axes, panel in zip(places, picture.panels, strict=False):
        _histogram(axes, panel)
    for axes in places[len(picture.panels) :]:
        axes.set_visible(False)
    for row in grid:
        row[0].set_ylabel(picture.y_title)
    return figure


def _histogram(axes: Axes, panel: Histogram) -> None:
    places = range(len(panel.labels))
    axes.bar(places, panel.counts, width=0.86, color=BAR_COLOUR, linewidth=0)
    turned = sum(map(len, panel.labels)) > LONGEST_TICKS
    axes.set_xticks(places, panel.labels, rotation=60 if turned else 0, rotation_mode="anchor", ha="right" if turned else "center")
    axes.tick_params(axis="x", length=0, pad=2, labelsize=8)
    axes.tick_params(axis="y", labelsize=8)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.grid(axis="x", visible=False)
    axes.set_xlabel(panel.x_title, fontsize=9)
