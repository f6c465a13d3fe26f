"""What an adapter knows and what it costs at several scales s of its change of the weights, from one training.

Every measure is one that a study has of adapters anyway, by the same estimator: an adapter at a scale is one more adapter. So a curve is 0
everywhere for an adapter that changes no answer, and at scale 1 it is what the study reports of that trial.

The best scale is chosen on the dev half of the control facts and on S1; its loss is reported on the test half and its reliability on S2. To
choose among scales and report on the same facts would report the luck of the choice as well.
"""

from enum import StrEnum

import polars as pl

from kp.metrics.effect_summary import has_controls, reported_effects
from kp.metrics.refusal_changes import refusal_changes
from kp.metrics.result_schema import SCALE_CURVE
from kp.metrics.scores import Measure, score_learning
from kp.schema import OUTCOMES, frame
from kp.vocabulary import BASE, EffectKind, FactSubset


class ScaleMeasure(StrEnum):
    """The measures of SCALE_CURVE."""

    RELIABILITY = Measure.RELIABILITY.value  # on S1
    RELIABILITY_S2 = Measure.RELIABILITY_S2.value
    LOSS = "loss"  # of right answers to known control facts, a share; of untrained known facts if the study has no control facts
    DEV_LOSS = "dev_loss"  # on the half on which a scale is chosen; the same as LOSS without control facts
    TEST_LOSS = "test_loss"  # on the half on which the chosen scale's loss is reported; likewise
    REFUSAL_CHANGE = "refusal_change"  # share of refused answers on S1, minus the base's


_SUBSETS = {
    ScaleMeasure.LOSS: FactSubset.CONTROL,
    ScaleMeasure.DEV_LOSS: FactSubset.CONTROL_DEV,
    ScaleMeasure.TEST_LOSS: FactSubset.CONTROL_TEST,
}


def scale_curve(outcomes: pl.DataFrame, scaled: pl.DataFrame, facts: pl.DataFrame, margin: float) -> pl.DataFrame:
    """The SCALE_CURVE of every trial in SCALED_OUTCOMES, at its scales and at 1; `outcomes` (OUTCOMES) has it at 1, and the base.

    `margin` is the harm that counts as small, a share.
    """
    columns = OUTCOMES.names
    trials = scaled["trial_id"].unique().implode()
    whole = outcomes.filter(pl.col("trial_id").is_in(trials)).with_columns(scale=pl.lit(1.0))
    each = pl.concat([scaled.select(*columns, "scale"), whole.select(*columns, "scale")])
    named = each.with_columns(trial_id=pl.col("trial_id") + "@" + pl.col("scale").cast(pl.String))
    at_scales = pl.concat([outcomes.filter(trial_id=BASE).select(columns), named.select(columns)])
    rows = pl.concat([_learned(at_scales), _lost(at_scales, facts, margin), _refused(at_scales, facts)], how="diagonal")
    ends = pl.col("trial_id").str.split_exact("@", 1)
    parted = rows.with_columns(trial_id=ends.struct.field("field_0"), scale=ends.struct.field("field_1").cast(pl.Float64))
    order = [measure.value for measure in ScaleMeasure]
    table = frame(SCALE_CURVE.empty_table())
    return (
        pl.concat([table, parted.select(name for name in SCALE_CURVE.names if name in parted.columns)], how="diagonal_relaxed")
        .select(SCALE_CURVE.names)
        .sort("trial_id", "scale", pl.col("measure").replace_strict(order, range(len(order)), return_dtype=pl.Int32))
    )


def best_scale(curve: pl.DataFrame, trial_id: str, margin: float) -> float | None:
    """The scale with the highest reliability on S1 among those that lose no more than the margin of dev facts; None if there is none.

    Of equally reliable scales it is the smallest.
    """
    of_trial = curve.filter(trial_id=trial_id)
    losses = of_trial.filter((pl.col("measure") == ScaleMeasure.DEV_LOSS.value) & (pl.col("value") <= margin)).select("scale")
    learned = of_trial.filter(measure=ScaleMeasure.RELIABILITY.value).join(losses, on="scale").drop_nulls("value")
    ordered = learned.sort("value", "scale", descending=[True, False])
    return float(ordered["scale"][0]) if len(ordered) else None


def _learned(outcomes: pl.DataFrame) -> pl.DataFrame:
    wanted = [ScaleMeasure.RELIABILITY.value, ScaleMeasure.RELIABILITY_S2.value]
    found = score_learning(outcomes).filter((pl.col("trial_id") != BASE) & pl.col("measure").is_in(wanted))
    return found.select("trial_id", "measure", "value", "n", "standard_error")


def _lost(outcomes: pl.DataFrame, facts: pl.DataFrame, margin: float) -> pl.DataFrame:
    effects = reported_effects(outcomes, facts, margin).filter(effect=EffectKind.NET_CHANGE.value, at_risk=True)
    controls = has_controls(outcomes)
    tables = [
        effects.filter(subset=(subset if controls else FactSubset.UNTRAINED).value).select(
            "trial_id",
            pl.lit(measure.value).alias("measure"),
            (0.0 - pl.col("value")).alias("value"),  # no change is 0.0, not -0.0
            "n",
            "standard_error",
            (0.0 - pl.col("upper")).alias("lower"),
            (0.0 - pl.col("lower")).alias("upper"),
            "verdict_alone",
        )
        for measure, subset in _SUBSETS.items()
    ]
    return pl.concat(tables)


def _refused(outcomes: pl.DataFrame, facts: pl.DataFrame) -> pl.DataFrame:
    changes = refusal_changes(outcomes, facts)
    asked = len(outcomes.filter(trial_id=BASE, shot_set="S1"))
    return changes.select(
        "trial_id",
        pl.lit(ScaleMeasure.REFUSAL_CHANGE.value).alias("measure"),
        "value",
        pl.lit(asked).cast(pl.Int64).alias("n"),
        "standard_error",
        "lower",
        "upper",
    )
