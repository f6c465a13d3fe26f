"""Answers to reversed questions, of an adapter to those of the facts it packed and of some untaught ones, of the base to all of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import polars as pl
import pyarrow as pa

from kp import schema
from kp.config.derived import ADAPTER_SHOT_SET
from kp.config.identity import Reads
from kp.inference.answering import CHUNK_FACTS, FactIndex, most_chunk_facts
from kp.inference.evaluation import LoadedModel, Part, joined_answers, question_parts
from kp.metrics.matching import AnswerKeys
from kp.metrics.reversal import asked_of, reversible
from kp.prompts import PROMPTS_PER_SET
from kp.schema import frame
from kp.store.filenames import ANSWERS_FILE, CATEGORIES_FILE, ROWS_FILE
from kp.store.steps import Step
from kp.study.asking_base import GENERATION
from kp.study.graph import Trial
from kp.study.measurement import Measurement, Trained
from kp.study.session import Session
from kp.study.stage import Making, Planning
from kp.vocabulary import BASE, Activity, Category, Role, ShotSet

NAME = "reversal"


@dataclass(frozen=True)
class ReversedTask:
    """Reversed questions, as FACTS whose ids are those of the facts that are reversed."""

    questions: pa.Table
    reversible: pa.Table  # all that any model may be asked, whose answers are those of their relations
    shot_set: ShotSet
    chunk_facts: int = CHUNK_FACTS  # most questions of a chunk
    needs_transformers: bool = False

    def parts(self, facts: pa.Table) -> list[Part]:
        """Chunks of the questions."""
        return question_parts(self.questions, self.shot_set, self.chunk_facts)

    def measure(self, model: LoadedModel, part: Part) -> pa.Table:
        """ANSWERS."""
        return replace(model, keys=self._keys).answers(self._index, part)

    def tables(self, parts: Sequence[pa.Table]) -> dict[str, pa.Table]:
        """ANSWERS, by the id of the reversed fact."""
        return {ANSWERS_FILE: joined_answers(parts)}

    @cached_property
    def _index(self) -> FactIndex:
        return FactIndex(self.questions)

    @cached_property
    def _keys(self) -> AnswerKeys:
        return AnswerKeys.of_table(self.reversible)


class Reversal(Measurement):
    """Only in a study that asks for it; without a fact that can be reversed its tables are empty."""

    name = NAME
    version = 1
    reads = Reads((*GENERATION.of, "seed"), GENERATION.but)
    tables = {ANSWERS_FILE: schema.ANSWERS}
    activity = Activity.GENERATION
    scaled = False

    def of_adapter(self, making: Making, trained: Trained) -> dict[str, Step]:
        """One step, on one shot set."""
        return self._step(making, (trained.step,))

    def of_base(self, making: Making) -> dict[str, Step]:
        """The base answers all that any adapter may be asked."""
        return self._step(making, (making.steps["categorise"],), of=BASE)

    def _step(self, making: Making, inputs: tuple[Step, ...], **of: str) -> dict[str, Step]:
        if not making.config.evaluate.reversed_questions:
            return {}
        return {NAME: Step(NAME, self.literals(making) | {"shot_set": ADAPTER_SHOT_SET.value} | of, inputs)}

    def task(self, session: Session, name: str, trial: Trial | None) -> ReversedTask:
        """The questions of a trial, or all."""
        every = questions = reversible(frame(session.facts))
        if trial is not None:
            rows = frame(session.store.read(trial.step, ROWS_FILE, schema.TRAINING_ROWS))
            categories = frame(session.store.read(session.graph.steps["categorise"], CATEGORIES_FILE, schema.CATEGORIES))
            of_base = categories.filter(
                shot_set=ShotSet.S0.value, matcher=session.config.categorise.matcher.value, category=Category.UNKNOWN.value
            )
            packed = rows.filter(role=Role.UNKNOWN.value)["fact_id"]
            questions = asked_of(questions, packed, rows["fact_id"], of_base["fact_id"], session.config.seed)
        return ReversedTask(_table(questions), _table(every), ADAPTER_SHOT_SET, most_chunk_facts(session.config.resources))

    def plan(self, planning: Planning) -> str | None:
        """Of all adapters."""
        return f"at most {most:,} of reversed questions" if (most := self.prompts(planning)) else None

    def prompts(self, planning: Planning) -> int:
        """Of all adapters, if every packed fact could be reversed; the base's come on top, at most one set for each fact."""
        if not planning.config.evaluate.reversed_questions:
            return 0
        return planning.trials.total(lambda spec: 2 * spec.unknown * PROMPTS_PER_SET)


def _table(questions: pl.DataFrame) -> pa.Table:
    return questions.to_arrow().cast(schema.FACTS)
