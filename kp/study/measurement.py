"""The base class of measurements of adapters. One module in kp.study.measurements defines everything about one: the identity of its steps,
what an actor does, its price and its tables. The evaluate stage loops over kp.study.measurements.registry.

An adapter may be measured several times with different settings: each of these is a step with its own name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pyarrow as pa

from kp.config.derived import adapter_scales
from kp.config.identity import Reads
from kp.inference.evaluation import MeasurementTask
from kp.store.steps import Step
from kp.study.graph import Trial
from kp.study.session import Session
from kp.study.stage import Making, Planning
from kp.training.spec import TrialSpec
from kp.vocabulary import Activity


def scaled_name(name: str, scale: float) -> str:
    """The name of a measurement's step of an adapter at this scale."""
    return name if scale == 1 else f"{name}@{scale:g}"


def plain_name(name: str) -> str:
    """The name of the same measurement's step at scale 1."""
    return name.partition("@")[0]


@dataclass(frozen=True)
class Trained:
    """The part of a trial that identifies its measurements."""

    spec: TrialSpec
    step: Step


class Measurement:
    """One kind of measurement, of adapters and, unless another stage does that, of the base."""

    name: ClassVar[str]
    version: ClassVar[int]
    """Rises when the code changes the results, so that older results are not taken for newer ones."""
    reads: ClassVar[Reads]
    tables: ClassVar[Mapping[str, pa.Schema]]
    activity: ClassVar[Activity] = Activity.SCORING
    """What the time of its actors counts as."""
    scaled: ClassVar[bool] = True
    """Whether adapters are also measured at the other scales that a study requests."""

    def literals(self, making: Making) -> dict[str, Any]:
        """The part of the identity that comes from the version and from the fields that the measurement reads."""
        return {"version": self.version, **self.reads.stated(making.config)}

    def of_adapter(self, making: Making, trained: Trained) -> dict[str, Step]:
        """The steps of one adapter at scale 1 by name, beginning with the measurement's name; empty if the study does not request it."""
        raise TypeError(f"measurement {self.name} says no steps")

    def of_base(self, making: Making) -> dict[str, Step]:
        """The same for the base model."""
        return {}

    def at_scales(self, making: Making, trained: Trained) -> dict[str, Step]:
        """The steps of one adapter at every scale of the study, by name."""
        plain = self.of_adapter(making, trained)
        scales = adapter_scales(making.config, trained.spec.seed) if self.scaled else (1.0,)
        return {scaled_name(name, scale): _at_scale(step, scale) for scale in reversed(scales) for name, step in plain.items()}

    def task(self, session: Session, name: str, trial: Trial | None) -> MeasurementTask:
        """The task with which an actor makes the step of this plain name, for a trial's adapter or for the base."""
        raise TypeError(f"measurement {self.name} has no task")

    def plan(self, planning: Planning) -> str | None:
        """Its part of the plan's line, for all adapters; None if it asks nothing."""
        return None

    def prompts(self, planning: Planning) -> int | None:
        """Prompts for all adapters; None if that is unknown until the facts are read."""
        return 0


def _at_scale(step: Step, scale: float) -> Step:
    return step if scale == 1 else replace(step, literals={**step.literals, "scale": scale})
