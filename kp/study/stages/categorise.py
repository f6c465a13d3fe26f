"""What the base model knows of every fact: S0 assigns the category, S1 and S2 measure."""

from kp.config.derived import BASE_SHOT_SETS
from kp.inference.base_answers import Categorisation
from kp.metrics.published import summarise
from kp.prompts import PROMPTS_PER_SET
from kp.store.steps import Step
from kp.study.asking_base import ASKING, TABLES, ask_base, shown_shots
from kp.study.pricing import Prompts
from kp.study.results import agreement_with_published
from kp.study.session import Session
from kp.study.stage import Command, Making, Planning, Stage, Work, model_literals, number


class Categorise(Stage):
    """Every fact on the three shot sets that every study has."""

    name = "categorise"
    command = Command.CATEGORISE
    version = 5
    reads = ASKING
    tables = TABLES

    def step(self, making: Making) -> Step:
        """Depends on the facts."""
        shots = shown_shots(making.identities.shots, BASE_SHOT_SETS)
        return Step(self.name, self.literals(making) | model_literals(making) | shots, (making.steps["facts"],))

    def plan(self, planning: Planning) -> Work:
        """All facts under all prompts."""
        sets = len(BASE_SHOT_SETS)
        prompts = f"{number(planning.facts)} facts x {PROMPTS_PER_SET} prompts x {sets} shot sets"
        return Work(f"{number(planning.asked, sets)} prompts: {prompts}", self.steps(planning.graph))

    def prompts(self, planning: Planning) -> Prompts | None:
        """For the base."""
        return None if planning.asked is None else Prompts(base=planning.asked * len(BASE_SHOT_SETS))

    def run(self, session: Session) -> None:
        """Ask the base model every fact."""
        step = session.graph.steps[self.name]
        if not session.is_done(step, self.name):
            ask_base(session, self.name, step, Categorisation(session.facts, session.shot_sets, BASE_SHOT_SETS, session.engine))
        table = agreement_with_published(session.graph, session.store, session.config.categorise.matcher)
        if table is not None and (found := summarise(table)):
            session.display.line(f"{self.name}: {found.sentence()}")
