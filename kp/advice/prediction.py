"""Predictions of one target, with the proof of what they are worth: each study predicted from the others.

A process has skill if, leaving out each study in turn, its mean squared error (on shares, averaged over studies) is at most `NEEDED` of
that of the mean alone, and if on all rows it is `NATS` nats more likely than the mean alone. Otherwise every prediction is that of the
mean.
"""

import math
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy import stats

from kp.advice.process import Array, Observed, Process, fit_process
from kp.advice.targets import Interval, Setting, Target, beyond, observed, points, share

NEEDED = 0.9
NATS = 3.0
FEWEST_STUDIES = 2
LEVEL = 0.95


@dataclass(frozen=True)
class Errors:
    """Of predicting each study from the others: root mean squared errors as shares by study, and how often an interval held the value."""

    by_study: tuple[float, ...]
    covered: int
    rows: int

    @property
    def overall(self) -> float:
        """Root of the mean over studies of their squared errors."""
        return math.sqrt(sum(error**2 for error in self.by_study) / len(self.by_study))


@dataclass(frozen=True)
class Predictor:
    """What predicts a target: the process if it has skill, else the mean alone. `left_out` are None with fewer than two studies."""

    target: Target
    rows: pl.DataFrame  # of EXPERIENCE, with the target
    process: Process
    mean: Process
    process_left_out: Errors | None
    mean_left_out: Errors | None

    @property
    def has_skill(self) -> bool:
        """Whether the settings of a trial say more of its target than the mean does."""
        if self.process_left_out is None or self.mean_left_out is None:
            return False
        better = self.process_left_out.overall**2 <= NEEDED * self.mean_left_out.overall**2
        return better and self.process.log_likelihood - self.mean.log_likelihood >= NATS

    @property
    def used(self) -> Process:
        """The process that predicts."""
        return self.process if self.has_skill else self.mean

    def scaled(self, settings: list[Setting]) -> tuple[Array, Array]:
        """Mean and standard deviation [n] on the model's scale; the deviation grows with the distance outside what was measured.

        By sqrt(1 + d^2), d the distance in lengths of the priors: a rule and not learned, because no row can teach it.
        """
        mean, deviation = self.used.predict(points(settings))
        return mean, deviation * np.sqrt(1 + np.sum(beyond(self.rows, settings) ** 2, axis=1))

    def predict(self, settings: list[Setting]) -> list[Interval]:
        """Median and 95% interval of each setting's true value, in a study that is not among the rows."""
        mean, deviation = self.scaled(settings)
        reach = _reach(self.used.seen) * deviation
        ends = [share(self.target, one) for one in (mean, mean - reach, mean + reach)]
        return [Interval(float(value), float(lower), float(upper)) for value, lower, upper in zip(*ends, strict=True)]

    def chance_below(self, settings: list[Setting], limit: float) -> Array:
        """The probability [n] that the value is at most a limit, given on the model's scale."""
        mean, deviation = self.scaled(settings)
        return np.asarray(stats.t.cdf((limit - mean) / deviation, _freedom(self.used.seen)))


def fit_predictor(rows: pl.DataFrame, target: Target) -> Predictor:
    """The predictor of a target from EXPERIENCE, of which at least one row must have it."""
    known = rows.drop_nulls(target.value)
    seen = observed(known, target)
    left_out = [_left_out(seen, target, signal) for signal in (True, False)]
    return Predictor(target, known, fit_process(seen, True), fit_process(seen, False), *left_out)


def _left_out(seen: Observed, target: Target, signal: bool) -> Errors | None:
    studies = np.unique(seen.study)
    if len(studies) < FEWEST_STUDIES:
        return None
    errors, covered = [], 0
    for study in studies:
        others, held = seen.only(seen.study != study), seen.only(seen.study == study)
        mean, deviation = fit_process(others, signal).predict(held.x)
        errors.append(float(np.sqrt(np.mean((share(target, mean) - share(target, held.y)) ** 2))))
        covered += int(np.sum(np.abs(held.y - mean) <= _reach(others) * np.hypot(deviation, held.error)))
    return Errors(tuple(errors), covered, len(seen.y))


def _freedom(seen: Observed) -> int:
    """Degrees of freedom: how little the number of studies says of the spread between studies."""
    return max(len(np.unique(seen.study)) - 1, 1)


def _reach(seen: Observed) -> float:
    return float(stats.t.ppf(0.5 + LEVEL / 2, _freedom(seen)))
