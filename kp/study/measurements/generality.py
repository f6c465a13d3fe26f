"""An adapter's answers to held-out paraphrases of the facts it packed: wordings that its trial did not train on.

They are no part of the trial, so that more or fewer of them train nothing again. A fact without paraphrases to hold out is not asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import polars as pl
import pyarrow as pa

from kp import schema
from kp.config.derived import ADAPTER_SHOT_SET
from kp.config.identity import Reads
from kp.inference.answering import CHUNK_FACTS, FactIndex, most_chunk_facts
from kp.inference.evaluation import LoadedModel, Part, joined_answers, question_parts
from kp.metrics.generality import QUESTIONS, answers_by_fact, held_out_questions
from kp.schema import frame
from kp.store.filenames import ANSWERS_FILE, ROWS_FILE
from kp.store.steps import Step
from kp.study.asking_base import GENERATION
from kp.study.graph import Trial
from kp.study.measurement import Measurement, Trained
from kp.study.pricing import held_out_prompts
from kp.study.session import Session
from kp.study.stage import Making, Planning
from kp.vocabulary import Activity, Role, ShotSet

NAME = "generality"


@dataclass(frozen=True)
class HeldOutTask:
    """Paraphrases that were not trained on (QUESTIONS of kp.metrics.generality), and the shot set on which they are asked."""

    questions: pa.Table
    shot_set: ShotSet
    chunk_facts: int = CHUNK_FACTS  # most questions of a chunk
    needs_transformers: bool = False

    def parts(self, facts: pa.Table) -> list[Part]:
        """Chunks of the paraphrases."""
        return question_parts(self.questions, self.shot_set, self.chunk_facts)

    def measure(self, model: LoadedModel, part: Part) -> pa.Table:
        """ANSWERS."""
        return model.answers(self._index, part)

    def tables(self, parts: Sequence[pa.Table]) -> dict[str, pa.Table]:
        """HELD_OUT_ANSWERS."""
        answers = joined_answers(parts)
        by_fact = answers_by_fact(frame(answers), frame(self.questions))
        return {ANSWERS_FILE: by_fact.to_arrow().cast(schema.HELD_OUT_ANSWERS)}

    @cached_property
    def _index(self) -> FactIndex:
        return FactIndex(self.questions)


class Generality(Measurement):
    """Only in a study that holds paraphrases out; its table is empty if the trial's arm leaves none."""

    name = NAME
    version = 5
    reads = Reads((*GENERATION.of, "evaluate.held_out_paraphrases"), GENERATION.but)
    tables = {ANSWERS_FILE: schema.HELD_OUT_ANSWERS}
    activity = Activity.GENERATION
    scaled = False

    def of_adapter(self, making: Making, trained: Trained) -> dict[str, Step]:
        """One step, on one shot set."""
        if not making.config.evaluate.held_out_paraphrases:
            return {}
        written = [making.steps["paraphrases"]] if "paraphrases" in making.steps else []
        return {NAME: Step(NAME, self.literals(making) | {"shot_set": ADAPTER_SHOT_SET.value}, (trained.step, *written))}

    def task(self, session: Session, name: str, trial: Trial | None) -> HeldOutTask:
        """The held-out paraphrases of the facts that a trial has packed."""
        assert trial is not None, "the base has packed nothing"
        rows: pl.DataFrame = frame(session.store.read(trial.step, ROWS_FILE, schema.TRAINING_ROWS))
        packed = rows.filter(role=Role.UNKNOWN.value)["fact_id"]
        count = session.config.evaluate.held_out_paraphrases
        questions = held_out_questions(frame(session.training_facts), packed, count, trial.spec.arm.paraphrases)
        return HeldOutTask(questions.to_arrow().cast(QUESTIONS), ADAPTER_SHOT_SET, most_chunk_facts(session.config.resources))

    def plan(self, planning: Planning) -> str | None:
        """Of all adapters."""
        held_out = self.prompts(planning)
        return f"at most {held_out:,} of held-out paraphrases" if held_out else None

    def prompts(self, planning: Planning) -> int:
        """Of all adapters."""
        held_out = planning.config.evaluate.held_out_paraphrases
        return planning.trials.total(lambda spec: held_out_prompts(spec, held_out))
