"""If replayed facts have a separate source, they are chosen from it like the studied ones, and without these."""

from kp.config.derived import REPLAY_SHOT_SET, replay_settings
from kp.facts.replay import COUNT_FIELD, SOURCE_FIELD
from kp.schema import frame
from kp.store.steps import Step
from kp.study.choosing_facts import TABLES, FactChoice, choose_facts
from kp.study.session import Session
from kp.study.stage import Command, Making, Stage
from kp.study.stages.facts import CHOOSING, choosing_literals


class ReplayFacts(Stage):
    """Its step is absent if the study names no such source."""

    name = "replay_facts"
    command = Command.FACTS
    version = 5
    reads = CHOOSING
    tables = TABLES
    before_plan = True

    def step(self, making: Making) -> Step | None:
        """Depends on the studied facts."""
        settings = replay_settings(making.config)
        if settings is None:
            return None
        assert making.identities.replay is not None, "the identities of a graph include the source that its study names"
        asked = making.config.model_copy(update={"facts": settings})
        literals = choosing_literals(asked, making.identities.replay, making.identities.shots)
        return Step(self.name, {"version": self.version, **literals}, (making.steps["facts"],))

    def run(self, session: Session) -> None:
        """Choose them, after the studied ones."""
        step, settings = session.graph.steps.get(self.name), replay_settings(session.config)
        if step is None or settings is None or session.is_done(step, "replay facts"):
            return
        studied = frame(session.facts)
        choose_facts(session, FactChoice("replay facts", step, settings, (REPLAY_SHOT_SET,), studied, SOURCE_FIELD, COUNT_FIELD))
