"""Data mixes compared: which of them loses less of what the base knows, fact by fact, and under which conditions.

Trials of two mixes are paired by their setting and seed. A difference is resolved if its p-value, with Holm's correction over all pairs of
mixes, is below 5%. Two seeds settle nothing: an interval that is to cover other seeds needs three, and two that happen to agree look like
certainty. With one seed the interval is about its adapters alone. Mixes that took different numbers of steps or ended at different learning
rates differ in more than their mix, and every sentence and row says so.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import polars as pl

from kp.config.search import SearchArm
from kp.metrics.arms import ArmComparison, ArmRun, Condition, compare_arms
from kp.metrics.effects import NET_CHANGE, fact_effects, on_categories
from kp.metrics.intervals import CONFIDENCE
from kp.metrics.paired_tests import holm
from kp.metrics.result_schema import ARMS
from kp.report.document import Block, Row, Section, Table, Text, columns
from kp.report.labels import free_knobs
from kp.report.notation import MISSING, measured, points_interval
from kp.report.tables import ReportTables
from kp.report.winners import FINISHED, Evidence
from kp.schema import frame
from kp.training.spec import arm_label
from kp.vocabulary import BASE

PLAIN = arm_label(SearchArm())
COMPARABLE = FINISHED & pl.col("knowledge_loss").is_not_null() & pl.col("reliability").is_not_null()
RAN_ALL, LEARNED_EARLY = "ran all steps", "had learned before"
CONDITIONS = {
    Condition.EQUAL_STEPS: "optimiser steps",
    Condition.EQUAL_FINAL_LEARNING_RATE: "final learning rates",
    Condition.EQUAL_END: "how they ended",
    Condition.EQUAL_PAIRS: "settings that only one of them finished",
}
"""What two mixes differ in if a condition does not hold."""

TOO_FEW_SEEDS = 2
SIDES = ("first", "second")
TOLD_OF_BOTH = {
    "reliability": "reliability",
    "steps": "steps",
    "exposures": "exposures a fact",
    "final_rate": "final learning rate",
}
"""Columns of ARMS that each side has, and the titles of their columns in the table."""

Comparison = Mapping[str, Any]  # a row of ARMS


def arm_table(tables: ReportTables, found: Evidence) -> pl.DataFrame:
    """The ARMS: every two mixes that have a finished, measured trial of the same setting and seed, in the summary's order."""
    runs = _runs(tables, found.summary)
    pairs = [pair for pair in combinations(runs, 2) if {run.pair for run in runs[pair[0]]} & {run.pair for run in runs[pair[1]]}]
    if not pairs:
        return frame(ARMS.empty_table())
    outcomes = tables.outcomes.filter(pl.col("trial_id").is_in([BASE, *(run.trial_id for arm in runs.values() for run in arm)]))
    known = on_categories(fact_effects(outcomes, tables.facts, (NET_CHANGE,)), NET_CHANGE.at_risk)
    compared = [compare_arms(known, NET_CHANGE, runs[first], runs[second], found.harm_facts) for first, second in pairs]
    adjusted = holm([one.difference.p_value() if one.difference else 1.0 for one in compared])
    learned = dict(found.summary.select("trial_id", "reliability").iter_rows())
    rows = [_row(pair, one, p, runs, learned) for pair, one, p in zip(pairs, compared, adjusted, strict=True)]
    return pl.DataFrame(rows, schema=frame(ARMS.empty_table()).schema)


def _runs(tables: ReportTables, summary: pl.DataFrame) -> dict[str, list[ArmRun]]:
    """The finished, measured trials of each mix."""
    settings = ["unknown", "rank", "learning_rate", "seed", *free_knobs(summary)]
    ends = {row["trial_id"]: row for row in tables.trials.iter_rows(named=True)}
    runs: dict[str, list[ArmRun]] = {}
    for row in summary.filter(COMPARABLE).iter_rows(named=True):
        end = ends[row["trial_id"]]
        run = ArmRun(
            trial_id=row["trial_id"],
            pair=", ".join(f"{name} {row[name]}" for name in settings),
            seed=row["seed"],
            steps=end["steps"],
            learning_rate=row["learning_rate"],
            final_learning_rate=end["final_learning_rate"],
            end=RAN_ALL if end["steps"] == end["max_steps"] else LEARNED_EARLY,
            exposures=end["exposures"],
        )
        runs.setdefault(row["arm"], []).append(run)
    return runs


