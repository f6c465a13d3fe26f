"""Which settings to choose for N facts: the candidates, and their order by what they are predicted to pack without harm.

The score of a setting is its predicted reliability times the probability that its harm is at most the tolerance. Candidates stay inside
what was measured, because beyond it the model knows nothing; only a rank that the user names may lie outside.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import polars as pl

from kp.advice.prediction import Predictor
from kp.advice.process import LENGTHS
from kp.advice.targets import Interval, Setting, beyond

RANKS = (1, 2, 4, 8, 16, 32, 64)
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
REPLAYED = (0, 1, 3, 10)
EXPOSURES = (2, 4, 8, 16, 32)


@dataclass(frozen=True)
class Question:
    """What is asked: N, the harm that is tolerated (a share), the base model's size, and the ranks that may be used, or all."""

    facts: int
    tolerance: float
    parameters: float
    ranks: tuple[int, ...] = ()


@dataclass(frozen=True)
class Advised:
    """A setting, what is predicted of it, and its score."""

    setting: Setting
    reliability: Interval
    harm: Interval
    score: float


@dataclass(frozen=True)
class Advice:
    """All candidates, best first; `near` are those and the settings one usual value beyond what was measured, likewise.

    `any_setting` if neither target can be told by settings, so that their order means nothing.
    """

    question: Question
    ordered: tuple[Advised, ...]
    near: tuple[Advised, ...]
    any_setting: bool
    outside: tuple[str, ...]  # knobs in which the question lies outside what was measured

    @property
    def best(self) -> Advised:
        """The first."""
        return self.ordered[0]

    @property
    def is_safe(self) -> bool:
        """Whether the whole interval of the best one's harm is within the tolerance."""
        return self.best.harm.upper <= self.question.tolerance


def candidates(rows: pl.DataFrame, question: Question, further: int = 0) -> list[Setting]:
    """Usual values of each knob within the measured range, or up to `further` values beyond; the nearest where none is inside."""
    choices = (
        question.ranks or _within(rows["rank"], RANKS, further),
        _within(rows["learning_rate"], RATES, further),
        _within(rows["exposures"], EXPOSURES, 0),
        _within(rows["replayed"], REPLAYED, further),
    )
    return [Setting(question.facts, *chosen, question.parameters) for chosen in itertools.product(*choices)]  # type: ignore[arg-type]


def _within(measured: pl.Series, usual: tuple[float, ...], further: int) -> tuple[float, ...]:
    low, high = float(measured.min()), float(measured.max())  # type: ignore[arg-type]
    inside = [place for place, value in enumerate(usual) if low * 0.95 <= value <= high * 1.05]
    inside = inside or [min(range(len(usual)), key=lambda place: abs(usual[place] - low))]
    return usual[max(inside[0] - further, 0) : inside[-1] + further + 1]


def advise(reliability: Predictor, harm: Predictor, question: Question) -> Advice:
    """Candidates where both targets were measured by their score; of equal ones, that of fewer steps and then the lower rank is first."""
    both = harm.rows.drop_nulls("reliability")
    rows = both if len(both) else harm.rows
    order = scored(reliability, harm, question, candidates(rows, question))
    near = scored(reliability, harm, question, candidates(rows, question, further=1))
    return Advice(question, order, near, not (reliability.has_skill or harm.has_skill), _outside(reliability, harm, order[0].setting))


def scored(reliability: Predictor, harm: Predictor, question: Question, settings: list[Setting]) -> tuple[Advised, ...]:
    """The settings with their predictions, best first."""
    packed, lost = reliability.predict(settings), harm.predict(settings)
    within = harm.chance_below(settings, question.tolerance)
    found = [
        Advised(setting, up, down, float(up.value * chance))
        for setting, up, down, chance in zip(settings, packed, lost, within, strict=True)
    ]
    return tuple(
        sorted(found, key=lambda one: (-round(one.score, 9), one.setting.exposures * (1 + one.setting.replayed), one.setting.rank))
    )


def _outside(reliability: Predictor, harm: Predictor, setting: Setting) -> tuple[str, ...]:
    """Knobs in which a setting lies outside the rows of either target."""
    names = np.array(list(LENGTHS))
    over = [beyond(predictor.rows, [setting])[0] > 0 for predictor in (reliability, harm)]
    return tuple(str(name) for name in names[over[0] | over[1]])
