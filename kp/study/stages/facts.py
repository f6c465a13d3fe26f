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
        "facts.source",  # identified by its content,
        "facts.graph.templates",  # like these
        "facts.graph.aliases",
        "facts.graph.same_as",
        "facts.graph.redirects",
        "facts.graph.ontology",
        "facts.seed",  # added to the study's
        "facts.paraphrase",  # separate stages
        "facts.control_share",
        "facts.control_unknown_share",
    ),
)


def choosing_literals(config: StudyConfig, source: str, shots: str) -> dict[str, Any]:
    """What determines how facts are chosen from a source; which shots leak a fact is one of the stage's results."""
    order = {"facts.relations": sorted(config.facts.relations)}  # in which they are written does not matter
    seed = config.seed + config.facts.seed
    return {**CHOOSING.stated(config), **order, "seed": seed, "source": source, "shots": shots}


class Facts(Stage):
    """The measured facts."""

    name = "facts"
    command = Command.FACTS
    version = 5
    reads = CHOOSING
    tables = TABLES
    before_plan = True

    def step(self, making: Making) -> Step:
        """Depends on the dump, if there is one."""
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
