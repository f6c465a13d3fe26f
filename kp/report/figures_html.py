"""The pictures for the page, as plotly.js specifications.

Specifications are plain JSON made here rather than by plotly's Python figures, whose templates would add kilobytes of styling and a random
id to each. Colours that follow the page's light or dark theme are written as CSS variables such as "var(--ink)"; the page's script inserts
their values. The page also draws the legends, so that they wrap on a narrow screen.
"""

from dataclasses import dataclass
from typing import Any

from kp.report.figure_data import (
    BEST,
    CUT_SHORT,
    THIN,
    Dot,
    DotPanel,
    DotPanels,
    Group,
    Line,
    LinePanel,
    LinePanels,
    Picture,
    Point,
    Scatter,
    StackedBars,
    row_places,
)

INK, QUIET, RULE, PAPER = "var(--ink)", "var(--quiet)", "var(--rule)", "var(--paper)"
MANY_ROWS = 60


@dataclass(frozen=True)
class LegendItem:
    """`group` is the `legendgroup` of the traces that the item toggles; `shape` is a marker, `bar`, `band` or a dash."""

    name: str
    group: str
    colour: str
    shape: str


@dataclass(frozen=True)
class Interactive:
    """One figure: a legend and one plotly specification per panel."""

    legend: tuple[LegendItem, ...]
    panels: tuple[dict[str, Any], ...]


def interactive(picture: Picture) -> Interactive:
    """The picture as plotly specifications."""
    match picture:
        case Scatter():
            return _scatter(picture)
        case LinePanels():
            legend = tuple(LegendItem(key.name, key.group, key.colour, key.shape) for key in picture.keys)
            return Interactive(legend, tuple(_lines(picture, panel) for panel in picture.panels))
        case StackedBars():
            legend = tuple(LegendItem(series.name, series.name, series.colour, "bar") for series in picture.series)
            return Interactive(legend, (_bars(picture),))
        case DotPanels():
            return Interactive((), tuple(_dots(panel, picture.rows) for panel in picture.panels))


def _layout(x_title: str, y_title: str | None, height: int) -> dict[str, Any]:
    axis = {"gridcolor": RULE, "linecolor": QUIET, "zerolinecolor": QUIET, "automargin": True, "ticks": "", "fixedrange": False}
    y_axis = dict(axis) | ({"title": _title(y_title)} if y_title else {})
    return {
        "height": height,
        "margin": {"l": 8, "r": 14, "t": 18, "b": 44},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": INK},
        "showlegend": False,
        "hovermode": "closest",
        "hoverlabel": {"bgcolor": PAPER, "bordercolor": QUIET, "font": {"color": INK}},
        "xaxis": axis | {"title": _title(x_title)},
        "yaxis": y_axis,
    }


def _title(text: str) -> dict[str, Any]:
    return {"text": text, "standoff": 8, "font": {"size": 13}}


