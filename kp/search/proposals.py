"""The trials of a search: its whole grid, or `search.trials` trials drawn at random, proposed step by step (kp.search.stepwise) or by
Optuna's TPE sampler.

The list is a function of the study and, with Optuna, of the results of its trials: after a kill, in another process or on another machine
the list is the same, and the trials' records are the only state. A larger `search.trials` makes the list
longer and changes nothing in it.

Random choices come from hashes, like the draws of kp.training.mixtures, not from a generator that a later version may change. A rate from
`search.learning_rate_range` has three significant digits, so that it can be read and written. This also makes every space finite, so no
trial need be proposed twice.

Optuna is asked in batches of `search.optuna_batch`, each when all earlier trials have ended. It gets the results in the order of the list,
whichever trial ended first. Within a batch, its constant liar avoids the same proposal. Proposals depend on the pinned version of Optuna
(constraints.txt): another version may propose other trials.
"""

import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from kp.config.study import StudyConfig
from kp.errors import UserError
from kp.search.stepwise import stepwise_trials
from kp.training.spec import Choice, TrialSpec, grid, searched_layers, trial_spec
from kp.vocabulary import Sampler, TrialStatus

Objective = Callable[[TrialSpec], float | None]

STARTUP_TRIALS = 8  # ended trials before TPE replaces random choices; Optuna's 10 are too many if trials take minutes
ASKS = 20  # attempts of Optuna for one trial, before a random choice that is not in the list yet
MANTISSAS = 900  # of three digits: 100 to 999


@dataclass(frozen=True)
class Proposal:
    """The trials of a search known so far; `complete` if results can add no more, although some may not have run yet."""

    specs: tuple[TrialSpec, ...]
    complete: bool


def proposed(config: StudyConfig, objective: Objective, replay: "Replay | None" = None) -> Proposal:
    """The trials of the study's search, all different.

    `objective` returns a trial's value from `objective_of`, or None if it has not ended; only Optuna needs it. It must return what the
    trial's record says, the same in every call. `replay` is kept by who asks several times for the same study; it spares repetition and
    changes nothing. Raises UserError if `search.trials` is larger than the space.
    """
    if config.search.sampler is Sampler.GRID:
        return Proposal(tuple(grid(config)), complete=True)
    if config.search.sampler is Sampler.STEPWISE:
        return Proposal(*stepwise_trials(config, objective))
    space = _Space(config)
    wanted = config.search.trials or 0
    if wanted > space.size:
        by_rates = " with the rates of three digits in search.learning_rate_range" if config.search.learning_rate_range else ""
        raise UserError(f"{wanted} asked for, but the lists of search{by_rates} make {space.size} combinations", field="search.trials")
    if config.search.sampler is Sampler.RANDOM:
        choices: dict[Choice, TrialSpec] = {}
        for number in range(wanted):
            choice = space.unseen(number, choices)
            choices[choice] = trial_spec(config, choice)
        return Proposal(tuple(choices.values()), complete=True)
    specs = (replay or Replay()).continued(config, space, objective)
    return Proposal(specs, complete=len(specs) == wanted)


def objective_of(status: TrialStatus, unknown_accuracy: float | None) -> float:
    """The objective value of a trial that ended with this status: its last unknown_accuracy, also if it was stopped early.

    A diverged trial has 0, whatever it reached before: its knobs broke it. One that failed, ran out of memory, or has no measurement is
    NaN: it says nothing about its knobs, and Optuna neither prefers nor avoids their neighbourhood.
    """
    if status is TrialStatus.DIVERGED:
        return 0.0
    if status in (TrialStatus.FAILED, TrialStatus.OUT_OF_MEMORY) or unknown_accuracy is None:
        return math.nan
    return unknown_accuracy


@dataclass(frozen=True)
class _Rates:
    """The numbers with three significant digits within a range; a number's index is the count of such numbers below it."""

    lowest: float
    highest: float

    @cached_property
    def first(self) -> int:
        """The index of the smallest one."""
        index = _rate_index(self.lowest)
        return index if _rate(index) >= self.lowest else index + 1

    @cached_property
    def last(self) -> int:
        """The index of the largest one."""
        index = _rate_index(self.highest)
        return index if _rate(index) <= self.highest else index - 1

    def near(self, rate: float) -> float:
        """The nearest one."""
        return _rate(min(max(_rate_index(rate), self.first), self.last))

    def at(self, share: float) -> float:
        """The one nearest to this share (0 to 1) of the range on a log scale."""
        # exp and log differ in the last bits between machines; three digits do not.
        return self.near(math.exp(math.log(self.lowest) + share * (math.log(self.highest) - math.log(self.lowest))))


def _rate_index(rate: float) -> int:
    mantissa, exponent = f"{rate:.2e}".split("e")
    return MANTISSAS * int(exponent) + int(mantissa.replace(".", "")) - 100


def _rate(index: int) -> float:
    exponent, mantissa = divmod(index, MANTISSAS)
    return float(f"{mantissa + 100}e{exponent - 2}")


