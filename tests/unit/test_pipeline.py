"""What an actor of the pipeline returns for its chunks, and what is collected from that; no Ray."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import pyarrow as pa
import pytest

from kp import schema
from kp.config.study import ModelConfig
from kp.generation.protocol import FinishReason, Generation
from kp.inference import pipeline
from kp.inference.answering import EngineSpec
from kp.inference.base_answers import Categorisation, _collect, _OfBase
from kp.inference.pipeline import _ChunkAnswerer
from kp.prompts import Messages, builtin_prompts
from kp.store.hardware import distinct_hardware, process_hardware
from kp.vocabulary import ShotSet
from tests.made_up_study import facts

ENGINE = EngineSpec(ModelConfig(), 12, stop_at_newline=True, batch_size=8, threads=1, use_gpu=False)
ASKED = facts().head(6).to_arrow().cast(schema.FACTS)


class Model:
    """As much of a resolved model as answers name."""

    revision = "rev"


class Parrot:
    """Answers everything alike."""

    on_answered: Any = None

    def generate(self, prompts: Sequence[Messages]) -> list[Generation]:
        return [Generation("Answer: object 1", FinishReason.STOP, 2) for _ in prompts]


class NoTally:
    """Nobody hears of progress."""

    def counting(self, part: str) -> Any:
        return nullcontext()


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> Categorisation:
    monkeypatch.setattr(EngineSpec, "load", lambda self: (Model(), Parrot()))
    return Categorisation(ASKED, {ShotSet.S0: builtin_prompts(ShotSet.S0)}, [ShotSet.S0], ENGINE)


def answered(job: Categorisation, facts: slice) -> pa.Table:
    """What one actor hands back for a chunk of these facts."""
    tally: Any = NoTally()
    ids = ASKED["fact_id"].to_pylist()[facts]
    chunk = {"chunk_id": ids[0], "shot_set": "S0", "fact_ids": ids}
    return _ChunkAnswerer(_OfBase(job), tally)(pa.Table.from_pylist([chunk]))


def test_collected_answers_come_with_the_machines_of_the_actors_that_made_them(
    job: Categorisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines = [process_hardware(), {**process_hardware(), "gpus": ["GPU A"], "hosts": ["elsewhere"]}]
    made = []
    for number, part in enumerate((slice(0, 2), slice(2, 4), slice(4, 6))):
        monkeypatch.setattr(pipeline, "process_hardware", lambda number=number: machines[number % 2])
        made.append(answered(job, part))
    found = _collect(pa.concat_tables(made), job, 6 * job.answers_each)
    assert found.table.schema == schema.ANSWERS
    assert found.table["fact_id"].unique().to_pylist() == sorted(ASKED["fact_id"].to_pylist())
    assert found.hardware == distinct_hardware(machines)
    assert len(found.hardware) == 2


@pytest.mark.parametrize("parts", [(slice(0, 2),), (slice(0, 4), slice(2, 6))])
def test_collected_answers_that_are_missing_or_there_twice_are_refused(job: Categorisation, parts: tuple[slice, ...]) -> None:
    made = pa.concat_tables([answered(job, part) for part in parts])
    with pytest.raises(RuntimeError, match="60 answers were asked for"):
        _collect(made, job, 6 * job.answers_each)