def _scatter(picture: Scatter) -> Interactive:
    layout = _layout(picture.x_title, picture.y_title.replace(" (", "<br>("), 500)
    legend = [LegendItem(group.name, group.name, group.colour, group.marker) for group in picture.groups]
    shapes = []
    notes = [{"x": 0, "y": 0, "text": "base", "showarrow": False, "xanchor": "left", "yanchor": "top", "xshift": 8, "yshift": -3}]
    if picture.band is not None:
        band = {"type": "rect", "xref": "paper", "x0": 0, "x1": 1, "y0": -picture.band, "y1": picture.band, "layer": "below"}
        shapes.append(band | {"fillcolor": "var(--band)", "line": {"width": 0}})
        legend.append(LegendItem("within the margin", "", "var(--band)", "band"))
    if picture.hollow:
        legend.append(LegendItem("hollow: reliability < 0.8", "", QUIET, "hollow"))
    if picture.stopped:
        legend.append(LegendItem("stopped early", "", QUIET, CUT_SHORT))
    data = [_group_trace(group) for group in picture.groups]
    data.append(
        {"type": "scatter", "mode": "markers", "x": [0], "y": [0], "hovertext": ["base model, no adapter"], "hoverinfo": "text"}
        | {"marker": {"symbol": "cross-thin", "size": 14, "color": INK, "line": {"width": 2.5, "color": INK}}}
    )
    best = picture.best_point
    if best is not None:
        ring = {"symbol": "circle-open", "size": 24, "color": INK, "line": {"width": 1.6}}
        data.append({"type": "scatter", "mode": "markers", "x": [best.x], "y": [best.y], "hoverinfo": "skip", "marker": ring})
        legend.append(LegendItem(BEST, "", INK, "ring"))
    if picture.x_ticks:
        layout["xaxis"] |= {"tickvals": [place for place, _ in picture.x_ticks], "ticktext": [label for _, label in picture.x_ticks]}
    return Interactive(tuple(legend), ({"data": data, "layout": layout | {"shapes": shapes, "annotations": notes}},))


def _group_trace(group: Group) -> dict[str, Any]:
    points = group.points
    return {
        "type": "scatter",
        "mode": "markers",
        "name": group.name,
        "legendgroup": group.name,
        "x": [point.x for point in points],
        "y": [point.y for point in points],
        "error_x": {
            "array": [point.x_errors[1] for point in points],
            "arrayminus": [point.x_errors[0] for point in points],
            "color": group.colour,
            "thickness": 1.3,
            "width": 0,
        },
        "error_y": {"array": [point.y_error for point in points], "color": group.colour, "thickness": 1.3, "width": 0},
        "marker": {
            "symbol": [_symbol(group, point) for point in points],
            "size": 11,
            "color": [group.colour if point.reliable else PAPER for point in points],
            "line": {"width": 2, "color": group.colour},
        },
        "hovertext": [point.detail for point in points],
        "hoverinfo": "text",
    }


def _symbol(group: Group, point: Point) -> str:
    return f"{CUT_SHORT}-thin" if point.stopped else group.marker


def _lines(picture: LinePanels, panel: LinePanel) -> dict[str, Any]:
    layout = _layout(picture.x_title, picture.y_title, 330)
    layout["margin"] |= {"t": 34}
    layout["annotations"] = [
        {"x": 0, "y": 1, "xref": "paper", "yref": "paper", "text": f"<b>{panel.title}</b>", "showarrow": False}
        | {"xanchor": "left", "yanchor": "bottom", "yshift": 6}
    ]
    layout["xaxis"] |= {"range": list(picture.x_range), "tickvals": list(picture.x_ticks)}
    if picture.x_labels:
        layout["xaxis"] |= {"ticktext": list(picture.x_labels)}
    layout["yaxis"] |= {"range": list(picture.y_range)}
    return {"data": [trace for line in panel.lines for trace in (*_band_traces(line), _line_trace(line, picture))], "layout": layout}


def _line_trace(line: Line, picture: LinePanels) -> dict[str, Any]:
    size = 4.5 if line.width > THIN else 3
    symbols, sizes = [line.marker] * len(line.x), [size] * len(line.x)
    if line.cut_short and line.last is not None:
        symbols[line.last], sizes[line.last] = CUT_SHORT, 9
    places = [picture.x_labels[round(x)] if picture.x_labels else f"{x:.4g}" for x in line.x]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": line.name,
        "legendgroup": line.group,
        "x": list(line.x),
        "y": list(line.y),
        "line": {"color": line.colour, "dash": line.dash, "width": line.width},
        "marker": {"size": sizes, "symbol": symbols},
        "hovertemplate": f"%{{fullData.name}}<br>{picture.x_title} %{{customdata}}: %{{y:.3~g}}<extra></extra>",
        "customdata": places,
    }


