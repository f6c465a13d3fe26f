"""If replayed facts have a separate source, the base is asked these, only on S0, because they are not measured."""

from kp.config.derived import REPLAY_SHOT_SET
from kp.inference.base_answers import Categorisation
from kp.prompts import PROMPTS_PER_SET
from kp.store.steps import Step
from kp.study.asking_base import ASKING, TABLES, ask_base, shown_shots
from kp.study.pricing import Prompts
from kp.study.session import Session
from kp.study.stage import Command, Making, Planning, Stage, Work, model_literals, number


class ReplayCategorise(Stage):
    """Its step is absent if the study names no such source; trials that replay facts depend on it."""

    name = "replay_categorise"
    command = Command.CATEGORISE
    version = 5
    reads = ASKING
    tables = TABLES

    def step(self, making: Making) -> Step | None:
        """Depends on the facts that may be replayed."""
        if "replay_facts" not in making.steps:
            return None
        shots = shown_shots(making.identities.shots, (REPLAY_SHOT_SET,))
        return Step(self.name, self.literals(making) | model_literals(making) | shots, (making.steps["replay_facts"],))

    def plan(self, planning: Planning) -> Work | None:
        """Choosing the facts is part of the line."""
        if self.name not in planning.graph.steps:
            return None
        asked = f"{number(planning.replayed, PROMPTS_PER_SET)} prompts on {REPLAY_SHOT_SET}"
        text = f"{number(planning.replayed)} facts from {planning.config.search.replay_source} to replay: {asked}"
        return Work(text, (planning.graph.steps["replay_facts"], *self.steps(planning.graph)))

    def prompts(self, planning: Planning) -> Prompts | None:
        """For the base."""
        return None if planning.replayed is None else Prompts(base=planning.replayed * PROMPTS_PER_SET)

    def run(self, session: Session) -> None:
        """Ask the base model every fact that may be replayed."""
        step = session.graph.steps.get(self.name)
        if step is not None and not session.is_done(step, "replay categorise"):
            job = Categorisation(session.replay_facts, session.replay_shot_sets, (REPLAY_SHOT_SET,), session.engine)
            ask_base(session, "replay categorise", step, job)
