"""The steps of a study as values; kp.study.building makes them, and nothing here runs anything.

dump (where the facts come out of one) -> facts

facts -> categorise -> trial (one each) -> what is measured of its adapter -> report
                    -> repeat (where the base is measured more often)
                    -> samples (where the study asks for them) -> trial
      -> paraphrases (where a model is to write some) -> trial that trains on paraphrases or holds some out
      -> replay_facts -> replay_categorise (where replayed facts have a source of their own) -> trial that replays facts
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kp.store.steps import Step
from kp.training.spec import TrialSpec


@dataclass(frozen=True)
class Trial:
    """A trial's spec, its step, and the steps of all that is measured of its adapter, by the name of the measurement."""

    spec: TrialSpec
    step: Step
    measurements: Mapping[str, Step] = field(hash=False)

    @property
    def trial_id(self) -> str:
        """The name tables know it by."""
        return self.step.fingerprint


@dataclass(frozen=True)
class Graph:
    """All steps of a study but the report, which depends on how the trials ended."""

    steps: Mapping[str, Step]  # by the name of their stage; what the study does not ask for is absent
    trials: tuple[Trial, ...]
    base: Mapping[str, Step]  # what is measured of the base model in addition to its categories, by the name of the measurement
    by_stage: Mapping[str, tuple[Step, ...]] = field(default_factory=dict)  # every step, by the name of the stage that commits it

    def evaluation_steps(self) -> list[Step]:
        """Everything that the evaluate stage commits."""
        return [*self.base.values(), *(step for trial in self.trials for step in trial.measurements.values())]
