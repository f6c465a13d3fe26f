"""The base model asked once more, in other batches: the change that rounding alone makes."""

import pyarrow as pa

from kp.inference.answering import most_chunk_facts
from kp.inference.evaluation import Part, question_parts
from kp.store.steps import Step
from kp.study.asking_base import GENERATION
from kp.study.graph import Trial
from kp.study.measurement import Measurement
from kp.study.measurements.answers import Answers, AnswersTask
from kp.study.session import Session
from kp.study.stage import Making, Planning, number
from kp.vocabulary import PLACEBO, Activity, ShotSet


def placebo_on(shot_set: ShotSet) -> str:
    """The name of the step that holds the base's second answers on a shot set."""
    return f"{PLACEBO}/{shot_set}"


class PlaceboTask(AnswersTask):
    """Asks every second fact apart from the others, so that no batch is one of the first time."""

    def parts(self, facts: pa.Table) -> list[Part]:
        """Chunks of the one half of the facts, then of the other."""
        halves = {first: facts.take(list(range(first, len(facts), 2))) for first in range(min(2, len(facts)))}
        return [part for first, half in halves.items() for part in question_parts(half, self.shot_set, self.chunk_facts, f"{first}-")]


class Placebo(Measurement):
    """Of the base alone."""

    name = PLACEBO
    version = 2
    reads = GENERATION
    tables = Answers.tables
    activity = Activity.GENERATION

    def of_adapter(self, making: Making, trained: object) -> dict[str, Step]:
        """None."""
        return {}

    def of_base(self, making: Making) -> dict[str, Step]:
        """One step for each shot set on which adapters are asked; none if the study does not request it."""
        if not making.config.evaluate.placebo:
            return {}
        literals = self.literals(making)
        asked = making.steps["categorise"]
        return {
            placebo_on(shot_set): Step(PLACEBO, literals | {"shot_set": shot_set.value}, (asked,))
            for shot_set in making.config.evaluate.shot_sets
        }

    def task(self, session: Session, name: str, trial: Trial | None) -> PlaceboTask:
        """The facts are in the actors already."""
        return PlaceboTask(ShotSet(name.removeprefix(f"{PLACEBO}/")), most_chunk_facts(session.config.resources))

    def plan(self, planning: Planning) -> str | None:
        """All prompts of its shot sets for all facts."""
        if not planning.config.evaluate.placebo:
            return None
        return f"{number(planning.asked, len(planning.config.evaluate.shot_sets))} once more to the base"

    def prompts(self, planning: Planning) -> int | None:
        """Asked by the same actors as those of adapters."""
        if not planning.config.evaluate.placebo:
            return 0
        return None if planning.asked is None else planning.asked * len(planning.config.evaluate.shot_sets)
