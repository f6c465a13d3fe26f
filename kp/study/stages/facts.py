"""The facts to be measured: read, checked row by row, and chosen."""

from typing import Any

from kp.config.derived import BASE_SHOT_SETS
from kp.config.identity import Reads
from kp.config.study import StudyConfig
from kp.store.steps import Step
from kp.study.choosing_facts import TABLES, FactChoice, choose_facts
from kp.study.session import Session
from kp.study.stage import Command, Making, Planning, Stage, Work, number

CHOOSING = Reads(
    ("facts",),
    but=(
        "facts.source",  # known by its content,
        "facts.graph.templates",  # as these are
        "facts.graph.aliases",
        "facts.graph.same_as",
        "facts.graph.redirects",
        "facts.graph.ontology",
        "facts.seed",  # in sum with the study's
        "facts.paraphrase",  # a stage of its own
    ),
)


def choosing_literals(config: StudyConfig, source: str, shots: str) -> dict[str, Any]:
    """How facts are chosen out of a source; which of the shots give one away is among what is found out."""
    order = {"facts.relations": sorted(config.facts.relations)}  # in which they are written changes nothing
    seed = config.seed + config.facts.seed
    return {**CHOOSING.stated(config), **order, "seed": seed, "source": source, "shots": shots}


class Facts(Stage):
    """The measured facts."""

    name = "facts"
    command = Command.FACTS
    version = 4
    reads = CHOOSING
    tables = TABLES
    before_plan = True

    def step(self, making: Making) -> Step:
        """Rests on the dump, where there is one."""
        identities = making.identities
        literals = {"version": self.version, **choosing_literals(making.config, identities.facts, identities.shots)}
        drawing = {"drawing": dict(identities.drawing)} if identities.drawing is not None else {}
        return Step(self.name, literals | drawing, (making.steps["dump"],) if "dump" in making.steps else ())

    def plan(self, planning: Planning) -> Work:
        """How many are measured."""
        return Work(f"{number(planning.facts)} facts from {planning.config.facts.source}", self.steps(planning.graph))

    def run(self, session: Session) -> None:
        """Read the source, check every row, choose the facts."""
        step = session.graph.steps[self.name]
        if session.is_done(step, self.name):
            return
        choose_facts(session, FactChoice(self.name, step, session.config.facts, BASE_SHOT_SETS))
        for fault, rows in session.shots.passed_over.items():
            session.display.line(f"facts: {rows:,} rows of {session.config.categorise.shots} are not used as shots: {fault}")
