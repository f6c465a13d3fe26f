"""What a measurement of adapters is. One module in kp.study.measurements holds all there is to know of one: what identifies its steps, what
an actor does for it, its price and its tables. The evaluate stage loops over kp.study.measurements.registry.

A measurement may be made several times of one adapter under different settings: each of these is a step with a name of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from kp.config.identity import Reads
from kp.inference.evaluation import MeasurementTask
from kp.store.steps import Step
from kp.study.graph import Trial
from kp.study.session import Session
from kp.study.stage import Making, Planning
from kp.training.spec import TrialSpec


@dataclass(frozen=True)
class Trained:
    """A trial as far as its measurements are known by it."""

    spec: TrialSpec
    step: Step


class Measurement:
    """One kind of measurement, of adapters and, where that has not been made elsewhere, of the base."""

    name: ClassVar[str]
    version: ClassVar[int]
    """Rises when the code changes what comes out, so that older results are not taken for newer ones."""
    reads: ClassVar[Reads]
    tables: ClassVar[Mapping[str, pa.Schema]]

    def literals(self, making: Making) -> dict[str, Any]:
        """The part of the identity that follows from the version and from the fields that the measurement reads."""
        return {"version": self.version, **self.reads.stated(making.config)}

    def of_adapter(self, making: Making, trained: Trained) -> dict[str, Step]:
        """The steps of one adapter by their names, which begin with the measurement's; none where the study does not ask for it."""
        raise TypeError(f"measurement {self.name} says no steps")

    def of_base(self, making: Making) -> dict[str, Step]:
        """The same of the base model."""
        return {}

    def task(self, session: Session, name: str, trial: Trial | None) -> MeasurementTask:
        """What an actor is handed to make the step of this name, of a trial's adapter or of the base."""
        raise TypeError(f"measurement {self.name} has no task")

    def plan(self, planning: Planning) -> str | None:
        """Its part of the plan's line, for all adapters; None where it asks nothing."""
        return None

    def prompts(self, planning: Planning) -> int | None:
        """Prompts put to all adapters; None where that is not known until the facts are read."""
        return 0
