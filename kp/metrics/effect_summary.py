"""Effects over facts: means with intervals and verdicts, from the values of single facts.

The rows that go in decide what is reported: one trial's or those of several runs of one arm, all facts or a subset (`on_subset`), all of
these or those at risk (`on_categories`). Adapter and base are always averaged over the same rows.
"""

import polars as pl

from kp.metrics.effects import EFFECTS as ALL_EFFECTS
from kp.metrics.effects import Effect, on_categories, on_subset, rows_of
from kp.metrics.intervals import Estimate, Support, estimate_mean
from kp.metrics.verdicts import MARGIN, harm_of, judge
from kp.schema import EFFECTS
from kp.vocabulary import FactSubset

_Row = dict[str, str | float | int | bool | None]


def effect_table(effects: pl.DataFrame, subset: FactSubset, margin: float = MARGIN) -> pl.DataFrame:
    """The EFFECTS of every trial in FACT_EFFECTS on a subset of the facts: each effect on all of them, and on those at risk.

    An effect that a trial does not have (see `unavailable_effects`) has no row; one without facts has a row without values.
    """
    rows: list[_Row] = []
    for (trial_id,), of_trial in effects.sort("trial_id").group_by("trial_id", maintain_order=True):
        for effect in ALL_EFFECTS:
            found = rows_of(of_trial, effect)
            if found.is_empty():
                continue
            among = on_subset(found, subset)
            for at_risk, chosen in ((False, among), (True, on_categories(among, effect.at_risk))):
                key: _Row = {"trial_id": str(trial_id), "subset": subset.value, "at_risk": at_risk}
                rows.append(key | _summary(chosen, effect, margin))
    return pl.DataFrame(rows, schema=pl.DataFrame(pl.from_arrow(EFFECTS.empty_table())).schema)


def estimate_effect(rows: pl.DataFrame, effect: Effect) -> Estimate | None:
    """The mean of FACT_EFFECTS rows of one effect over their facts, with its interval; None without rows.

    Facts that share relation and object form a cluster. Several trials are runs of one arm: the mean is over all of them.
    """
    if rows.is_empty():
        return None
    support = Support.COUNT if effect.is_count else Support.SIGNED
    return estimate_mean(rows["value"].to_numpy(), fact_clusters(rows), rows["trial_id"].to_numpy(), support)


def fact_clusters(rows: pl.DataFrame) -> list[str]:
    """A label per row: equal for facts with the same relation and object."""
    return rows.select(pl.concat_str("relation", "object", separator="\n").alias("cluster"))["cluster"].to_list()


def _summary(rows: pl.DataFrame, effect: Effect, margin: float) -> _Row:
    named: _Row = {"effect": effect.kind.value, "shift": effect.shift and effect.shift.value}
    estimate = estimate_effect(rows, effect)
    if estimate is None:
        return named | {"n": 0, "clusters": 0}
    lower, upper = estimate.limits() or (None, None)
    return named | {
        "value": estimate.value,
        "adapter": float(rows["adapter"].to_numpy().mean()),
        "base": float(rows["base"].to_numpy().mean()),
        "n": estimate.n,
        "clusters": estimate.clusters,
        "standard_error": estimate.standard_error,
        "lower": lower,
        "upper": upper,
        "resolvable": estimate.resolvable(),
        "verdict": judge(harm_of(estimate, effect), margin).verdict.value if effect.harm_sign else None,
    }
