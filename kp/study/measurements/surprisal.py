"""The surprisal of the canonical answers of all facts, of the base and of every adapter: what an adapter holds, in bits."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from kp import schema
from kp.config.identity import Reads
from kp.inference.evaluation import LoadedModel, Part
from kp.store.filenames import SURPRISAL_FILE
from kp.store.steps import Step
from kp.study.graph import Trial
from kp.study.measurement import Measurement, Trained
from kp.study.session import Session
from kp.study.stage import Making, Planning
from kp.vocabulary import BASE

NAME = "surprisal"
PART_FACTS = 512


@dataclass(frozen=True)
class SurprisalTask:
    """All facts, without shots; it needs the model's probabilities."""

    needs_transformers: bool = True

    def parts(self, facts: pa.Table) -> list[Part]:
        """Some facts each."""
        ids = facts["fact_id"].to_pylist()
        return [_part(start, ids[start : start + PART_FACTS]) for start in range(0, len(ids), PART_FACTS)]

    def measure(self, model: LoadedModel, part: Part) -> pa.Table:
        """SURPRISAL."""
        from kp.generation.surprisal import surprisals

        facts = model.facts.take(part.content["fact_ids"])
        asked = [
            (question, answers[0]) for question, answers in zip(*(facts[name].to_pylist() for name in ("question", "answers")), strict=True)
        ]
        with model.transformers() as generator:
            found = surprisals(generator.model, generator.chat, asked, generator.batch_size)
            generator.on_answered(part.prompts)
        columns = {name: [getattr(one, name) for one in found] for name in ("bits", "end_bits", "tokens", "is_greedy")}
        ids = {"fact_id": part.content["fact_ids"], "model_id": [model.model_id] * len(found)}
        return pa.table({**ids, **columns}).cast(schema.SURPRISAL)

    def tables(self, parts: Sequence[pa.Table]) -> dict[str, pa.Table]:
        """SURPRISAL, in the order of the facts."""
        return {SURPRISAL_FILE: pa.concat_tables([schema.SURPRISAL.empty_table(), *parts])}


def _part(start: int, fact_ids: list[str]) -> Part:
    return Part(f"{start:08d}", {"fact_ids": fact_ids}, len(fact_ids))


class SurprisalMeasurement(Measurement):
    """Of the base and of every adapter, unless the study leaves it out."""

    name = NAME
    version = 2
    reads = Reads(("model.dtype",))
    tables = {SURPRISAL_FILE: schema.SURPRISAL}

    def of_adapter(self, making: Making, trained: Trained) -> dict[str, Step]:
        """One step."""
        return self._step(making, (trained.step,))

    def of_base(self, making: Making) -> dict[str, Step]:
        """The same for the base, from which the gain in bits is taken."""
        return self._step(making, (making.steps["categorise"],), of=BASE)

    def _step(self, making: Making, inputs: tuple[Step, ...], **of: str) -> dict[str, Step]:
        return {NAME: Step(NAME, self.literals(making) | of, inputs)} if making.config.evaluate.surprisal else {}

    def task(self, session: Session, name: str, trial: Trial | None) -> SurprisalTask:
        """The facts are in the actors already."""
        return SurprisalTask()

    def plan(self, planning: Planning) -> str | None:
        """One pass over the answers of all facts for each adapter."""
        return "surprisal of all answers" if planning.config.evaluate.surprisal else None
