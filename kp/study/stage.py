"""What a stage is. One module in kp.study.stages holds all there is to know of one: what identifies its step, its line in the plan, its
price, what it does, and the tables that it leaves. Everything else (graph, plan, run, report) loops over kp.study.registry."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

import pyarrow as pa

from kp.config.identity import Reads
from kp.config.study import StudyConfig
from kp.prompts import PROMPTS_PER_SET
from kp.store.steps import Step, Store
from kp.study.graph import Graph
from kp.study.identities import Identities
from kp.study.pricing import PlannedTrials, Prompts
from kp.study.session import Session


class Command(StrEnum):
    """The commands that run a study, in their order: each runs the stages up to and including its own."""

    FACTS = "facts"
    CATEGORISE = "categorise"
    SEARCH = "search"
    EVALUATE = "evaluate"
    REPORT = "report"


@dataclass(frozen=True)
class Making:
    """What a step is made of: the study, what goes into it, and the steps of the stages before, by name."""

    config: StudyConfig
    identities: Identities
    steps: Mapping[str, Step]

    @property
    def known(self) -> tuple[Step, ...]:
        """The steps that say what the base knows."""
        return tuple(self.steps[name] for name in ("categorise", "samples") if name in self.steps)


@dataclass(frozen=True)
class Planning:
    """What a plan goes by; counts are None where a source has not been read and the study does not say."""

    config: StudyConfig
    graph: Graph
    store: Store
    facts: int | None
    replayed: int | None
    trials: PlannedTrials

    @property
    def asked(self) -> int | None:
        """Prompts of all facts on one shot set."""
        return None if self.facts is None else self.facts * PROMPTS_PER_SET


@dataclass(frozen=True)
class Work:
    """A stage's line in the plan: what there is to do, in words, by which steps, and how many more steps are not known yet."""

    text: str
    steps: tuple[Step, ...]
    to_come: int = 0


class Stage:
    """One kind of work. A stage of one step says `step` and `run`, and where they are more than nothing `plan` and `prompts`."""

    name: ClassVar[str]
    command: ClassVar[Command]
    version: ClassVar[int]
    """Rises when the code changes what comes out, so that older results are not taken for newer ones."""
    reads: ClassVar[Reads]
    tables: ClassVar[Mapping[str, pa.Schema]] = {}
    before_plan: ClassVar[bool] = False
    """Whether it runs before a run prints its plan, which then counts what it found."""

    def make_steps(self, making: Making) -> dict[str, Step]:
        """The stage's steps but those of trials, by the name that the graph knows them by; its own name, where there is one."""
        step = self.step(making)
        return {self.name: step} if step else {}

    def step(self, making: Making) -> Step | None:
        """The one step of a stage that has one; None where the study does not ask for it."""
        return None

    def literals(self, making: Making) -> dict[str, Any]:
        """The part of the identity that follows from the version and from the fields that the stage reads."""
        return {"version": self.version, **self.reads.stated(making.config)}

    def steps(self, graph: Graph) -> tuple[Step, ...]:
        """All steps that the stage commits."""
        return (graph.steps[self.name],) if self.name in graph.steps else ()

    def plan(self, planning: Planning) -> Work | None:
        """Its line in the plan, or None where it has none in this study."""
        return None

    def prompts(self, planning: Planning) -> Prompts | None:
        """Prompts that it has answered at most; None where that is not known until the facts are read."""
        return Prompts()

    def run(self, session: Session) -> None:
        """Do what the store does not have, and commit it."""
        raise TypeError(f"stage {self.name} does nothing")


def number(value: int | None, times: int = 1) -> str:
    """A count as a plan says it."""
    return "all the" if value is None else f"{value * times:,}"


def model_literals(making: Making) -> dict[str, Any]:
    """The base model, by its content."""
    return {"model": making.identities.model}
