"""The base class of stages. One module in kp.study.stages defines everything about one: the identity of its step, its line in the plan, its
price, what it does, and its tables. Everything else (graph, plan, run, report) loops over kp.study.registry."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

import pyarrow as pa

from kp.config.derived import adapter_scales
from kp.config.identity import Reads
from kp.config.study import StudyConfig
from kp.prompts import PROMPTS_PER_SET
from kp.store.steps import Step, Store
from kp.study.graph import Graph
from kp.study.identities import Identities
from kp.study.pricing import PlannedTrials, Prompts
from kp.study.session import Session


class Command(StrEnum):
    """The commands that run a study, in order: each runs the stages up to and including its own."""

    FACTS = "facts"
    CATEGORISE = "categorise"
    SEARCH = "search"
    EVALUATE = "evaluate"
    REPORT = "report"


@dataclass(frozen=True)
class Making:
    """What a step is made from: the study, its inputs, and the steps of earlier stages, by name."""

    config: StudyConfig
    identities: Identities
    steps: Mapping[str, Step]

    @property
    def known(self) -> tuple[Step, ...]:
        """The steps that determine what the base knows."""
        return tuple(self.steps[name] for name in ("categorise", "samples") if name in self.steps)


@dataclass(frozen=True)
class Planning:
    """The basis of a plan; counts are None if a source has not been read and the study does not state them."""

    config: StudyConfig
    graph: Graph
    store: Store
    facts: int | None
    replayed: int | None
    trials: PlannedTrials

    @property
    def adapters(self) -> int:
        """Adapters to measure, each counted once for every scale."""
        return self.trials.total(lambda spec: len(adapter_scales(self.config, spec.seed)))

    @property
    def asked(self) -> int | None:
        """Prompts of all facts on one shot set."""
        return None if self.facts is None else self.facts * PROMPTS_PER_SET


@dataclass(frozen=True)
class Work:
    """A stage's line in the plan: a description of the work, its steps, and how many more steps are not known yet."""

    text: str
    steps: tuple[Step, ...]
    to_come: int = 0


class Stage:
    """One kind of work. A stage with one step defines `step` and `run`, and if needed `plan` and `prompts`."""

    name: ClassVar[str]
    command: ClassVar[Command]
    version: ClassVar[int]
    """Rises when the code changes the results, so that older results are not taken for newer ones."""
    reads: ClassVar[Reads]
    tables: ClassVar[Mapping[str, pa.Schema]] = {}
    before_plan: ClassVar[bool] = False
    """Whether it runs before the plan is printed, which then counts its results."""

    def make_steps(self, making: Making) -> dict[str, Step]:
        """The stage's steps except those of trials, by their name in the graph; a single step has the stage's name."""
        step = self.step(making)
        return {self.name: step} if step else {}

    def step(self, making: Making) -> Step | None:
        """The step of a stage with one step; None if the study does not request it."""
        return None

    def literals(self, making: Making) -> dict[str, Any]:
        """The part of the identity that comes from the version and from the fields that the stage reads."""
        return {"version": self.version, **self.reads.stated(making.config)}

    def steps(self, graph: Graph) -> tuple[Step, ...]:
        """All steps that the stage commits."""
        return (graph.steps[self.name],) if self.name in graph.steps else ()

    def plan(self, planning: Planning) -> Work | None:
        """Its line in the plan, or None if it has none in this study."""
        return None

    def prompts(self, planning: Planning) -> Prompts | None:
        """The most prompts that it asks; None if that is unknown until the facts are read."""
        return Prompts()

    def run(self, session: Session) -> None:
        """Make the steps that the store does not have, and commit them."""
        raise TypeError(f"stage {self.name} does nothing")


def number(value: int | None, times: int = 1) -> str:
    """A count as written in a plan."""
    return "all the" if value is None else f"{value * times:,}"


def model_literals(making: Making) -> dict[str, Any]:
    """The base model, identified by its content."""
    return {"model": making.identities.model}
