"""Benchmark scores against N, as figures 1 and 3 of the paper: a panel a score, a line a mix, the base's score as a broken line.

A line is the mean over the seeds of one configuration, its band their range. Sizes stand at equal distances, because those of a study
usually grow by factors.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from kp.metrics.benchmark_chance import at_chance
from kp.report.benchmarks_section import AT_CHANCE, measured_scores, score_title
from kp.report.figure_data import DASHES, QUIET_COLOUR, THICK, Line, LineKey, LinePanel, LinePanels, arm_styles
from kp.report.labels import KNOBS, free_knobs, knob_value
from kp.report.notation import learning_rate
from kp.report.tables import ReportTables
from kp.vocabulary import BASE

LEAST_SIZES = 2
ROOM = 0.05  # above and below what is drawn, a share of its height
LEAST_HEIGHT = 10.0  # points: a few questions are no mountains
BESIDE = 0.03  # of the distance of two sizes, between lines, which would hide each other where scores are equal
BASE_KEY = "base"
MOST_ASIDE = 0.6  # of that distance, between the first line and the last

Row = Mapping[str, Any]


def scores_by_size(tables: ReportTables, summary: pl.DataFrame) -> LinePanels | None:
    """Every benchmark score in percent; None unless adapters with several N were measured."""
    measured = tables.benchmarks.join(summary.select("trial_id", "unknown"), on="trial_id")
    sizes = sorted(measured["unknown"].unique())
    if len(sizes) < LEAST_SIZES:
        return None
    guessed, styles = at_chance(tables.benchmarks), arm_styles(summary["arm"].to_list())
    configurations = _configurations(measured, summary)
    panels = []
    for task, metric in measured_scores(tables.benchmarks):
        values = dict(tables.benchmarks.filter(task=task, metric=metric).select("trial_id", "value").iter_rows())
        title = score_title(task, metric) + (f", {AT_CHANCE}" if (task, metric) in guessed else "")
        panels.append(LinePanel(title, tuple(_lines(values, configurations, styles, sizes))))
    drawn = [value for panel in panels for line in panel.lines for value in (*line.y, *line.low, *line.high) if value is not None]
    height, middle = max((1 + 2 * ROOM) * (max(drawn) - min(drawn)), LEAST_HEIGHT), (max(drawn) + min(drawn)) / 2
    keys = (*(LineKey(arm, arm, *style) for arm, style in styles.items()), LineKey(BASE_KEY, BASE_KEY, QUIET_COLOUR, DASHES[1]))
    return LinePanels(
        x_title="N, Unknown facts trained on",
        y_title="right (%)",
        x_range=(-0.3, len(sizes) - 0.7),
        x_ticks=tuple(range(len(sizes))),
        y_range=(middle - height / 2, middle + height / 2),
        panels=tuple(panels),
        keys=keys,
        x_labels=tuple(f"{size:,}" for size in sizes),
    )


def _configurations(measured: pl.DataFrame, summary: pl.DataFrame) -> list[tuple[str, list[Row]]]:
    """Each configuration of mix and knobs: its name, and its measured trials."""
    free = free_knobs(summary)
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in summary.filter(pl.col("trial_id").is_in(measured["trial_id"].implode())).iter_rows(named=True):
        groups.setdefault((row["arm"], row["rank"], row["learning_rate"], *(row[name] for name in free)), []).append(row)
    return [(_name(rows[0], free), rows) for rows in groups.values()]


def _lines(
    values: Mapping[str, float],
    configurations: Sequence[tuple[str, list[Row]]],
    styles: Mapping[str, tuple[str, str]],
    sizes: Sequence[int],
) -> Iterator[Line]:
    """The base, then one line for each configuration."""
    if BASE in values:
        ends = (0.0, len(sizes) - 1.0)
        yield Line(BASE_KEY, BASE_KEY, QUIET_COLOUR, DASHES[1], "circle", THICK, ends, (100 * values[BASE],) * 2, (), (), cut_short=False)
    for place, (name, rows) in enumerate(configurations):
        aside = min(BESIDE, MOST_ASIDE / len(configurations)) * (place - (len(configurations) - 1) / 2)
        colour, marker = styles[rows[0]["arm"]]
        scored = [(row["unknown"], 100 * values[row["trial_id"]]) for row in rows if row["trial_id"] in values]
        if not scored:
            continue
        by_size = {size: [value for unknown, value in scored if unknown == size] for size in sizes}
        drawn = [(sizes.index(size) + aside, found) for size, found in by_size.items() if found]
        banded = max(len(found) for _, found in drawn) > 1
        yield Line(
            name=name,
            group=rows[0]["arm"],
            colour=colour,
            dash="solid",
            marker=marker,
            width=THICK,
            x=tuple(place for place, _ in drawn),
            y=tuple(sum(found) / len(found) for _, found in drawn),
            low=tuple(min(found) for _, found in drawn) if banded else (),
            high=tuple(max(found) for _, found in drawn) if banded else (),
            cut_short=False,
        )


def _name(row: Row, free: Sequence[str]) -> str:
    others = "".join(f", {KNOBS[name]} {knob_value(row[name])}" for name in free)
    return f"{row['arm']}, rank {row['rank']}, learning rate {learning_rate(row['learning_rate'])}{others}"
