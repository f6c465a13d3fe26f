"""Repeated measurements of the base model, on shot sets beyond S2: a step for each, on which no training depends.

So a study may request one more at any time, and only that one is made.
"""

from kp.config.derived import BASE_SHOT_SETS, repeated_shot_sets
from kp.inference.base_answers import Categorisation
from kp.store.steps import Step
from kp.study.asking_base import ASKING, TABLES, ask_base, shown_shots
from kp.study.graph import Graph
from kp.study.pricing import Prompts
from kp.study.session import Session
from kp.study.stage import Command, Making, Planning, Stage, Work, model_literals, number
from kp.vocabulary import ShotSet


class Repeat(Stage):
    """Its steps are named after their shot sets; there are none if `categorise.repeat_measurements` is 0."""

    name = "repeat"
    command = Command.CATEGORISE
    version = 3
    reads = ASKING
    tables = TABLES

    def make_steps(self, making: Making) -> dict[str, Step]:
        """One for each further shot set, which depends on the facts."""
        literals = self.literals(making) | model_literals(making)
        return {
            _name(shot_set): Step(self.name, literals | shown_shots(making.identities.shots, (shot_set,)), (making.steps["facts"],))
            for shot_set in repeated_shot_sets(making.config)
        }

    def steps(self, graph: Graph) -> tuple[Step, ...]:
        """Those of all further shot sets."""
        return tuple(step for name, step in graph.steps.items() if name.startswith(f"{self.name}/"))

    def plan(self, planning: Planning) -> Work | None:
        """All facts on each of them."""
        steps = self.steps(planning.graph)
        sets = f"{len(steps)} shot sets beyond {BASE_SHOT_SETS[-1]}"
        return Work(f"{number(planning.asked, len(steps))} prompts: {number(planning.facts)} facts on {sets}", steps) if steps else None

    def prompts(self, planning: Planning) -> Prompts | None:
        """For the base."""
        sets = len(self.steps(planning.graph))
        return Prompts() if not sets else None if planning.asked is None else Prompts(base=planning.asked * sets)

    def run(self, session: Session) -> None:
        """Ask the base model every fact again on each of them."""
        for shot_set in repeated_shot_sets(session.config):
            step, name = session.graph.steps[_name(shot_set)], f"{self.name} {shot_set}"
            if not session.is_done(step, name):
                ask_base(session, name, step, Categorisation(session.facts, session.shot_sets, (shot_set,), session.engine))


def _name(shot_set: ShotSet) -> str:
    return f"{Repeat.name}/{shot_set}"
