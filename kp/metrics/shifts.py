"""Shifts: facts that changed category between two measurements.

Facts also change category when the same model is measured again with other few-shot examples, without any training. So each shift is
counted as the paper does, over all facts, and over facts at risk or not trained on. None of these counts shows harm by itself, and the
noise floor (the base on S1 compared with itself on S2) cannot be subtracted from them, since base and adapter are compared on the same
prompts; kp.metrics.effects has the estimators that a claim of harm rests on.
"""

from collections.abc import Iterator
from enum import StrEnum

import polars as pl

from kp.errors import UserError
from kp.metrics.categories import validate_greedy_classes, validate_unique_facts
from kp.metrics.result_schema import SHIFTS
from kp.metrics.statistics import binomial_standard_error
from kp.vocabulary import BASE, NOISE, Category, FactRole, ShiftView, ShotSet

UK, MK, HK = Category.UNKNOWN, Category.MAYBE_KNOWN, Category.HIGHLY_KNOWN


class Shift(StrEnum):
    """A move from one category to another, or a sum of such moves."""

    UK_HK = "UK->HK"
    UK_MK = "UK->MK"
    MK_HK = "MK->HK"
    HK_UK = "HK->UK"
    HK_MK = "HK->MK"
    MK_UK = "MK->UK"
    POSITIVE = "positive"
    NEGATIVE = "negative"


MOVES: dict[Shift, frozenset[tuple[Category, Category]]] = {
    Shift.UK_HK: frozenset({(UK, HK)}),
    Shift.UK_MK: frozenset({(UK, MK)}),
    Shift.MK_HK: frozenset({(MK, HK)}),
    Shift.HK_UK: frozenset({(HK, UK)}),
    Shift.HK_MK: frozenset({(HK, MK)}),
    Shift.MK_UK: frozenset({(MK, UK)}),
    Shift.POSITIVE: frozenset({(UK, HK), (UK, MK), (MK, HK)}),
    Shift.NEGATIVE: frozenset({(HK, UK), (HK, MK), (MK, UK)}),
}

CONTROL_ROLES = (FactRole.CONTROL_DEV.value, FactRole.CONTROL_TEST.value)
UNTRAINED_ROLES = (*CONTROL_ROLES, FactRole.UNTOUCHED.value)

_Row = dict[str, str | float | int | None]


def transitions(before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """The 3x3 counts between two CATEGORIES tables of one matcher over the same facts: columns before, after, count; zeros included.

    Raises UserError if the fact sets differ.
    """
    counts = _paired(before, after).group_by("before", "after").agg(pl.len().alias("count"))
    cells = pl.DataFrame([{"before": old.value, "after": new.value} for old in (UK, MK, HK) for new in (UK, MK, HK)])
    return cells.join(counts, on=["before", "after"], how="left", maintain_order="left").with_columns(
        pl.col("count").fill_null(0).cast(pl.Int64)
    )


def noise_table(before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """The SHIFTS of the base compared with itself (S1, S2), the noise floor: trial_id "noise", views "all" and "at_risk"."""
    return _table(NOISE, list(_rows(_paired(before, after), (ShiftView.ALL, ShiftView.AT_RISK))))


def outcome_shifts(outcomes: pl.DataFrame) -> pl.DataFrame:
    """The SHIFTS of OUTCOMES: of the base compared with itself, then of every adapter compared with it, on S1."""
    by_trial = outcomes.partition_by("trial_id", maintain_order=True, as_dict=True)
    of_base = by_trial.pop((BASE,), outcomes.clear())
    before, again = (of_base.filter(shot_set=shot_set.value) for shot_set in (ShotSet.S1, ShotSet.S2))
    tables = [noise_table(before, again)]
    tables += [shift_table(trial_id, before, of_trial.filter(shot_set=ShotSet.S1.value)) for (trial_id,), of_trial in by_trial.items()]
    return pl.concat(tables)


def shift_table(trial_id: str, before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """The SHIFTS of one trial, from the OUTCOMES on S1 of the base and of its adapter; raises UserError if the facts differ."""
    moved = _paired(before, after).join(after.select("fact_id", "role"), on="fact_id", maintain_order="left")
    rows = list(_rows(moved, (ShiftView.ALL, ShiftView.AT_RISK)))
    rows.extend(_rows(moved.filter(pl.col("role").is_in(UNTRAINED_ROLES)), (ShiftView.UNTRAINED,)))
    control = moved.filter(pl.col("role").is_in(CONTROL_ROLES))
    rows.extend(_rows(control, (ShiftView.CONTROL,)) if control.height else ())
    return _table(trial_id, rows)


def _rows(moved: pl.DataFrame, views: tuple[ShiftView, ...]) -> Iterator[_Row]:
    counts = {(before, after): count for before, after, count in moved.group_by("before", "after").len().iter_rows()}
    for view in views:
        for shift, moves in MOVES.items():
            count = sum(counts.get((origin.value, target.value), 0) for origin, target in moves)
            origins = {origin.value for origin, _ in moves}
            at_risk = sum(found for (before, _), found in counts.items() if before in origins)
            n = at_risk if view is ShiftView.AT_RISK else moved.height
            yield _row(view, shift, count, n, binomial_standard_error(count, n))


def _row(view: ShiftView, shift: Shift, count: int, n: int, standard_error: float | None) -> _Row:
    return {
        "view": view.value,
        "shift": shift.value,
        "count": float(count),
        "n": n,
        "rate": count / n if n else None,
        "standard_error": standard_error,
    }


def _table(trial_id: str, rows: list[_Row]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema_overrides={"rate": pl.Float64, "standard_error": pl.Float64}).select(
        pl.lit(trial_id).alias("trial_id"), *SHIFTS.names[1:]
    )


def _paired(before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """fact_id, before, after; sorted by fact_id."""
    for categories in (before, after):
        validate_unique_facts(categories)
        validate_greedy_classes(categories)
    old = before.select("fact_id", pl.col("category").alias("before")).sort("fact_id")
    new = _same_facts(old, after.select("fact_id", pl.col("category").alias("after")).sort("fact_id"))
    return old.with_columns(new["after"])


def _same_facts(expected: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """`found`, after checking that its facts are those of `expected`; both sorted by fact_id."""
    odd = sorted(set(expected["fact_id"]) ^ set(found["fact_id"]))
    if odd:
        raise UserError(f"categories: fact '{odd[0]}' is in only one of the tables compared ({len(odd)} such facts)")
    return found
