"""Evaluate adapters in a pool of Ray actors, each of which loads the base model once.

A job is one model (an adapter, or the base without one) and the tasks that measure it. What a task measures is up to the task: it gets the
loaded model and returns tables. The driver commits each measurement as a separate step as soon as it is returned, so after a crash only the
missing measurements are made again.
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
from kp.metrics.matching import AnswerKeys
from kp.prompts import ShotSets
from kp.store.hardware import process_hardware
from kp.vocabulary import ShotSet

RESTARTS = 3


@dataclass(frozen=True)
class LoadedModel:
    """What a task gets in an actor: the model with its adapter active, and what all jobs share."""

    trial_id: str  # "base" for the model without an adapter
    model_id: str  # base revision or adapter digest
    generator: Generator
    facts: pa.Table  # FACTS
    shot_sets: ShotSets
    batch_size: int
    work: Path  # this model's folder for what libraries write
    tally: Tally
    keys: AnswerKeys  # of all facts

    def answers(self, questions: pa.Table, shot_set: ShotSet) -> pa.Table:
        """The ANSWERS to questions (FACTS) under all prompts of a shot set, sorted."""
        index = FactIndex(questions)
        made = []
        for chunk in make_chunks(pl.DataFrame(pl.from_arrow(questions)), [shot_set]).to_pylist():
            first = chunk["fact_ids"][0]  # distinguishes chunks of facts and of paraphrases
            with self.tally.counting(f"{self.trial_id}/{chunk['chunk_id']}/{first}") as self.generator.on_answered:
                made.append(answer_chunk(self.generator, index.take(chunk["fact_ids"]), self.shot_sets, chunk, self.model_id, self.keys))
        return sorted_answers(pa.concat_tables(made))


class MeasurementTask(Protocol):
    """One measurement of one model; pickled and sent to an actor."""

    @property
    def needs_transformers(self) -> bool:
        """Whether it needs a transformers model, whichever engine answers the study's questions."""
        ...

    @property
    def prompts(self) -> int:
        """The number of prompts that it answers, for the progress bar."""
        ...

    def measure(self, model: LoadedModel) -> dict[str, pa.Table]:
        """The resulting tables, by the name of the file in the step's folder."""
        ...


@dataclass(frozen=True)
class ModelJob:
    """One model and its measurements, by name."""

    trial_id: str
    model_id: str
    adapter: Path | None
    tasks: Mapping[str, MeasurementTask]


@dataclass(frozen=True)
class Measured:
    """The result of a job: tables by measurement and file, and the seconds of each measurement."""

    job: ModelJob
    tables: Mapping[str, dict[str, pa.Table]]
    seconds: Mapping[str, float]
    hardware: Mapping[str, Any]


class _Evaluator:
    """One actor, which keeps the base model and swaps adapters."""

    def __init__(self, engine: EngineSpec, facts: pa.Table, shot_sets: ShotSets, tally: Tally, work: Path) -> None:
        self._facts, self._shot_sets, self._tally, self._work = facts, shot_sets, tally, work
        self._batch_size, self._keys = engine.batch_size, AnswerKeys.of_table(facts)
        _, self._generator = engine.load()

    def measure(self, job: ModelJob) -> Measured:
        self._generator.load_adapter(str(job.adapter) if job.adapter else None)
        work = self._work / job.trial_id
        work.mkdir(parents=True, exist_ok=True)
        common = (self._generator, self._facts, self._shot_sets, self._batch_size, work, self._tally, self._keys)
        model = LoadedModel(job.trial_id, job.model_id, *common)
        tables, seconds = {}, {}
        for name, task in job.tasks.items():
            began = time.monotonic()
            tables[name] = task.measure(model)
            seconds[name] = time.monotonic() - began
        return Measured(job, tables, seconds, process_hardware())


@dataclass(frozen=True)
class Evaluation:
    """What all jobs of the pool share."""

    engine: EngineSpec
    facts: pa.Table  # FACTS
    shot_sets: ShotSets
    work: Path


def evaluate_all(jobs: Iterable[ModelJob], evaluation: Evaluation, cluster: Cluster, tally: Tally) -> Iterator[Measured]:
    """Run every job on the pool; yields the results in the order of finishing.

    An actor that dies is restarted and its job repeated, up to RESTARTS times; then ray.exceptions.ActorDiedError is raised.
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
