"""Two studies side by side: what they set differently, and what their trials of the same setting learned and lost.

Trials are matched by mix, N, rank and learning rate; over several seeds their values are averaged. A difference has the interval of two
independent studies. Where both measured the same facts that is wider than it need be, so a difference that it shows is shown.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from kp.metrics.statistics import NORMAL_95
from kp.report.document import Document, Row, Section, Table, Text, columns
from kp.report.notation import MISSING, learning_rate, points_interval
from kp.report.summary import summary_table
from kp.report.tables import ReportContext, ReportTables

KEY = ("arm", "unknown", "rank", "learning_rate")
MEASURES = {"reliability": "reliability", "knowledge_loss": "loss of known facts", "generality": "generality"}
"""Column of the summary, and its title."""


@dataclass(frozen=True)
class Compared:
    """One of the two studies."""

    name: str
    tables: ReportTables
    context: ReportContext


def compare_page(first: Compared, second: Compared) -> Document:
    """The page; studies of the same name are told apart by a number."""
    names = (first.name, second.name) if first.name != second.name else (f"{first.name} (1)", f"{second.name} (2)")
    means = [_means(study) for study in (first, second)]
    both = [key for key in means[0] if key in means[1]]
    sections = (
        Section("settings", "Settings that differ", tuple(_settings(first, second, names))),
        Section("trials", "Trials of the same setting", (_trials(means, both, names),) if both else ()),
        Section("alone", "Trials of one study alone", tuple(_alone(means, names))),
    )
    answer = (
        f"{len(both)} settings were run in both studies; {len(means[0]) - len(both)} in {names[0]} alone, {len(means[1]) - len(both)} in "
        f"{names[1]} alone.",
        *_shown(means, both, names),
    )
    subtitle = "; ".join(
        f"{name}: {study.context.model_name}, {len(study.tables.facts):,} facts, {study.context.created}"
        for name, study in zip(names, (first, second), strict=True)
    )
    return Document(f"{names[0]} and {names[1]}", subtitle, answer, None, tuple(one for one in sections if one.blocks))


Setting = tuple[Any, ...]  # the values of KEY
Mean = Mapping[str, tuple[float, float | None]]  # value and standard error, by column


def _means(study: Compared) -> dict[Setting, Mean]:
    """The measured values of each setting, averaged over its trials."""
    found: dict[Setting, Mean] = {}
    summary = summary_table(study.tables)
    for key, trials in summary.group_by(KEY, maintain_order=True):
        values = {column: mean for column in MEASURES if (mean := _mean(trials, column))}
        if values:
            found[tuple(key)] = values
    return found


def _mean(trials: pl.DataFrame, column: str) -> tuple[float, float | None] | None:
    rows = trials.select(column, f"{column}_se").drop_nulls(column).rows()
    if not rows:
        return None
    errors = [error for _, error in rows if error is not None]
    within = math.sqrt(sum(error**2 for error in errors)) / len(rows) if len(errors) == len(rows) else None
    return sum(value for value, _ in rows) / len(rows), within


def _difference(one: tuple[float, float | None], other: tuple[float, float | None]) -> tuple[float, float | None, float | None]:
    """Second minus first, with its interval if both have an error."""
    value = other[0] - one[0]
    if one[1] is None or other[1] is None:
        return value, None, None
    reach = NORMAL_95 * math.hypot(one[1], other[1])
    return value, value - reach, value + reach


def _trials(means: list[dict[Setting, Mean]], both: list[Setting], names: tuple[str, str]) -> Table:
    titles = MEASURES.values()
    head = columns("mix", "N", "rank", "learning rate", *(f"{title}: {side}" for title in titles for side in (*names, "difference")))
    caption = (
        f"Percentage points, differences ({names[1]} minus {names[0]}) with 95% intervals as of independent studies. Means over the seeds "
        "of a setting; an interval is about these trainings, not about other seeds."
    )
    return Table(caption, head, tuple(Row((*_setting(key), *_cells(means[0][key], means[1][key]))) for key in both))


def _setting(key: Setting) -> tuple[str, ...]:
    arm, unknown, rank, rate = key
    return arm, f"{unknown:,}", str(rank), learning_rate(rate)


def _cells(one: Mean, other: Mean) -> Iterator[str]:
    for column in MEASURES:
        here, there = one.get(column), other.get(column)
        yield from (MISSING if mean is None else f"{100 * mean[0]:.1f}" for mean in (here, there))
        yield MISSING if here is None or there is None else points_interval(*_difference(here, there))


def _shown(means: list[dict[Setting, Mean]], both: list[Setting], names: tuple[str, str]) -> Iterator[str]:
    """How many differences lie beyond their interval."""
    for column, title in MEASURES.items():
        pairs = [(means[0][key][column], means[1][key][column]) for key in both if column in means[0][key] and column in means[1][key]]
        ends = [_difference(*pair)[1:] for pair in pairs]
        known = [(lower, upper) for lower, upper in ends if lower is not None and upper is not None]
        if known:
            more, less = sum(lower > 0 for lower, _ in known), sum(upper < 0 for _, upper in known)
            yield f"{title.capitalize()}: {names[1]} has more in {more}, less in {less} of {len(known)} settings, each for itself at 95%."


def _alone(means: list[dict[Setting, Mean]], names: tuple[str, str]) -> Iterator[Text]:
    for here, there, name in ((means[0], means[1], names[0]), (means[1], means[0], names[1])):
        listed = [key for key in here if key not in there]
        if listed:
            yield Text(f"{name}: " + "; ".join(f"{arm}, N = {n:,}, rank {rank}, lr {learning_rate(rate)}" for arm, n, rank, rate in listed))


def _settings(first: Compared, second: Compared, names: tuple[str, str]) -> Iterator[Table]:
    """The fields of the resolved studies that differ, without those that only say where and how fast."""
    flat = [dict(_flat(study.context.config)) for study in (first, second)]
    fields = sorted(field for field in {*flat[0], *flat[1]} if not field.startswith(("resources.", "trackers.")))
    rows = [
        Row((field, *(_written(one[field]) if field in one else MISSING for one in flat)))
        for field in fields
        if flat[0].get(field, ...) != flat[1].get(field, ...)
    ]
    if rows:
        yield Table(
            "Of the resolved studies; a dash is a field that the study's version did not have.",
            columns("field", *names, words=3),
            tuple(rows),
        )


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
