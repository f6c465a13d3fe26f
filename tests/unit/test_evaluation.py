"""What one actor measures of an adapter, with a generator in place of the model that knows the answers to some questions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from kp import schema
from kp.generation.protocol import FinishReason, Generation
from kp.inference.evaluation import Measured, MeasurementTask, ModelJob, _Evaluator
from kp.metrics.generality import QUESTIONS, held_out_questions
from kp.metrics.scores import score_generality
from kp.prompts import Messages, builtin_prompts
from kp.store.filenames import ANSWERS_FILE
from kp.store.hardware import process_hardware
from kp.study.measurements.answers import AnswersTask
from kp.study.measurements.generality import HeldOutTask
from kp.vocabulary import Matcher, ShotSet
from tests.made_up_study import facts

FACTS = facts().head(5).with_columns(pl.Series([[f"P{number} {row}?" for number in range(4)] for row in range(5)]).alias("paraphrases"))


class Parrot:
    """Says "object 1" to whatever holds a 1; hears which adapter is active."""

    def __init__(self) -> None:
        self.on_answered: Any = None
        self.activated: list[str | None] = []

    def generate(self, prompts: Sequence[Messages]) -> list[Generation]:
        return [Generation("object 1" if "1" in chat[-1]["content"] else "no idea", FinishReason.STOP, 2) for chat in prompts]

    def load_adapter(self, path: str | None) -> None:
        self.activated.append(path)


class Engine:
    """Makes a Parrot."""

    batch_size = 4

    def load(self) -> tuple[None, Parrot]:
        return None, Parrot()


class NoTally:
    """Nobody hears of progress."""

    class _Counting:
        def __enter__(self) -> None:
            return None

        def __exit__(self, *_: object) -> None:
            return None

    def counting(self, chunk_id: str) -> "_Counting":
        return self._Counting()


@pytest.fixture
def evaluator(tmp_path: Path) -> Any:
    engine: Any = Engine()
    tally: Any = NoTally()
    shot_sets = {ShotSet.S1: builtin_prompts(ShotSet.S1)}
    return _Evaluator(engine, FACTS.to_arrow().cast(schema.FACTS), shot_sets, tally, tmp_path)


def held_out(count: int) -> HeldOutTask:
    questions = held_out_questions(FACTS, ["f001", "f003"], count)
    return HeldOutTask(questions.to_arrow().cast(QUESTIONS), ShotSet.S1)


def job(**tasks: MeasurementTask) -> ModelJob:
    return ModelJob("t", "digest", Path("adapter"), tasks)


def frame(table: pa.Table) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(table))


def test_measure_held_out_paraphrases_alone_leaves_the_facts_unasked(evaluator: Any) -> None:
    result: Measured = evaluator.measure(job(generality=held_out(2)))
    assert set(result.tables) == set(result.seconds) == {"generality"}
    assert result.hardware == process_hardware()
    found = frame(result.tables["generality"][ANSWERS_FILE])
    assert found.to_arrow().cast(schema.HELD_OUT_ANSWERS).schema == schema.HELD_OUT_ANSWERS
    asked = found.select("fact_id", "paraphrase_index", "prompt_index").unique()
    assert (asked.height, found.height) == (2 * 2 * 10, 2 * 2 * 10)
    assert set(found["paraphrase_index"]) == {2, 3}
    assert set(found["shot_set"]) == {"S1"}
    assert score_generality("t", found, ["f001", "f003"], Matcher.STRICT)["value"].to_list() == [0.5]


def test_measure_answers_are_the_same_with_paraphrases_held_out_as_without(evaluator: Any) -> None:
    answers = AnswersTask(FACTS.height, ShotSet.S1)
    alone, both = evaluator.measure(job(answers=answers)), evaluator.measure(job(answers=answers, generality=held_out(1)))
    assert set(alone.tables) == {"answers"}
    assert frame(both.tables["answers"][ANSWERS_FILE]).equals(frame(alone.tables["answers"][ANSWERS_FILE]))
    assert frame(both.tables["answers"][ANSWERS_FILE]).height == answers.prompts == 5 * 10
    assert frame(both.tables["generality"][ANSWERS_FILE]).height == 2 * 10
