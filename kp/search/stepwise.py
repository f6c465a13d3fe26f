"""Trials one knob at a time: rates first, then mixes, then ranks, each with the gentlest values so far that still learn.

What an adapter breaks depends mostly on its learning rate, then on what it replays, then on its rank; so a search for an adapter that harms
little needs few trials if it settles these in that order. A study lists its rates from the gentlest up and its mixes from the least
protective up, and a value counts if its trials learned: of the rates the first one that did, of the mixes the last one. If none did, the
one that learned most. Harm has no part in it, because it is measured once the search is over; the winner is then chosen among all trials.

Like every list of trials, this one is a function of the study and of what its trials reached.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from kp.config.search import SearchArm
from kp.config.study import StudyConfig
from kp.errors import UserError
from kp.training.spec import Choice, TrialSpec, searched_layers, trial_spec

Value = TypeVar("Value")
Cell = tuple[SearchArm, int, float]  # mix, rank, rate: one trial for each seed


def stepwise_size(rates: int, arms: int, ranks: int, seeds: int = 1) -> int:
    """The number of trials of all steps: every rate, every further mix and every further rank once, with each seed."""
    return (rates + arms + ranks - 2) * seeds


def stepwise_trials(config: StudyConfig, objective: Callable[[TrialSpec], float | None]) -> tuple[tuple[TrialSpec, ...], bool]:
    """The trials known so far, and whether no result can add one; `objective` as `kp.search.proposals.proposed` has it.

    Raises UserError if `search.trials` is larger than the number of trials of all steps.
    """
    search, wanted = config.search, config.search.trials or 0
    most = stepwise_size(len(search.learning_rate), len(search.arms), len(search.rank), len(search.seeds))
    if wanted > most:
        raise UserError(f"{wanted} asked for, but the steps through the lists of search make {most}", field="search.trials")
    specs: list[TrialSpec] = []
    for step in _steps(config, objective):
        specs += step
        if len(specs) >= wanted:
            break
    return tuple(specs[:wanted]), len(specs) >= wanted


def _steps(config: StudyConfig, objective: Callable[[TrialSpec], float | None]) -> Iterator[list[TrialSpec]]:
    """The trials of one step after the other, each as soon as those before have ended."""
    search = config.search
    (layers,) = searched_layers(config)

    def trials(cell: Cell) -> list[TrialSpec]:
        arm, rank, rate = cell
        return [trial_spec(config, Choice(search.unknown[0], arm, rank, rate, seed, layers)) for seed in search.seeds]

    def reached(cells: Sequence[Cell]) -> list[float] | None:
        """What the trials of each cell reached on average; None if one has not ended."""
        values = [[objective(spec) for spec in trials(cell)] for cell in cells]
        if any(value is None for of_cell in values for value in of_cell):
            return None
        return [_mean([value for value in of_cell if value is not None]) for of_cell in values]

    learned = search.stop_at_accuracy or 1.0
    arm, rank = search.arms[0], search.rank[0]
    cells: list[Cell] = [(arm, rank, rate) for rate in search.learning_rate]
    yield [spec for cell in cells for spec in trials(cell)]
    if (values := reached(cells)) is None:
        return
    rate = first_that_learned(search.learning_rate, values, learned)
    cells = [(other, rank, rate) for other in search.arms]
    yield [spec for cell in cells[1:] for spec in trials(cell)]
    if (values := reached(cells)) is None:
        return
    arm = first_that_learned(search.arms[::-1], values[::-1], learned)
    yield [spec for other in search.rank[1:] for spec in trials((arm, other, rate))]


def first_that_learned(values: Sequence[Value], reached: Sequence[float], learned: float) -> Value:
    """The first value that reached `learned`; if none did, the one that reached most, the first of equals."""
    for value, share in zip(values, reached, strict=True):
        if share >= learned:
            return value
    return values[max(range(len(values)), key=lambda place: (reached[place], -place))]


def _mean(values: Sequence[float]) -> float:
    """The mean over seeds without trials that say nothing (NaN); below everything if there is no other."""
    said = [value for value in values if not math.isnan(value)]
    return sum(said) / len(said) if said else -1.0