class _Space:
    """The space of choices of a search; `lists` has the values of each knob that is given as a list, by its name in Choice."""

    def __init__(self, config: StudyConfig) -> None:
        search = config.search
        self.seed = config.seed
        self.lists: dict[str, tuple[Any, ...]] = {
            "unknown": search.unknown,
            "arm": search.arms,
            "rank": search.rank,
            "learning_rate": search.learning_rate,
            "seed": search.seeds,
            "layers": searched_layers(config),
        }
        self.rates: _Rates | None = None
        if search.learning_rate_range:
            del self.lists["learning_rate"]
            self.rates = _Rates(*search.learning_rate_range)
            if self.rates.first > self.rates.last:
                raise UserError("no number of three significant digits lies in it; give a wider range", field="search.learning_rate_range")

    @property
    def size(self) -> int:
        """The number of choices."""
        return math.prod(map(len, self.lists.values())) * (self.rates.last - self.rates.first + 1 if self.rates else 1)

    def unseen(self, number: int, seen: dict[Choice, TrialSpec]) -> Choice:
        """The random choice with this number, different from those seen; one must be left."""
        attempt = 0
        while (choice := self._random(number, attempt)) in seen:
            attempt += 1
        return choice

    def _random(self, number: int, attempt: int) -> Choice:
        def share(knob: str) -> float:
            digest = hashlib.blake2b(f"{self.seed}\n{number}\n{attempt}\n{knob}".encode(), digest_size=6).digest()
            return int.from_bytes(digest) / 2**48

        places = {knob: int(share(knob) * len(values)) for knob, values in self.lists.items()}
        return self.choice(places, self.rates.at(share("learning_rate")) if self.rates else None)

    def choice(self, places: dict[str, int], rate: float | None) -> Choice:
        """The choice with these indices into the lists, and with this rate, rounded to three digits."""
        chosen = {knob: values[places[knob]] for knob, values in self.lists.items()}
        return Choice(**chosen, learning_rate=self.rates.near(rate)) if self.rates and rate else Choice(**chosen)


class Replay:
    """What Optuna was asked and told so far in this process, for one study.

    A search asks for its list again after every batch. Without this, all earlier batches would be asked for once more each time, which for
    hundreds of trials takes longer than to train them. The list is the same with it and without.
    """

    def __init__(self) -> None:
        self._asking: _Asking | None = None
        self._specs: dict[Choice, TrialSpec] = {}
        self._batch: list[tuple[Any, TrialSpec]] = []  # asked for, and not all of them have ended

    def continued(self, config: StudyConfig, space: _Space, objective: Objective) -> tuple[TrialSpec, ...]:
        """All trials of the batches that can be proposed so far."""
        search = config.search
        wanted = search.trials or 0
        with _quiet_optuna():
            self._asking = self._asking or _Asking(space)
            while self._batch or len(self._specs) < wanted:
                if not self._batch:
                    for _ in range(min(search.optuna_batch, wanted - len(self._specs))):
                        asked, choice = self._asking.new(len(self._specs), self._specs)
                        self._specs[choice] = trial_spec(config, choice)
                        self._batch.append((asked, self._specs[choice]))
                values = [objective(spec) for _, spec in self._batch]
                if None in values:
                    break
                for (asked, _), value in zip(self._batch, values, strict=True):
                    self._asking.tell(asked, value)
                self._batch = []
        return tuple(self._specs.values())


class _Asking:
    """Optuna's sampler over a space; categorical knobs are passed to it as indices into the lists."""

    def __init__(self, space: _Space) -> None:
        from optuna import create_study
        from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
        from optuna.samplers import TPESampler

        seed = int.from_bytes(hashlib.blake2b(f"{space.seed}\noptuna".encode(), digest_size=4).digest())
        sampler = TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS, multivariate=True, constant_liar=True)
        self._study = create_study(direction="maximize", sampler=sampler)
        self._space = space
        self._distributions: dict[str, BaseDistribution] = {
            knob: CategoricalDistribution(range(len(values))) for knob, values in space.lists.items()
        }
        if space.rates:
            self._distributions["learning_rate"] = FloatDistribution(space.rates.lowest, space.rates.highest, log=True)

    def new(self, number: int, seen: dict[Choice, TrialSpec]) -> tuple[Any, Choice]:
        """Optuna's next trial that is not among those seen, and its choice."""
        from optuna.trial import TrialState

        for _ in range(ASKS):
            asked = self._study.ask(fixed_distributions=self._distributions)
            choice = self._space.choice(asked.params, asked.params.get("learning_rate") if self._space.rates else None)
            if choice not in seen:
                return asked, choice
            # The sampler has its value or will get it; to report it twice would make the point count twice.
            self._study.tell(asked, state=TrialState.FAIL)
        choice = self._space.unseen(number, seen)
        self._study.enqueue_trial(self._params(choice))
        return self._study.ask(fixed_distributions=self._distributions), choice

    def tell(self, asked: Any, value: float | None) -> None:
        """Report the value of a trial; NaN says nothing about its knobs."""
        from optuna.trial import TrialState

        if value is None or math.isnan(value):
            self._study.tell(asked, state=TrialState.FAIL)
        else:
            self._study.tell(asked, value)

    def _params(self, choice: Choice) -> dict[str, Any]:
        chosen = {knob: values.index(getattr(choice, knob)) for knob, values in self._space.lists.items()}
        return chosen if self._space.rates is None else {**chosen, "learning_rate": choice.learning_rate}


@contextmanager
def _quiet_optuna() -> Iterator[None]:
    """Optuna without its log lines; its log level is global to the process, so it is restored afterwards."""
    from optuna import logging

    level = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(level)