def _band_traces(line: Line) -> list[dict[str, Any]]:
    """The lower edge, and the upper one with the area between them; empty if the line has no band."""
    if not line.low:
        return []
    edge = {"type": "scatter", "mode": "lines", "legendgroup": line.group, "x": list(line.x), "line": {"width": 0}, "hoverinfo": "skip"}
    return [edge | {"y": list(line.low)}, edge | {"y": list(line.high), "fill": "tonexty", "fillcolor": _faded(line.colour)}]


def _faded(colour: str) -> str:
    """A hexadecimal colour, made mostly transparent."""
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, .16)"


def _bars(picture: StackedBars) -> dict[str, Any]:
    places = row_places(len(picture.rows), picture.gaps_after)
    layout = _layout(picture.x_title, None, round(90 + 27 * (places[-1] + 1)))
    layout["barmode"] = "relative"
    layout["bargap"] = 0.24
    layout["hovermode"] = "closest"
    layout["yaxis"] |= {
        "tickvals": places,
        "ticktext": list(picture.rows),
        "range": [places[-1] + 0.6, -0.6],
        "showgrid": False,
        "zeroline": False,
    }
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": series.name,
            "legendgroup": series.name,
            "x": list(series.values),
            "y": places,
            "width": 0.76,
            "marker": {"color": series.colour, "line": {"width": 0}},
            "text": list(series.texts),
            "textposition": "inside",
            "insidetextanchor": "middle",
            "textangle": 0,
            "constraintext": "inside",
            "textfont": {"color": series.text_colour, "size": 11},
            "hovertext": [f"{row}<br>{series.name}: {abs(value):.3g} %" for row, value in zip(picture.rows, series.values, strict=True)],
            "hoverinfo": "text",
        }
        for series in picture.series
    ]
    return {"data": data, "layout": layout}


def _dots(panel: DotPanel, rows: tuple[str, ...]) -> dict[str, Any]:
    layout = _layout(panel.x_title, None, 96 + 27 * min(len(rows), MANY_ROWS))
    layout["yaxis"] |= {"tickvals": list(range(len(rows))), "ticktext": list(rows), "range": [len(rows) - 0.4, -0.6], "zeroline": False}
    ends = [end for dot in panel.dots for end in dot.ends] + ([] if panel.reference is None else [panel.reference])
    room = 0.07 * ((max(ends) - min(ends)) or 1.0)
    layout["xaxis"] |= {"zeroline": False, "range": [min(ends) - room, max(ends) + room]}
    layout["shapes"], layout["annotations"] = [], []
    if panel.reference is not None:
        line = {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": panel.reference, "x1": panel.reference}
        layout["shapes"].append(line | {"line": {"color": INK, "width": 1.4}})
        note = {"x": panel.reference, "y": 1, "yref": "paper", "text": panel.reference_name, "showarrow": False}
        layout["annotations"].append(note | {"xanchor": "left", "yanchor": "bottom", "font": {"size": 11}})
    data = {
        "type": "scatter",
        "mode": "markers",
        "x": [dot.value for dot in panel.dots],
        "y": [rows.index(dot.row) for dot in panel.dots],
        "marker": {"size": 9, "color": [dot.colour for dot in panel.dots], "symbol": [dot.marker for dot in panel.dots]},
        "hovertext": [f"{dot.row}<br>{dot.value:.3g} (error bar {dot.ends[0]:.3g} to {dot.ends[1]:.3g})" for dot in panel.dots],
        "hoverinfo": "text",
    }
    errors = [_error_trace(dot, rows.index(dot.row)) for dot in panel.dots]
    return {"data": [*errors, data], "layout": layout}


def _error_trace(dot: Dot, place: int) -> dict[str, Any]:
    ends = {"x": list(dot.ends), "y": [place, place]}
    return {"type": "scatter", "mode": "lines", "line": {"color": dot.colour, "width": 1.6}, "hoverinfo": "skip"} | ends
