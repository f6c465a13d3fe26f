"""Every adapter measured by a pool of Ray actors, each with the base model loaded once.

A job is one model (an adapter, or the base without one) and the tasks that measure it. What a task measures is the task's own business: it
is handed the loaded model and returns tables. The driver commits each measurement as a step of its own the moment it comes back, so after a
crash only the measurements that had not come back are made again.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import polars as pl
import pyarrow as pa

from kp.cluster import Cluster, Tally
from kp.generation.protocol import Generator
from kp.inference.answering import EngineSpec, FactIndex, answer_chunk, make_chunks, sorted_answers
from kp.prompts import ShotSets
from kp.store.hardware import process_hardware
from kp.vocabulary import ShotSet

RESTARTS = 3


@dataclass(frozen=True)
class LoadedModel:
    """What a task finds in an actor: the model with its adapter active, and what all jobs share."""

    trial_id: str  # "base" for the model without an adapter
    model_id: str  # base revision or adapter digest
    generator: Generator
    facts: pa.Table  # FACTS
    shot_sets: ShotSets
    batch_size: int
    work: Path  # a folder of this model's, for what libraries write
    tally: Tally

    def answers(self, questions: pa.Table, shot_set: ShotSet) -> pa.Table:
        """The ANSWERS to questions (FACTS) under all prompts of a shot set, sorted."""
        index = FactIndex(questions)
        made = []
        for chunk in make_chunks(pl.DataFrame(pl.from_arrow(questions)), [shot_set]).to_pylist():
            first = chunk["fact_ids"][0]  # tells chunks of facts and of paraphrases apart
            with self.tally.counting(f"{self.trial_id}/{chunk['chunk_id']}/{first}") as self.generator.on_answered:
                made.append(answer_chunk(self.generator, index.take(chunk["fact_ids"]), self.shot_sets, chunk, self.model_id))
        return sorted_answers(pa.concat_tables(made))


class MeasurementTask(Protocol):
    """One measurement of one model; pickled to the actor that makes it."""

    @property
    def needs_transformers(self) -> bool:
        """Whether it asks for a model of transformers, whatever engine answers the study's questions."""
        ...

    @property
    def prompts(self) -> int:
        """Prompts that it has answered, for the progress bar."""
        ...

    def measure(self, model: LoadedModel) -> dict[str, pa.Table]:
        """What comes of it, by the name of the file in the step's folder."""
        ...


@dataclass(frozen=True)
class ModelJob:
    """One model and what is to be measured of it, by the name of the measurement."""

    trial_id: str
    model_id: str
    adapter: Path | None
    tasks: Mapping[str, MeasurementTask]


@dataclass(frozen=True)
class Measured:
    """What came back of a job: tables by measurement and file, the seconds of each measurement, and the machine of the actor."""

    job: ModelJob
    tables: Mapping[str, dict[str, pa.Table]]
    seconds: Mapping[str, float]
    hardware: Mapping[str, Any]


class _Evaluator:
    """One actor; keeps the base model and swaps adapters."""

    def __init__(self, engine: EngineSpec, facts: pa.Table, shot_sets: ShotSets, tally: Tally, work: Path) -> None:
        self._facts, self._shot_sets, self._tally, self._work = facts, shot_sets, tally, work
        self._batch_size = engine.batch_size
        _, self._generator = engine.load()

    def measure(self, job: ModelJob) -> Measured:
        self._generator.load_adapter(str(job.adapter) if job.adapter else None)
        work = self._work / job.trial_id
        work.mkdir(parents=True, exist_ok=True)
        common = (self._generator, self._facts, self._shot_sets, self._batch_size, work, self._tally)
        model = LoadedModel(job.trial_id, job.model_id, *common)
        tables, seconds = {}, {}
        for name, task in job.tasks.items():
            began = time.monotonic()
            tables[name] = task.measure(model)
            seconds[name] = time.monotonic() - began
        return Measured(job, tables, seconds, process_hardware())


@dataclass(frozen=True)
class Evaluation:
    """The pool's common ground."""

    engine: EngineSpec
    facts: pa.Table  # FACTS
    shot_sets: ShotSets
    work: Path


def evaluate_all(jobs: Iterable[ModelJob], evaluation: Evaluation, cluster: Cluster, tally: Tally) -> Iterator[Measured]:
    """Measure every job on the pool; yields each result as it comes back, in the order of finishing.

    An actor that dies is restarted and its job made again, RESTARTS times; then ray.exceptions.ActorDiedError.
    """
    import ray
    from ray.util import ActorPool

    waiting = list(jobs)
    resources: dict[str, Any] = {"num_cpus": cluster.actor_cpus, "num_gpus": cluster.actor_gpus, **evaluation.engine.remote_options()}
    actor: Any = ray.remote(max_restarts=RESTARTS, max_task_retries=RESTARTS, **resources)(_Evaluator)
    size = min(cluster.generators, len(waiting))
    common = ray.put(evaluation.facts)
    actors = [actor.remote(evaluation.engine, common, evaluation.shot_sets, tally, evaluation.work) for _ in range(size)]
    pool = ActorPool(actors)
    for job in waiting:
        pool.submit(lambda one, job: one.measure.remote(job), job)
    while pool.has_next():
        yield pool.get_next_unordered()
    for one in actors:
        ray.kill(one)
