"""Where the trial that packed most learned and lost: by relation and by popularity, to look at and not to claim from.

The groups were not chosen beforehand and have no correction for their number, so this says where to look next, not that a group differs.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from kp.facts.popularity import BUCKETS
from kp.metrics.effect_summary import estimate_effect, fact_clusters
from kp.metrics.effects import NET_CHANGE, fact_effects, on_categories, on_subset
from kp.metrics.intervals import Support, estimate_mean
from kp.metrics.scores import Measure, score_learning
from kp.report.document import Block, Figure, Row, Section, Table, columns
from kp.report.figure_data import Dot, DotPanel, DotPanels, arm_styles
from kp.report.notation import MISSING, percent, points_interval, with_error
from kp.report.tables import ReportTables
from kp.report.winners import Evidence, best_trial
from kp.vocabulary import BASE, FactRole, ShotSet

TITLE = "Where it learned and lost"
GROUPS = {"relation": "relation", "popularity": "popularity of the subject"}
"""Column of FACTS, and its name in a table."""
MOST_ROWS = 40  # in the picture


def where_section(tables: ReportTables, found: Evidence, pictures: set[str]) -> Section:
    """The reliability of packed facts and the net change of known ones by each of GROUPS; empty if no trial is named first."""
    best = best_trial(found)
    if best is None or tables.outcomes.filter(trial_id=best["trial_id"]).is_empty():
        return Section("where", TITLE, ())
    blocks: list[Block] = []
    if "where" in pictures:
        seen = f"What “{best['label']}”, the trial that packed most, learned and lost; bars are 95% intervals. Exploratory."
        blocks.append(Figure("where", seen))
    return Section("where", TITLE, (*blocks, *_packed_table(tables, best), *_lost_table(tables, found, best)))


def where_dots(tables: ReportTables, found: Evidence) -> DotPanels | None:
    """The tables of the section as a picture, in percent and points; without relations if these are many."""
    best = best_trial(found)
    if best is None or tables.outcomes.filter(trial_id=best["trial_id"]).is_empty():
        return None
    packed, lost = list(_packed(tables, best)), list(_lost(tables, found, best))
    if len({group.name for group in (*packed, *lost)}) > MOST_ROWS:
        packed, lost = ([group for group in groups if group.column != "relation"] for groups in (packed, lost))
    panels = (
        DotPanel("packed facts right (%)", None, "", _dots(packed)),
        DotPanel("net change of known facts (points)", 0.0, "", _dots(lost)),
    )
    order = [_title("relation", name) for name in sorted(set(tables.facts["relation"]))]
    order += [_title("popularity", name) for name in BUCKETS]
    named = {dot.row for panel in panels for dot in panel.dots}
    return DotPanels(tuple(name for name in order if name in named), panels) if all(panel.dots for panel in panels) else None


@dataclass(frozen=True)
class _Group:
    """What was found of some facts."""

    column: str  # of GROUPS
    name: str  # as in a table
    size: int
    value: float | None  # a share
    limits: tuple[float | None, float | None]  # of the 95% interval
    cells: tuple[str, ...]  # of its table, after the size


def _dots(groups: Iterable[_Group]) -> tuple[Dot, ...]:
    styles = arm_styles(list(GROUPS))
    return tuple(
        Dot(group.name, 100 * group.value, _ends(group.value, group.limits), *styles[group.column])
        for group in groups
        if group.value is not None
    )


def _ends(value: float, limits: tuple[float | None, float | None]) -> tuple[float, float]:
    lower, upper = (value if limit is None else limit for limit in limits)
    return 100 * lower, 100 * upper


def _packed(tables: ReportTables, best: Mapping[str, Any]) -> Iterator[_Group]:
    packed = tables.outcomes.filter(trial_id=best["trial_id"], role=FactRole.TRAINED.value, shot_set=ShotSet.S1.value)
    named = packed.join(tables.facts.select("fact_id", *GROUPS, "object"), on="fact_id", how="left")
    for column in GROUPS:
        for name, group in _grouped(named, column):
            score = score_learning(group).filter(measure=Measure.RELIABILITY.value).row(0, named=True)
            right = (group["correct"] / group["asked"]).to_numpy()
            limits = estimate_mean(right, fact_clusters(group), support=Support.COUNT).limits() or (None, None)
            cells = (with_error(score["value"], score["standard_error"]),)
            yield _Group(column, _title(column, name), group.height, score["value"], limits, cells)


def _packed_table(tables: ReportTables, best: Mapping[str, Any]) -> Iterator[Table]:
    rows = _table_rows(_packed(tables, best))
    if rows:
        caption = (
            f"Reliability of the facts that “{best['label']}” packed, the trial that packed most, on S1, ± one standard error. Exploratory."
        )
        yield Table(caption, columns("facts", "n", "reliability"), rows)


def _lost(tables: ReportTables, found: Evidence, best: Mapping[str, Any]) -> Iterator[_Group]:
    outcomes = tables.outcomes.filter(pl.col("trial_id").is_in([BASE, best["trial_id"]]))
    changes = on_categories(fact_effects(outcomes, tables.facts, (NET_CHANGE,)), NET_CHANGE.at_risk)
    changes = on_subset(changes, found.harm_facts).join(tables.facts.select("fact_id", "popularity"), on="fact_id", how="left")
    for column in GROUPS:
        for name, group in _grouped(changes, column):
            estimate = estimate_effect(group, NET_CHANGE)
            limits = (estimate.limits() if estimate else None) or (None, None)
            rates = (percent(float(group[side].to_numpy().mean())) for side in ("base", "adapter"))
            change = MISSING if estimate is None else points_interval(estimate.value, *limits)
            yield _Group(column, _title(column, name), group.height, estimate.value if estimate else None, limits, (*rates, change))


def _lost_table(tables: ReportTables, found: Evidence, best: Mapping[str, Any]) -> Iterator[Table]:
    caption = (
        f"Net change of {found.known_facts} by “{best['label']}”, the trial that packed most: points with 95% intervals. Exploratory: the "
        "groups have no correction for their number."
    )
    head = columns("facts", "n", "base right (%)", "adapter right (%)", "net change (points)")
    if rows := _table_rows(_lost(tables, found, best)):
        yield Table(caption, head, rows)


def _table_rows(groups: Iterable[_Group]) -> tuple[Row, ...]:
    return tuple(Row((group.name, f"{group.size:,}", *group.cells)) for group in groups)


def _grouped(rows: pl.DataFrame, column: str) -> Iterator[tuple[str, pl.DataFrame]]:
    for (name,), group in rows.drop_nulls(column).sort(column, "fact_id").group_by(column, maintain_order=True):
        yield str(name), group


def _title(column: str, name: str) -> str:
    return f"{GROUPS[column]}: {name.replace('_', ' ')}"
