"""The base model's answers to a job: its chunks through the pipeline, its answers together in one table."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol

import polars as pl
import pyarrow as pa

from kp import schema
from kp.cluster.sizing import Cluster
from kp.cluster.tally import Tally
from kp.generation.protocol import Generator
from kp.inference.answering import ANSWER_KEY, EngineSpec, FactIndex, answer_chunk, make_chunks, sorted_answers
from kp.inference.bucket_chunks import chunks_in
from kp.inference.chunk_files import NO_TIMES, ChunkTimes, times_of, unpacked
from kp.inference.pipeline import Answerer, answer_chunks
from kp.metrics.matching import AnswerKeys
from kp.models.names import ResolvedModel
from kp.progress import Display
from kp.prompts import PROMPTS_PER_SET, ShotSets
from kp.store.bucket_folder import WorkFolder
from kp.store.hardware import distinct_hardware
from kp.vocabulary import ShotSet


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
        return make_chunks(pl.DataFrame(pl.from_arrow(self.facts)), self.asked, chunk_facts=self.engine.chunk_facts)

    def answer(self, generator: Generator, facts: pa.Table, chunk: Mapping[str, Any], model_id: str) -> pa.Table:
        """The ANSWERS to one chunk."""
        return answer_chunk(generator, facts, self.shot_sets, chunk, model_id, self.keys)

    @cached_property
    def keys(self) -> AnswerKeys:
        """What judges the answers."""
        return AnswerKeys.of_table(self.facts)


@dataclass(frozen=True)
class BaseAnswers:
    """The result of a job: all its answers (`answer_schema`), sorted by its key, the machines of the processes that made them, and when.

    `hardware` is None if there was nothing to ask, so that there was no process.
    """

    table: pa.Table
    hardware: list[dict[str, Any]] | None
    times: ChunkTimes = NO_TIMES


@dataclass(frozen=True)
class _OfBase:
    """A job of the base model as one of the pipeline."""

    job: BaseJob

    @property
    def engine(self) -> EngineSpec:
        return self.job.engine

    def answerer(self, base: ResolvedModel) -> Answerer:
        index = FactIndex(self.job.facts)
        return lambda generator, chunk: self.job.answer(generator, index.take(chunk["fact_ids"]), chunk, base.revision)


def base_answers(job: BaseJob, work: WorkFolder, cluster: Cluster, display: Display) -> BaseAnswers:
    """Answer everything that is not yet answered in `work`; returns all answers, including those of earlier runs.

    Raises RuntimeError if an answer was returned twice or not at all.
    """
    chunks = job.chunks()
    answers = {chunk["chunk_id"]: len(chunk["fact_ids"]) * job.answers_each for chunk in chunks.to_pylist()}
    files = chunks_in(work, list(answers))
    settled = files.settle()
    if settled.damaged:
        display.line(f"{job.stage}: what an earlier run left of {settled.damaged} chunks is damaged, and they are made again")
    finished = files.committed_since() & answers.keys()
    missing = chunks.filter([chunk_id not in finished for chunk_id in chunks["chunk_id"].to_pylist()])
    tally = Tally(cluster.study, job.stage)
    with (
        display.bar(job.stage, sum(answers.values()), job.unit) as bar,
        tally.shown_on(bar, sum(answers[chunk_id] for chunk_id in finished), lambda text: display.line(f"{job.stage}: {text}")),
    ):
        for _ in answer_chunks(_OfBase(job), missing, files, cluster, tally):
            pass  # all are collected below
    return _collect(files.read(list(answers)), job, sum(answers.values()))


def _collect(found: pa.Table, job: BaseJob, expected: int) -> BaseAnswers:
    """From ANSWERED_CHUNKS."""
    answers = pa.concat_tables([unpacked(chunk) for chunk in found["answers"].to_pylist()]).cast(job.answer_schema)
    unique = answers.group_by(list(job.key)).aggregate([])
    if len(answers) != expected or len(unique) != expected:
        raise RuntimeError(f"{expected} answers were asked for, {len(answers)} came back, {len(unique)} of them different")
    hardware = distinct_hardware(map(json.loads, found["hardware"].unique().to_pylist()))
    return BaseAnswers(sorted_answers(answers, job.key), hardware, times_of(found.drop_columns(["answers"]).to_pylist()))