def _row(
    pair: tuple[str, str], compared: ArmComparison, p_holm: float, runs: Mapping[str, Sequence[ArmRun]], learned: Mapping[str, float]
) -> dict[str, object]:
    difference = compared.difference
    paired = {trial_id for both in compared.pairs for trial_id in both}
    lower, upper = (difference.limits() if difference else None) or (None, None)
    row: dict[str, object] = {
        "first": pair[0],
        "second": pair[1],
        "pairs": len(compared.pairs),
        "seeds": difference.runs if difference else 0,
        "facts": compared.facts,
        "value": difference.value if difference else None,
        "lower": lower,
        "upper": upper,
        "resolvable": difference.resolvable() if difference else None,
        "p_holm": p_holm,
        "unmet": [unmet.condition.value for unmet in compared.unmet],
    }
    for side, arm, exposures in zip(SIDES, pair, compared.exposures, strict=True):
        trials = [run for run in runs[arm] if run.trial_id in paired]
        row |= {
            f"{side}_steps": _mean([run.steps for run in trials]),
            f"{side}_exposures": exposures,
            f"{side}_final_rate": _mean([run.final_learning_rate for run in trials]),
            f"{side}_reliability": _mean([learned[run.trial_id] for run in trials]),
        }
    return row


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def arms_section(found: Evidence, arms: pl.DataFrame) -> Section:
    """Every two mixes: the difference of their net changes, and under which conditions."""
    if arms.is_empty():
        return Section("mixes", "Mixes compared", ())
    explained = (
        f"Both mixes of a row on the same facts ({found.known_facts}, by the base's category on S0), trial by trial of the same setting "
        "and seed. A difference above 0 means that the first mix keeps more. It is resolved if p, with Holm's correction over the rows, is "
        "below 0.05, unless there are two seeds, which say too little about others."
    )
    head = columns(
        *("mixes", "trials of each", "facts", "first keeps more (points)", "p (Holm)", "resolved"),
        *(*TOLD_OF_BOTH.values(), "differ in"),
        words=2,
    )
    caption = "Differences of net changes, means over the settings, with 95% intervals (facts clustered by relation and object, and seeds)."
    blocks: list[Block] = [Text(explained), Table(caption, head, tuple(Row(_cells(row)) for row in arms.iter_rows(named=True)))]
    return Section("mixes", "Mixes compared", tuple(blocks))


def _cells(row: Comparison) -> tuple[str, ...]:
    return (
        f"{row['first']}\n{row['second']}",
        str(row["pairs"]),
        f"{row['facts']:,}",
        MISSING if row["value"] is None else points_interval(row["value"], row["lower"], row["upper"]),
        measured(row["p_holm"]),
        "yes" if _resolved(row) else "two seeds" if row["seeds"] == TOO_FEW_SEEDS else "no",
        *(
            f"{measured(row[f'first_{name}'])}\n{measured(row[f'second_{name}'])}"
            for name in ("reliability", "steps", "exposures", "final_rate")
        ),
        ", ".join(CONDITIONS[Condition(name)] for name in row["unmet"]) or "nothing else",
    )


def arms_sentences(found: Evidence, arms: pl.DataFrame) -> Iterator[str]:
    """For the opening paragraph: each mix against the plain one (the first, if the study has none), and what else they differ in."""
    finished = found.summary.filter(COMPARABLE)["arm"].unique(maintain_order=True).to_list()
    if len(finished) < 2:
        return
    if arms.is_empty():
        yield "No setting was finished with two mixes, so the mixes are not compared."
        return
    against = PLAIN if PLAIN in finished else finished[0]
    rows = [_turned(row, against) for row in arms.iter_rows(named=True) if against in (row["first"], row["second"])]
    compared = [row for row in rows if row["value"] is not None]
    if compared:
        facts = _range(row["facts"] for row in compared)
        trials = _range(row["pairs"] for row in compared)
        yield f"Against “{against}”, on {facts} {found.known_facts} and {trials} trials of each mix: {'; '.join(map(_told, compared))}."
        yield _learned(compared)
        yield from _conditions(compared)


def _turned(row: Comparison, second: str) -> Comparison:
    """The row with this mix as the second one."""
    if row["second"] == second:
        return row
    negated = {new: None if row[old] is None else -row[old] for new, old in (("value", "value"), ("lower", "upper"), ("upper", "lower"))}
    sides = {
        f"{one}{name[len(other) :]}": row[name]
        for one, other in (("first", "second"), ("second", "first"))
        for name in row
        if name.startswith(other)
    }
    return {**row, **sides, **negated}


def _told(row: Comparison) -> str:
    lower, upper = (None if row[name] is None else points_interval(row[name]) for name in ("lower", "upper"))
    interval = f"95% interval {lower} to {upper}" if lower else "no interval"
    if _resolved(row):
        less = "less" if row["value"] > 0 else "more"
        return f"“{row['first']}” loses {100 * abs(row['value']):.1f} points {less} ({interval})"
    if row["seeds"] == TOO_FEW_SEEDS:
        could = "; two seeds are too few"
    else:
        could = "" if row["resolvable"] is None else f"; it could have resolved {100 * row['resolvable']:.1f} points"
    return f"whether “{row['first']}” loses less or more is not resolved ({interval}{could})"


def _learned(compared: Sequence[Comparison]) -> str:
    """How much both mixes learned, and from how many exposures: one that learned less may have lost less for that."""
    told = []
    for row in compared:
        of_both = (f"{measured(row[f'{side}_reliability'])} and {measured(row[f'{side}_exposures'])}" for side in SIDES)
        told.append(f"“{row['first']}” {', against '.join(of_both)}")
    return f"Reliability on S1 and exposures of a fact in these trials, on average: {'; '.join(told)}."


def _conditions(compared: Sequence[Comparison]) -> Iterator[str]:
    unmet = dict.fromkeys(CONDITIONS[Condition(name)] for row in compared for name in row["unmet"])
    if unmet:
        yield f"These mixes also differ in {' and '.join(unmet)}, so this compares more than what was mixed in."


def _resolved(row: Comparison) -> bool:
    return row["value"] is not None and row["seeds"] != TOO_FEW_SEEDS and row["p_holm"] < 1 - CONFIDENCE


def _range(values: Iterator[int]) -> str:
    found = sorted(set(values))
    return f"{found[0]:,}" if len(found) == 1 else f"{found[0]:,} to {found[-1]:,}"
