"""How much adapters changed the share of refused answers, on the prompts that the base was asked as well.

The two are paired by fact: that some facts are refused more often than others, by both, cancels in the difference. Facts with the same
relation and object form a cluster. A change is no harm as such, in either direction, so there is a test and no verdict.
"""

import polars as pl

from kp.errors import UserError
from kp.metrics.effect_summary import CLUSTER
from kp.metrics.intervals import CONFIDENCE, estimate_mean
from kp.metrics.paired_tests import holm
from kp.vocabulary import BASE, ShotSet

CHANGED_BELOW = 1 - CONFIDENCE
"""A change is shown if `p_holm` is below this."""
_COLUMNS = dict.fromkeys(("value", "standard_error", "lower", "upper", "p_holm"), pl.Float64)


def refusal_changes(outcomes: pl.DataFrame, facts: pl.DataFrame) -> pl.DataFrame:
    """The change of each trial in OUTCOMES on S1, sorted by `trial_id`; `facts` (FACTS) has relation and object of each.

    Columns: `value`, the mean over facts of the share refused minus the base's; `standard_error`; `lower` and `upper`, the 95% interval of
    this trial alone; `p_holm`, two-sided and corrected over all trials. Raises UserError if a fact has no row of the base or is unknown.
    """
    pairs = _paired(outcomes.filter(shot_set=ShotSet.S1.value), facts).partition_by("trial_id", maintain_order=True)
    estimates = [estimate_mean(one["change"], one["cluster"].to_numpy()) for one in pairs]
    adjusted = holm([estimate.p_value() for estimate in estimates])
    rows = [
        {"trial_id": one["trial_id"][0], "p_holm": p_holm} | estimate.columns()
        for one, estimate, p_holm in zip(pairs, estimates, adjusted, strict=True)
    ]
    return pl.DataFrame(rows, schema={"trial_id": pl.String, **_COLUMNS})


def _paired(on_s1: pl.DataFrame, facts: pl.DataFrame) -> pl.DataFrame:
    """One row per trial and fact: trial_id, fact_id, cluster, change."""
    rate = (pl.col("refused") / pl.col("asked")).alias("rate")
    named = facts.select("fact_id", CLUSTER)
    base = on_s1.filter(trial_id=BASE).select("fact_id", rate.alias("base")).join(named, on="fact_id")
    adapters = on_s1.filter(pl.col("trial_id") != BASE).select("trial_id", "fact_id", rate).sort("trial_id", "fact_id")
    pairs = adapters.join(base, on="fact_id", how="left", maintain_order="left")
    for trial_id, fact_id in pairs.filter(pl.col("base").is_null()).select("trial_id", "fact_id").head(1).rows():
        raise UserError(f"outcomes: fact '{fact_id}' of trial '{trial_id}' on {ShotSet.S1} has no row of the base, or is none of the facts")
    return pairs.with_columns((pl.col("rate") - pl.col("base")).alias("change"))
