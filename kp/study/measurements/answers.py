"""An adapter's answers to every fact, on the shot set on which it is compared with the base, and the resulting categories."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from kp import schema
from kp.inference.answering import CHUNK_FACTS, most_chunk_facts
from kp.inference.evaluation import LoadedModel, Part, joined_answers, question_parts
from kp.metrics.categories import categorise
from kp.schema import frame
from kp.store.filenames import ANSWERS_FILE, CATEGORIES_FILE
from kp.store.steps import Step
from kp.study.asking_base import GENERATION
from kp.study.graph import Trial
from kp.study.measurement import Measurement, Trained
from kp.study.session import Session
from kp.study.stage import Making, Planning, number
from kp.vocabulary import Activity, ShotSet

NAME = "answers"


def answers_on(shot_set: ShotSet) -> str:
    """The name of the step that holds an adapter's answers on a shot set."""
    return f"{NAME}/{shot_set}"


@dataclass(frozen=True)
class AnswersTask:
    """All facts on one shot set."""

    shot_set: ShotSet
    chunk_facts: int = CHUNK_FACTS  # most facts of a chunk
    needs_transformers: bool = False

    def parts(self, facts: pa.Table) -> list[Part]:
        """Chunks of the facts."""
        return question_parts(facts, self.shot_set, self.chunk_facts)

    def measure(self, model: LoadedModel, part: Part) -> pa.Table:
        """ANSWERS."""
        return model.answers(model.facts, part)

    def tables(self, parts: Sequence[pa.Table]) -> dict[str, pa.Table]:
        """ANSWERS, sorted, and CATEGORIES."""
        answers = joined_answers(parts)
        return {ANSWERS_FILE: answers, CATEGORIES_FILE: categorise(frame(answers)).to_arrow()}


class Answers(Measurement):
    """The answers of adapters; those of the base are its categorise step."""

    name = NAME
    version = 6
    reads = GENERATION
    tables = {ANSWERS_FILE: schema.ANSWERS, CATEGORIES_FILE: schema.CATEGORIES}
    activity = Activity.GENERATION

    def of_adapter(self, making: Making, trained: Trained) -> dict[str, Step]:
        """One step for each shot set, so that another one leaves those made before alone."""
        literals = self.literals(making)
        return {
            answers_on(shot_set): Step(NAME, literals | {"shot_set": shot_set.value}, (trained.step,))
            for shot_set in making.config.evaluate.shot_sets
        }

    def task(self, session: Session, name: str, trial: Trial | None) -> AnswersTask:
        """The facts are in the actors already."""
        return AnswersTask(ShotSet(name.removeprefix(f"{NAME}/")), most_chunk_facts(session.config.resources))

    def plan(self, planning: Planning) -> str:
        """For each adapter, all prompts of its shot sets for all facts."""
        count, sets = planning.trials.count, len(planning.config.evaluate.shot_sets)
        adapters = f"{count} {'adapter' if count == 1 else 'adapters'}"
        scaled = planning.adapters - count
        copies = f" and {scaled} scaled {'copy' if scaled == 1 else 'copies'}" if scaled else ""
        return f"{number(planning.asked, planning.adapters * sets)} prompts on {adapters}{copies}"

    def prompts(self, planning: Planning) -> int | None:
        """For all adapters."""
        sets = len(planning.config.evaluate.shot_sets)
        return None if planning.asked is None else planning.asked * planning.adapters * sets
