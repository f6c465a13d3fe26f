"""The two targets of a prediction, their scales, and the settings as coordinates.

Reliability is modelled as log odds, of (r N + 1/2) / (N + 1) so that none and all of N facts are finite, with the standard error
1 / sqrt(N p (1 - p)) of a log odds (Agresti, Categorical Data Analysis, 2013, section 3.1). Harm is modelled as it is, a share lost.
Predictions are medians with 95% intervals; one of reliability is between 0 and 1, one of harm between -1 and 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import polars as pl

from kp.advice.process import LENGTHS, Array, Observed


class Target(StrEnum):
    """What is predicted."""

    RELIABILITY = "reliability"
    HARM = "harm"


@dataclass(frozen=True)
class Setting:
    """A trial that could be run: N, the adapter, its training, and the size of the base model."""

    facts: int
    rank: int
    learning_rate: float
    exposures: int
    replayed: int
    parameters: float

    def steps(self, batch_size: int) -> int:
        """Optimiser steps: batches of an epoch, which sees every packed fact and what is replayed with it once, times the epochs."""
        return -(-self.facts * (1 + self.replayed) // batch_size) * self.exposures


@dataclass(frozen=True)
class Interval:
    """A predicted share with the ends of its 95% interval."""

    value: float
    lower: float
    upper: float


def coordinates(rows: pl.DataFrame) -> Array:
    """EXPERIENCE as points [n, knobs] in doublings; of replayed facts, doublings of one plus their number."""
    return np.column_stack([_doublings(name, rows[name].to_numpy().astype(np.float64)) for name in LENGTHS])


def points(settings: Sequence[Setting]) -> Array:
    """Settings as `coordinates`."""
    return coordinates(pl.DataFrame([{name: float(getattr(one, name)) for name in LENGTHS} for one in settings]))


def _doublings(name: str, values: Array) -> Array:
    return np.asarray(np.log2(1 + values if name == "replayed" else values))


def observed(rows: pl.DataFrame, target: Target) -> Observed:
    """The rows that measured the target, on its scale; studies are numbered in their order."""
    known = rows.drop_nulls(target.value)
    values = known[target.value].to_numpy().astype(np.float64)
    study = known["study"].rank("dense").to_numpy().astype(np.int64)
    if target is Target.HARM:
        error = known["harm_se"].fill_null(0.0).to_numpy().astype(np.float64)
        return Observed(coordinates(known), values, error, study)
    facts = known["facts"].to_numpy().astype(np.float64)
    share = (values * facts + 0.5) / (facts + 1)
    error = 1 / np.sqrt((facts + 1) * share * (1 - share))
    return Observed(coordinates(known), np.log(share / (1 - share)), error, study)


def share(target: Target, value: Array) -> Array:
    """From the scale of the model to a share, within its bounds."""
    if target is Target.HARM:
        return np.asarray(np.clip(value, -1.0, 1.0))
    return np.asarray(1 / (1 + np.exp(-np.clip(value, -500, 500))))


def beyond(rows: pl.DataFrame, settings: Sequence[Setting]) -> Array:
    """How far each setting lies outside the measured range of each knob, in units of LENGTHS [n, knobs]; 0 inside."""
    seen, asked = coordinates(rows), points(settings)
    over = np.maximum(asked - seen.max(axis=0), 0) + np.maximum(seen.min(axis=0) - asked, 0)
    over[over < 1e-9] = 0.0
    return np.asarray(over / np.array(list(LENGTHS.values())))
