"""How far an adapter moves what the model expects of text: neutral passages that ship with kp, and the study's own questions."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa

from kp import schema
from kp.benchmarks.neutral_text import Passage, first_passages, passages_digest
from kp.config.identity import Reads
from kp.inference.evaluation import LoadedModel, Part
from kp.metrics.drift import QUESTIONS
from kp.store.draws import draw_key
from kp.store.filenames import DRIFT_FILE
from kp.store.steps import Step
from kp.study.graph import Trial
from kp.study.measurement import Measurement, Trained
from kp.study.session import Session
from kp.study.stage import Making, Planning

NAME = "drift"
MOST_QUESTIONS = 100
WORDS_A_QUESTION = 20  # of neutral text for each question that is read as well
PASSAGES_A_PART = 8
QUESTIONS_A_PART = 50

_Text = tuple[str, str, str]  # register, name, text


@dataclass(frozen=True)
class DriftTask:
    """The passages; the questions are drawn from the facts, the same for every adapter of the study."""

    passages: tuple[Passage, ...]
    questions: int  # the most
    needs_transformers: bool = True

    def parts(self, facts: pa.Table) -> list[Part]:
        """A few texts each."""
        passages = [(passage.register, passage.name, passage.text) for passage in self.passages]
        drawn = sorted(facts.select(["fact_id", "question"]).to_pylist(), key=lambda row: draw_key(0, row["fact_id"]))
        questions = [(QUESTIONS, row["fact_id"], row["question"]) for row in drawn[: self.questions]]
        groups = [*_groups(passages, PASSAGES_A_PART), *_groups(questions, QUESTIONS_A_PART)]
        return [Part(f"{number:03d}", {"texts": [list(text) for text in group]}, len(group)) for number, group in enumerate(groups)]

    def measure(self, model: LoadedModel, part: Part) -> pa.Table:
        """TEXT_DRIFT."""
        from kp.generation.drift import text_drifts

        texts = part.content["texts"]
        with model.transformers() as generator:
            found = text_drifts(generator, [text for _, _, text in texts])
            generator.on_answered(len(texts))
        rows = [
            {"trial_id": model.trial_id, "text": name, "register": register, **asdict(drift)}
            for (register, name, _), drift in zip(texts, found, strict=True)
        ]
        return pa.Table.from_pylist(rows, schema=schema.TEXT_DRIFT)

    def tables(self, parts: Sequence[pa.Table]) -> dict[str, pa.Table]:
        """TEXT_DRIFT."""
        return {DRIFT_FILE: pa.concat_tables([schema.TEXT_DRIFT.empty_table(), *parts])}


class Drift(Measurement):
    """Of adapters alone: each is compared with the base in the same pass."""

    name = NAME
    version = 2
    reads = Reads(("evaluate.drift_words",))
    tables = {DRIFT_FILE: schema.TEXT_DRIFT}

    def of_adapter(self, making: Making, trained: Trained) -> dict[str, Step]:
        """One step for all texts, identified by what they say."""
        words = making.config.evaluate.drift_words
        if not words:
            return {}
        task = _task(words)
        texts = {"texts": passages_digest(task.passages), "questions": task.questions}
        return {NAME: Step(NAME, self.literals(making) | texts, (trained.step,))}

    def task(self, session: Session, name: str, trial: Trial | None) -> DriftTask:
        """The same for every adapter."""
        return _task(session.config.evaluate.drift_words)

    def plan(self, planning: Planning) -> str | None:
        """Of each adapter."""
        words = planning.config.evaluate.drift_words
        return f"drift over {sum(passage.words for passage in first_passages(words)):,} words of text" if words else None


def _task(words: int) -> DriftTask:
    return DriftTask(tuple(first_passages(words)), min(MOST_QUESTIONS, words // WORDS_A_QUESTION))


def _groups(texts: Sequence[_Text], size: int) -> list[Sequence[_Text]]:
    return [texts[start : start + size] for start in range(0, len(texts), size)]
