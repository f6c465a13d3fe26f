"""The steps of a study as values; kp.study.building makes them, and nothing here runs anything.

dump (if the source of the facts is one) -> facts

facts -> categorise -> trial (one each) -> measurements of its adapter -> report
                    -> repeat (if the base is measured more often)
                    -> samples (if the study requests them) -> trial
                    -> parts (if facts are kept out of training) -> trial
      -> paraphrases (if a model writes some) -> trial that trains on paraphrases, generality
      -> replay_facts -> replay_categorise (if replayed facts have a separate source) -> trial that replays facts
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kp.store.steps import Step
from kp.training.spec import TrialSpec


@dataclass(frozen=True)
class Trial:
    """A trial's spec, its step, and the steps of all measurements of its adapter, by the name of the measurement.

    The name of one at another scale than 1 ends in the scale: `answers/S1@0.5`.
    """

    spec: TrialSpec
    step: Step
    measurements: Mapping[str, Step] = field(hash=False)

    @property
    def trial_id(self) -> str:
        """Its name in tables."""
        return self.step.fingerprint


@dataclass(frozen=True)
class Graph:
    """All steps of a study except the report, which depends on how the trials ended."""

    steps: Mapping[str, Step]  # by the name of their stage; without those that the study does not request
    trials: tuple[Trial, ...]
    base: Mapping[str, Step]  # measurements of the base model in addition to its categories, by the name of the measurement
    by_stage: Mapping[str, tuple[Step, ...]] = field(default_factory=dict)  # every step, by the name of the stage that commits it

    def evaluation_steps(self) -> list[Step]:
        """Everything that the evaluate stage commits."""
        return [*self.base.values(), *(step for trial in self.trials for step in trial.measurements.values())]
