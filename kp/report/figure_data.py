"""The data of each picture, before anything is drawn.

The printed and the interactive figures read the same frozen values, so they cannot differ. There are only four kinds of picture (a scatter,
lines, stacked bars, dots with errors); a renderer draws a kind and does not know the topic.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Okabe and Ito's colours, distinguishable under all common kinds of colour blindness, without the yellow, which vanishes on white.
ARM_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("circle", "square", "diamond", "triangle-up", "pentagon", "cross")
DASHES = ("solid", "dash", "dot", "dashdot")


@dataclass(frozen=True)
class Point:
    """One trial of the scatter; errors are the lengths of the error bars below and above."""

    label: str
    x: float
    x_errors: tuple[float, float]
    y: float
    y_error: float
    reliable: bool
    stopped: bool  # early, by the scheduler
    detail: str


@dataclass(frozen=True)
class Group:
    """Points of one data mix."""

    name: str
    colour: str
    marker: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Scatter:
    """Facts packed against knowledge lost; `band` is half the width of the margin around 0, `best` the label of the best trial."""

    x_title: str
    y_title: str
    x_ticks: tuple[tuple[float, str], ...]  # position and label; if empty, the renderer chooses
    band: float | None
    groups: tuple[Group, ...]
    best: str | None

    @property
    def hollow(self) -> bool:
        """Whether any marker is hollow."""
        return any(not point.reliable and not point.stopped for group in self.groups for point in group.points)

    @property
    def stopped(self) -> bool:
        """Whether any trial was stopped early."""
        return any(point.stopped for group in self.groups for point in group.points)

    @property
    def best_point(self) -> Point | None:
        return next((point for group in self.groups for point in group.points if point.label == self.best), None)


BEST = "ring: most packed at reliability ≥ 0.8"
CUT_SHORT = "x"  # the marker of a run that was cut short
THIN, THICK = 0.9, 1.9  # widths of lines in points
QUIET_COLOUR = "#9aa3ab"


@dataclass(frozen=True)
class Line:
    """One curve; `low` and `high` are the edges of the band around it, empty if it has none.

    `group` is the legend key that shows and hides it on the page. A line that is `cut_short` ends in a mark.
    """

    name: str
    group: str
    colour: str
    dash: str
    marker: str
    width: float  # points
    x: tuple[float, ...]
    y: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    cut_short: bool

    @property
    def last(self) -> int | None:
        """The index of the last point that has a value."""
        return max((place for place, value in enumerate(self.y) if value is not None), default=None)


@dataclass(frozen=True)
class LineKey:
    """A legend entry: `shape` is a dash or a marker; it shows and hides the lines of its `group`, or none if that is empty."""

    name: str
    group: str
    colour: str
    shape: str


@dataclass(frozen=True)
class LinePanel:
    title: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class LinePanels:
    """Small multiples: panels of lines with the same axes."""

    x_title: str
    y_title: str
    x_range: tuple[float, float]
    x_ticks: tuple[int, ...]
    y_range: tuple[float, float]
    panels: tuple[LinePanel, ...]
    keys: tuple[LineKey, ...]
    x_labels: tuple[str, ...] = ()  # written at the ticks; if empty, their numbers


@dataclass(frozen=True)
class Series:
    """One colour of the bars: a value for every row."""

    name: str
    colour: str
    text_colour: str
    values: tuple[float, ...]
    texts: tuple[str, ...]  # written into the bar if it fits


@dataclass(frozen=True)
class StackedBars:
    """Horizontal bars, one per row from the top; values below 0 stack to the left. A gap follows each row in `gaps_after`."""

    x_title: str
    rows: tuple[str, ...]
    series: tuple[Series, ...]
    gaps_after: tuple[int, ...] = ()


@dataclass(frozen=True)
class Dot:
    """A value and the ends of its error bar, which equal the value if no error is known."""

    row: str
    value: float
    ends: tuple[float, float]
    colour: str
    marker: str


@dataclass(frozen=True)
class DotPanel:
    """Values in rows; `reference` is drawn as a vertical line."""

    x_title: str
    reference: float | None
    reference_name: str
    dots: tuple[Dot, ...]


@dataclass(frozen=True)
class DotPanels:
    rows: tuple[str, ...]
    panels: tuple[DotPanel, ...]


@dataclass(frozen=True)
class Histogram:
    """Vertical bars, one per bin."""

    x_title: str
    labels: tuple[str, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Histograms:
    """Histograms of the same things, `y_title`, side by side; only printed, because no interactive page has any."""

    y_title: str
    panels: tuple[Histogram, ...]


Picture = Scatter | LinePanels | StackedBars | DotPanels


def arm_styles(arms: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each mix, in the order given."""
    return {arm: (ARM_COLOURS[i % len(ARM_COLOURS)], MARKERS[i % len(MARKERS)]) for i, arm in enumerate(dict.fromkeys(arms))}


@dataclass(frozen=True)
class Positions:
    """The position of a number of facts on the x axis: proportional, or its square root if N spans a factor of more than 20."""

    sizes: tuple[int, ...]

    @property
    def by_root(self) -> bool:
        return bool(self.sizes) and max(self.sizes) > 20 * min(self.sizes)

    def place(self, facts: float) -> float:
        return math.sqrt(max(facts, 0)) if self.by_root else facts

    def errors(self, facts: float, error: float | None) -> tuple[float, float]:
        """Lengths of the error bar to the left and to the right of the position."""
        if error is None:
            return 0.0, 0.0
        here = self.place(facts)
        return here - self.place(facts - error), self.place(facts + error) - here

    def ticks(self) -> tuple[tuple[float, str], ...]:
        """Ticks at 0 and at the sizes that were run; none if the axis is proportional."""
        return tuple((self.place(size), f"{size:,}") for size in (0, *sorted(set(self.sizes)))) if self.by_root else ()


def row_places(rows: int, gaps_after: tuple[int, ...]) -> list[float]:
    """The y position of each row of a bar chart, from the top; half a row of gap follows each row in `gaps_after`."""
    return [row + 0.5 * sum(gap < row for gap in gaps_after) for row in range(rows)]
