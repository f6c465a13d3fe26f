"""What an actor of the pipeline returns for its chunks, and what is collected from that; no Ray."""

import threading
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kp import schema
from kp.config.study import ModelConfig
from kp.generation.protocol import FinishReason, Generation
from kp.inference import pipeline
from kp.inference.answering import EngineSpec
from kp.inference.base_answers import Categorisation, _collect, _OfBase
from kp.inference.chunk_files import ChunkFiles
from kp.inference.pipeline import _ChunkAnswerer, answer_chunks
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

    def read(self, prompts: Any) -> Any:
        return prompts

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


def test_chunk_that_is_committed_as_the_pipeline_ends_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files, handled = ChunkFiles(tmp_path), threading.Event()

    def commit(chunk_id: str) -> None:
        pq.write_table(pa.table({"chunk_id": [chunk_id]}), files.committed / f"{chunk_id}.parquet")

    def run(*_: object) -> None:
        commit("first")
        assert handled.wait(60)
        commit("last")  # while the caller is busy with the first, and with nothing after it

    monkeypatch.setattr(pipeline, "_run", run)
    cluster: Any = SimpleNamespace(generators=1)
    job: Any = None
    tally: Any = None
    found: list[str] = []
    for committed in answer_chunks(job, pa.table({"chunk_id": ["first", "last"]}), files, cluster, tally):
        found += sorted(committed)
        handled.set()
        for thread in [one for one in threading.enumerate() if one.name.startswith("Thread-")]:
            thread.join(60)
    assert found == ["first", "last"]
