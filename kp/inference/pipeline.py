"""The base model's answers, as one streaming Ray Data pipeline: chunks of questions -> a pool of generators -> parquet.

After a crash, Ray Data's checkpoint determines what is missing: a chunk's id is committed with its answers, and a rerun reads only chunks
without a committed id. One row of the pipeline is one chunk, some facts under all prompts of a shot set, written whole or not at all.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from kp import schema
from kp.cluster import Cluster, Tally
from kp.generation.protocol import Generator
from kp.inference.answering import ANSWER_KEY, EngineSpec, FactIndex, answer_chunk, make_chunks, sorted_answers
from kp.inference.chunk_files import settle_chunks
from kp.metrics.matching import AnswerKeys
from kp.progress import Display
from kp.prompts import PROMPTS_PER_SET, ShotSets
from kp.store.hardware import distinct_hardware, process_hardware
from kp.vocabulary import ShotSet

NO_PROGRESS_SECONDS = 1800


class BaseJob(Protocol):
    """Work for the base model: its chunks, and how a generator answers one. Every actor gets the whole job."""

    stage: ClassVar[str]  # its name in the progress display
    unit: ClassVar[str]  # what the progress display counts
    answer_schema: ClassVar[pa.Schema]
    key: ClassVar[Sequence[str]]  # the columns that identify an answer, in sorting order

    @property
    def facts(self) -> pa.Table:
        """All facts of the job (FACTS)."""
        ...

    @property
    def engine(self) -> EngineSpec:
        """How an actor makes its generator."""
        ...

    @property
    def answers_each(self) -> int:
        """Answers per fact in a chunk."""
        ...

    def chunks(self) -> pa.Table:
        """`chunk_id`, `fact_ids` and whatever else `answer` needs (CHUNKS if shots are shown); deterministic for a job."""
        ...

    def answer(self, generator: Generator, facts: pa.Table, chunk: Mapping[str, Any], model_id: str) -> pa.Table:
        """The answers to one chunk (`answer_schema`); `facts` are those of the chunk, in its order."""
        ...


@dataclass(frozen=True)
class Categorisation:
    """Every fact under every prompt of some shot sets, answered greedily (ANSWERS)."""

    facts: pa.Table  # FACTS
    shot_sets: ShotSets
    asked: Sequence[ShotSet]
    engine: EngineSpec

    stage: ClassVar[str] = "categorise"
    unit: ClassVar[str] = "prompts"
    answer_schema: ClassVar[pa.Schema] = schema.ANSWERS
    key: ClassVar[Sequence[str]] = ANSWER_KEY

    @property
    def answers_each(self) -> int:
        """One under each prompt, because greedy answers do not vary."""
        return PROMPTS_PER_SET

    def chunks(self) -> pa.Table:
        """CHUNKS of every shot set."""
        return make_chunks(pl.DataFrame(pl.from_arrow(self.facts)), self.asked)

    def answer(self, generator: Generator, facts: pa.Table, chunk: Mapping[str, Any], model_id: str) -> pa.Table:
        """The ANSWERS to one chunk."""
        return answer_chunk(generator, facts, self.shot_sets, chunk, model_id, self.keys)

    @cached_property
    def keys(self) -> AnswerKeys:
        """What judges the answers."""
        return AnswerKeys.of_table(self.facts)


@dataclass(frozen=True)
class BaseAnswers:
    """The result of a job: all its answers (`answer_schema`), sorted by its key, and the machines of the processes that made them.

    `hardware` is None if there was nothing to ask, so that there was no process.
    """

    table: pa.Table
    hardware: list[dict[str, Any]] | None


class _ChunkAnswerer:
    """One generator of the pool; the model is loaded once per actor."""

    def __init__(self, job: BaseJob, tally: Tally) -> None:
        self._job, self._tally = job, tally
        self._index = FactIndex(job.facts)
        self._model, self._generator = job.engine.load()
        self._hardware = json.dumps(process_hardware())  # only now, because the GPU is known once the model is loaded

    def __call__(self, batch: pa.Table) -> pa.Table:
        answered = [self._answer(chunk) for chunk in batch.to_pylist()]
        rows = pa.array(answered, pa.list_(pa.struct(self._job.answer_schema)))
        # Stored with the answers, so that a resumed run knows which machine made the existing ones.
        return pa.table({"chunk_id": batch["chunk_id"], "answers": rows, "hardware": [self._hardware] * len(batch)})

    def _answer(self, chunk: dict[str, Any]) -> list[dict[str, Any]]:
        facts = self._index.take(chunk["fact_ids"])
        with self._tally.counting(chunk["chunk_id"]) as self._generator.on_answered:
            return self._job.answer(self._generator, facts, chunk, self._model.revision).to_pylist()


def base_answers(job: BaseJob, work: Path, cluster: Cluster, display: Display) -> BaseAnswers:
    """Answer everything that is not yet answered in `work`; returns all answers, including those of earlier runs.

    Raises RuntimeError if an answer was returned twice or not at all.
    """
    import ray.data
    from ray.data import SaveMode

    chunks = job.chunks()
    pending = work / "chunks"
    pending.mkdir(exist_ok=True)
    pq.write_table(chunks, pending / "chunks.parquet")
    answers = {chunk["chunk_id"]: len(chunk["fact_ids"]) * job.answers_each for chunk in chunks.to_pylist()}
    total = sum(answers.values())
    _configure(work)
    settled = settle_chunks(work / "committed", work / "answers")
    if settled.damaged:
        display.line(f"{job.stage}: what an earlier run left of {settled.damaged} chunks is damaged, and they are made again")
    finished = sum(answers[chunk_id] for chunk_id in settled.ids & answers.keys())
    tally = Tally()
    with display.bar(job.stage, total, job.unit) as bar, tally.shown_on(bar, already=finished):
        pipeline = (
            ray.data.read_parquet(str(pending))
            .repartition(target_num_rows_per_block=1)
            .map_batches(
                _ChunkAnswerer,
                fn_constructor_kwargs={"job": job, "tally": tally},
                batch_size=1,
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(size=cluster.generators),
                num_cpus=cluster.actor_cpus,
                num_gpus=cluster.actor_gpus,
                **job.engine.remote_options(),
            )
        )
        pipeline.write_parquet(str(work / "answers"), mode=SaveMode.APPEND)
    return _collect(work, job, total)


def _configure(work: Path) -> None:
    import ray.data
    from ray.data.checkpoint import CheckpointConfig

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_no_progress_timeout_s = NO_PROGRESS_SECONDS
    context.raise_original_map_exception = True  # Ray Data's own has it as its cause, which pickling drops
    (work / "committed").mkdir(exist_ok=True)
    context.checkpoint_config = CheckpointConfig(
        id_column="chunk_id", checkpoint_path=str(work / "committed"), delete_checkpoint_on_success=False
    )


def _collect(work: Path, job: BaseJob, expected: int) -> BaseAnswers:
    found = pq.read_table(work / "answers", columns=["answers", "hardware"])
    answers = pa.Table.from_struct_array(found["answers"].combine_chunks().flatten()).cast(job.answer_schema)
    unique = answers.group_by(list(job.key)).aggregate([])
    if len(answers) != expected or len(unique) != expected:
        raise RuntimeError(f"{expected} answers were asked for, {len(answers)} came back, {len(unique)} of them different")
    return BaseAnswers(sorted_answers(answers, job.key), distinct_hardware(map(json.loads, found["hardware"].unique().to_pylist())))
