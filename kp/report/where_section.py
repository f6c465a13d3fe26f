"""Where the trial that packed most lost knowledge: by relation and by popularity, to look at and not to claim from.

The groups were not chosen beforehand and have no correction for their number, so this says where to look next, not that a group differs.
"""

from collections.abc import Iterator

import polars as pl

from kp.metrics.effect_summary import estimate_effect
from kp.metrics.effects import NET_CHANGE, fact_effects, on_categories, on_subset
from kp.report.document import Row, Section, Table, columns
from kp.report.notation import MISSING, percent, points_interval
from kp.report.tables import ReportTables
from kp.report.winners import Evidence, best_trial
from kp.vocabulary import BASE

GROUPS = {"relation": "relation", "popularity": "popularity of the subject"}
"""Column of FACTS, and its name in a table."""


def where_section(tables: ReportTables, found: Evidence) -> Section:
    """The net change of known facts by each of GROUPS; empty if no trial is named first."""
    best = best_trial(found)
    if best is None or tables.outcomes.filter(trial_id=best["trial_id"]).is_empty():
        return Section("where", "Where it lost", ())
    outcomes = tables.outcomes.filter(pl.col("trial_id").is_in([BASE, best["trial_id"]]))
    changes = on_categories(fact_effects(outcomes, tables.facts, (NET_CHANGE,)), NET_CHANGE.at_risk)
    changes = on_subset(changes, found.harm_facts).join(tables.facts.select("fact_id", "popularity"), on="fact_id", how="left")
    rows = tuple(row for column in GROUPS for row in _rows(changes, column))
    caption = (
        f"Net change of {found.known_facts} by “{best['label']}”, the trial that packed most: points with 95% intervals. Exploratory: the "
        "groups have no correction for their number."
    )
    head = columns("facts", "n", "base right (%)", "adapter right (%)", "net change (points)")
    return Section("where", "Where it lost", (Table(caption, head, rows),) if rows else ())


def _rows(changes: pl.DataFrame, column: str) -> Iterator[Row]:
    for (name,), group in changes.drop_nulls(column).sort(column, "fact_id").group_by(column, maintain_order=True):
        estimate = estimate_effect(group, NET_CHANGE)
        change = MISSING if estimate is None else points_interval(estimate.value, *(estimate.limits() or (None, None)))
        rates = (percent(float(group[side].to_numpy().mean())) for side in ("base", "adapter"))
        yield Row((f"{GROUPS[column]}: {str(name).replace('_', ' ')}", f"{group.height:,}", *rates, change))
