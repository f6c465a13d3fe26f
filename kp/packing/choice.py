"""Which trial and which scale is the adapter, and what can be said of it.

Both are chosen on S1 and on the dev half of the control facts; what is told of the choice is its reliability on S2 and its loss on the test
half, which had no part in it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import polars as pl

from kp.metrics.scale_curve import ScaleMeasure
from kp.vocabulary import TrialStatus, Verdict

ROUNDING = 1e-9


class Ending(StrEnum):
    """What came of it."""

    PACKED = "packed"  # learned, and no harm beyond the margin
    UNRESOLVED = "not_resolved"  # learned; whether it harms is not known
    HARMFUL = "harm_shown"  # learned, and harm is shown
    NOT_LEARNED = "not_learned"


@dataclass(frozen=True)
class Told:
    """What is told of an adapter at a scale."""

    trial_id: str
    scale: float
    reliability: float  # on S1, which chose it
    reliability_told: float  # on S2; on S1 if the study has no S2
    loss: float | None  # of right answers to known test control facts, a share; None without any
    lower: float | None  # its 95% interval
    upper: float | None
    controls: int  # test control facts that the base knew
    verdict: Verdict
    target: float
    margin: float

    @property
    def ending(self) -> Ending:
        """What came of it."""
        if self.reliability_told < self.target - ROUNDING:
            return Ending.NOT_LEARNED
        if self.below_margin:
            return Ending.PACKED
        match self.verdict:
            case Verdict.WITHIN_MARGIN:
                return Ending.PACKED
            case Verdict.HARM_SHOWN:
                return Ending.HARMFUL
            case Verdict.NOT_RESOLVED:
                return Ending.UNRESOLVED

    @property
    def below_margin(self) -> bool:
        """Whether the interval lies below the margin; a harm can be shown all the same, and is then a small one."""
        return self.upper is not None and self.upper < self.margin

    @property
    def controls_needed(self) -> int | None:
        """Control facts, of both halves, with which the interval would lie below the margin if the loss stayed what it is.

        An interval's half length falls with the square root of the number of facts: n' = n (half / (margin - loss))^2, a loss below 0
        counting as 0. None if the loss is not below the margin, so that more facts would not change the verdict, or without an interval.
        """
        if self.loss is None or self.upper is None or self.loss >= self.margin:
            return None
        half = self.upper - self.loss
        return 2 * math.ceil(self.controls * (half / (self.margin - max(self.loss, 0.0))) ** 2)


def ranked_trials(summary: pl.DataFrame, target: float) -> list[dict[str, Any]]:
    """The finished trials of a summary, best first: those reliable on S1 by their loss on dev facts, then the others by reliability."""
    finished = summary.filter((pl.col("status") == TrialStatus.COMPLETED.value) & pl.col("reliability").is_not_null())

    def order(row: Mapping[str, Any]) -> tuple[object, ...]:
        learned = row["reliability"] >= target - ROUNDING
        loss = row["dev_loss"] if row["dev_loss"] is not None else math.inf
        return (0, loss, row["learning_rate"], row["rank"]) if learned else (1, -row["reliability"], loss, row["rank"])

    return sorted(finished.iter_rows(named=True), key=order)


def told_at(curve: pl.DataFrame, trial_id: str, scale: float, target: float, margin: float) -> Told:
    """What SCALE_CURVE tells of a trial's adapter at a scale."""
    rows = {row["measure"]: row for row in curve.filter(trial_id=trial_id, scale=scale).iter_rows(named=True)}
    learned, lost = rows[ScaleMeasure.RELIABILITY.value], rows[ScaleMeasure.TEST_LOSS.value]
    again = rows.get(ScaleMeasure.RELIABILITY_S2.value, learned)
    verdict = Verdict(lost["verdict_alone"]) if lost["verdict_alone"] else Verdict.NOT_RESOLVED
    interval = lost["value"], lost["lower"], lost["upper"]
    return Told(trial_id, scale, learned["value"], again["value"], *interval, lost["n"], verdict, target, margin)


def chosen_scale(curve: pl.DataFrame, trial_id: str, target: float) -> float:
    """The scale that loses least of the dev facts among those reliable on S1, the smallest of equals; 1 if none is reliable."""
    of_trial = curve.filter(trial_id=trial_id)
    measured = {
        measure: dict(of_trial.filter(measure=measure.value).select("scale", "value").iter_rows())
        for measure in (ScaleMeasure.RELIABILITY, ScaleMeasure.DEV_LOSS)
    }
    reliable = [scale for scale, value in measured[ScaleMeasure.RELIABILITY].items() if value is not None and value >= target - ROUNDING]
    losses = measured[ScaleMeasure.DEV_LOSS]
    known = [(losses[scale], scale) for scale in reliable if losses.get(scale) is not None]
    return min(known)[1] if known else 1.0


def affordable_trials(hours: float, spent: float, each: float, last: float) -> int:
    """Trials that fit into so many hours, of `each` seconds, beside the seconds spent already and those of the last measurement."""
    return max(0, math.floor((3600 * hours - spent - last) / each))
