"""Where the trial that packed most learned and lost: by relation and by popularity, to look at and not to claim from.

The groups were not chosen beforehand and have no correction for their number, so this says where to look next, not that a group differs.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from kp.metrics.effect_summary import estimate_effect
from kp.metrics.effects import NET_CHANGE, fact_effects, on_categories, on_subset
from kp.metrics.scores import Measure, score_learning
from kp.report.document import Row, Section, Table, columns
from kp.report.notation import MISSING, percent, points_interval, with_error
from kp.report.tables import ReportTables
from kp.report.winners import Evidence, best_trial
from kp.vocabulary import BASE, FactRole, ShotSet

TITLE = "Where it learned and lost"
GROUPS = {"relation": "relation", "popularity": "popularity of the subject"}
"""Column of FACTS, and its name in a table."""


def where_section(tables: ReportTables, found: Evidence) -> Section:
    """The reliability of packed facts and the net change of known ones by each of GROUPS; empty if no trial is named first."""
    best = best_trial(found)
    if best is None or tables.outcomes.filter(trial_id=best["trial_id"]).is_empty():
        return Section("where", TITLE, ())
    return Section("where", TITLE, (*_packed(tables, best), *_lost(tables, found, best)))


def _packed(tables: ReportTables, best: Mapping[str, Any]) -> Iterator[Table]:
    packed = tables.outcomes.filter(trial_id=best["trial_id"], role=FactRole.TRAINED.value, shot_set=ShotSet.S1.value)
    named = packed.join(tables.facts.select("fact_id", *GROUPS), on="fact_id", how="left")
    rows = []
    for column in GROUPS:
        for name, group in _grouped(named, column):
            score = score_learning(group).filter(measure=Measure.RELIABILITY.value).row(0, named=True)
            rows.append(Row((_title(column, name), f"{group.height:,}", with_error(score["value"], score["standard_error"]))))
    if rows:
        caption = (
            f"Reliability of the facts that “{best['label']}” packed, the trial that packed most, on S1, ± one standard error. Exploratory."
        )
        yield Table(caption, columns("facts", "n", "reliability"), tuple(rows))


def _lost(tables: ReportTables, found: Evidence, best: Mapping[str, Any]) -> Iterator[Table]:
    outcomes = tables.outcomes.filter(pl.col("trial_id").is_in([BASE, best["trial_id"]]))
    changes = on_categories(fact_effects(outcomes, tables.facts, (NET_CHANGE,)), NET_CHANGE.at_risk)
    changes = on_subset(changes, found.harm_facts).join(tables.facts.select("fact_id", "popularity"), on="fact_id", how="left")
    rows = tuple(row for column in GROUPS for row in _rows(changes, column))
    caption = (
        f"Net change of {found.known_facts} by “{best['label']}”, the trial that packed most: points with 95% intervals. Exploratory: the "
        "groups have no correction for their number."
    )
    head = columns("facts", "n", "base right (%)", "adapter right (%)", "net change (points)")
    if rows:
        yield Table(caption, head, rows)


def _rows(changes: pl.DataFrame, column: str) -> Iterator[Row]:
    for name, group in _grouped(changes, column):
        estimate = estimate_effect(group, NET_CHANGE)
        change = MISSING if estimate is None else points_interval(estimate.value, *(estimate.limits() or (None, None)))
        rates = (percent(float(group[side].to_numpy().mean())) for side in ("base", "adapter"))
        yield Row((_title(column, name), f"{group.height:,}", *rates, change))


def _grouped(rows: pl.DataFrame, column: str) -> Iterator[tuple[str, pl.DataFrame]]:
    for (name,), group in rows.drop_nulls(column).sort(column, "fact_id").group_by(column, maintain_order=True):
        yield str(name), group


def _title(column: str, name: str) -> str:
    return f"{GROUPS[column]}: {name.replace('_', ' ')}"
