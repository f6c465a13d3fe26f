"""Effects over facts: means with intervals and verdicts, from the values of single facts.

The rows that go in decide what is reported: one trial's or those of several runs of one arm, all facts or a subset (`on_subset`), all of
these or those at risk (`on_categories`). Adapter and base are always averaged over the same rows.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from kp.metrics.effects import EFFECTS as ALL_EFFECTS
from kp.metrics.effects import ROLES, Effect, fact_effects, on_categories, on_subset, rows_of
from kp.metrics.intervals import Estimate, Support, estimate_mean
from kp.metrics.result_schema import EFFECTS
from kp.metrics.verdicts import MARGIN, harm_of, judge, judge_grid
from kp.vocabulary import BASE, FactSubset

WITH_CONTROLS = (FactSubset.CONTROL, FactSubset.CONTROL_DEV, FactSubset.CONTROL_TEST, FactSubset.UNTRAINED, FactSubset.ALL)
WITHOUT_CONTROLS = (FactSubset.UNTRAINED, FactSubset.ALL)

CLUSTER = pl.concat_str("relation", "object", separator="\n").rank("dense").cast(pl.Int64).alias("cluster")
"""The column `cluster` of `fact_clusters`, for who needs it of the same facts many times."""

_Row = dict[str, str | float | int | bool | None]


@dataclass(frozen=True)
class _Measured:
    """A row of EFFECTS without its verdicts, and what they are made from."""

    row: _Row
    harm: Estimate | None  # None if the effect is no harm, or without facts

    @property
    def grid(self) -> tuple[object, ...]:
        """What the row shares with those of other trials: all of these are one grid of tests."""
        return tuple(self.row[name] for name in ("subset", "at_risk", "effect", "shift"))


def reported_effects(outcomes: pl.DataFrame, facts: pl.DataFrame, margin: float) -> pl.DataFrame:
    """The EFFECTS of every trial in OUTCOMES: on control facts and their halves if there are any, on untrained facts, and on all.

    `margin` is the harm that counts as small, a share.
    """
    subsets = WITH_CONTROLS if has_controls(outcomes) else WITHOUT_CONTROLS
    by_trial = outcomes.partition_by("trial_id", as_dict=True)
    of_base = by_trial.pop((BASE,), outcomes.clear())
    clusters = facts.select("fact_id", CLUSTER)  # found once, because sorting names takes longer than all else
    measured: list[_Measured] = []
    # Trial by trial, because the values of single facts of a large study do not fit into memory together.
    for (trial_id,), of_adapter in sorted(by_trial.items()):
        of_facts = fact_effects(pl.concat([of_base, of_adapter]), facts).join(clusters, on="fact_id", how="left", maintain_order="left")
        by_effect = {effect: rows_of(of_facts, effect) for effect in ALL_EFFECTS}
        measured += [one for subset in subsets for one in _of_trial(str(trial_id), by_effect, subset)]
    return _judged(measured, margin)


def has_controls(outcomes: pl.DataFrame) -> bool:
    """Whether some facts of these OUTCOMES are control facts."""
    return bool(outcomes["role"].is_in([role.value for role in ROLES[FactSubset.CONTROL]]).any())


def effect_table(effects: pl.DataFrame, subset: FactSubset, margin: float = MARGIN) -> pl.DataFrame:
    """The EFFECTS of every trial in FACT_EFFECTS on a subset of the facts: each effect on all of them, and on those at risk.

    An effect that a trial does not have (see `unavailable_effects`) has no row; one without facts has a row without values.
    """
    by_trial = effects.with_columns(CLUSTER).sort("trial_id").group_by("trial_id", maintain_order=True)
    by_effect = ((str(trial_id), {effect: rows_of(of_trial, effect) for effect in ALL_EFFECTS}) for (trial_id,), of_trial in by_trial)
    return _judged([one for trial_id, found in by_effect for one in _of_trial(trial_id, found, subset)], margin)


def _of_trial(trial_id: str, by_effect: Mapping[Effect, pl.DataFrame], subset: FactSubset) -> Iterator[_Measured]:
    """From FACT_EFFECTS with the column `cluster`."""
    for effect, found in by_effect.items():
        if found.is_empty():
            continue
        among = on_subset(found, subset)
        for at_risk, chosen in ((False, among), (True, on_categories(among, effect.at_risk))):
            key: _Row = {"trial_id": trial_id, "subset": subset.value, "at_risk": at_risk}
            yield _summary(key, chosen, effect)


def _judged(measured: list[_Measured], margin: float) -> pl.DataFrame:
    """The EFFECTS with verdicts: of each trial alone, and with Holm's correction over the trials of a grid."""
    grids: dict[tuple[object, ...], list[_Measured]] = {}
    for one in measured:
        if one.harm is not None:
            grids.setdefault(one.grid, []).append(one)
    for grid in grids.values():
        harms = [one.harm for one in grid if one.harm is not None]
        for one, harm, finding in zip(grid, harms, judge_grid(harms, margin), strict=True):
            one.row["verdict"], one.row["verdict_alone"] = finding.verdict.value, judge(harm, margin).verdict.value
    return pl.DataFrame([one.row for one in measured], schema=pl.DataFrame(pl.from_arrow(EFFECTS.empty_table())).schema)


def estimate_effect(rows: pl.DataFrame, effect: Effect) -> Estimate | None:
    """The mean of FACT_EFFECTS rows of one effect over their facts, with its interval; None without rows.

    Facts that share relation and object form a cluster. Several trials are runs of one arm: the mean is over all of them.
    """
    return _estimate(rows.with_columns(CLUSTER), effect)


def _estimate(rows: pl.DataFrame, effect: Effect) -> Estimate | None:
    """The same of rows with the column `cluster`."""
    if rows.is_empty():
        return None
    support = Support.COUNT if effect.is_count else Support.SIGNED
    runs = None if rows["trial_id"].n_unique() == 1 else rows["trial_id"].to_numpy()
    return estimate_mean(rows["value"].to_numpy(), rows["cluster"].to_numpy(), runs, support)


def fact_clusters(rows: pl.DataFrame) -> npt.NDArray[np.int64]:
    """A number per row: equal for facts with the same relation and object, in the order of their names."""
    return rows.select(CLUSTER)["cluster"].to_numpy()


def _summary(key: _Row, rows: pl.DataFrame, effect: Effect) -> _Measured:
    named = key | {"effect": effect.kind.value, "shift": effect.shift and effect.shift.value}
    estimate = _estimate(rows, effect)
    if estimate is None:
        return _Measured(named | {"n": 0, "clusters": 0}, None)
    sides: _Row = {side: float(rows[side].to_numpy().mean()) for side in ("adapter", "base")}
    return _Measured({**named, **sides, **estimate.columns()}, harm_of(estimate, effect) if effect.harm_sign else None)
