"""Every adapter measured by a pool of Ray actors, each with the base model loaded once.

A job is one adapter (or none) and all that is measured of it. The driver commits each measurement as its own step the moment it comes
back, so after a crash only the measurements that had not come back are made again.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from kp import schema
from kp.benchmarks.lm_eval_tasks import run_benchmarks
from kp.cluster import Cluster, Tally
from kp.config.derived import BenchmarkPlan
from kp.inference.answering import EngineSpec, FactIndex, answer_chunk, make_chunks, sorted_answers
from kp.metrics.generality import answers_by_fact
from kp.prompts import ShotSets
from kp.vocabulary import ShotSet

RESTARTS = 3


@dataclass(frozen=True)
class HeldOut:
    """Paraphrases that were not trained on (QUESTIONS of kp.metrics.generality), and the shot set that they are asked on."""

    questions: pa.Table
    shot_set: ShotSet


@dataclass(frozen=True)
class Measurement:
    """What to measure of one model: `shot_set` for its answers to all facts, `held_out` for those to paraphrases, `benchmarks` for its task
    scores; each may be absent."""

    trial_id: str
    model_id: str
    adapter: Path | None
    shot_set: ShotSet | None
    benchmarks: BenchmarkPlan | None
    held_out: HeldOut | None = None


@dataclass(frozen=True)
class Measured:
    """What came back; `answers` is ANSWERS, `held_out` HELD_OUT_ANSWERS, `benchmarks` BENCHMARKS, absent as asked; seconds of each."""

    measurement: Measurement
    answers: pa.Table | None
    held_out: pa.Table | None
    benchmarks: pa.Table | None
    answer_seconds: float
    held_out_seconds: float
    benchmark_seconds: float


class _Evaluator:
    """One actor; keeps the base model and swaps adapters."""

    def __init__(self, engine: EngineSpec, facts: pa.Table, shot_sets: ShotSets, tally: Tally, work: Path) -> None:
        self._facts, self._shot_sets, self._tally, self._work = facts, shot_sets, tally, work
        self._batch_size = engine.batch_size
        _, self._generator = engine.load()

    def measure(self, measurement: Measurement) -> Measured:
        import time

        self._generator.load_adapter(str(measurement.adapter) if measurement.adapter else None)
        began = time.monotonic()
        answers = self._answers(measurement, self._facts, measurement.shot_set) if measurement.shot_set else None
        answered = time.monotonic()
        held_out = self._held_out(measurement, measurement.held_out) if measurement.held_out else None
        generalised = time.monotonic()
        benchmarks = self._benchmarks(measurement) if measurement.benchmarks else None
        seconds = (answered - began, generalised - answered, time.monotonic() - generalised)
        return Measured(measurement, answers, held_out, benchmarks, *seconds)

    def _answers(self, measurement: Measurement, facts: pa.Table, shot_set: ShotSet) -> pa.Table:
        index = FactIndex(facts)
        made = []
        for chunk in make_chunks(pl.DataFrame(pl.from_arrow(facts)), [shot_set]).to_pylist():
            first = chunk["fact_ids"][0]  # tells chunks of facts and of paraphrases apart
            with self._tally.counting(f"{measurement.trial_id}/{chunk['chunk_id']}/{first}") as self._generator.on_answered:
                made.append(answer_chunk(self._generator, index.take(chunk["fact_ids"]), self._shot_sets, chunk, measurement.model_id))
        return sorted_answers(pa.concat_tables(made))

    def _held_out(self, measurement: Measurement, held_out: HeldOut) -> pa.Table:
        answers = self._answers(measurement, held_out.questions, held_out.shot_set)
        by_fact = answers_by_fact(pl.DataFrame(pl.from_arrow(answers)), pl.DataFrame(pl.from_arrow(held_out.questions)))
        return by_fact.to_arrow().cast(schema.HELD_OUT_ANSWERS)

    def _benchmarks(self, measurement: Measurement) -> pa.Table:
        from kp.generation.hf import HFGenerator

        assert measurement.benchmarks is not None
        assert isinstance(self._generator, HFGenerator), "lm-eval asks a model of transformers"
        work = self._work / measurement.trial_id
        work.mkdir(parents=True, exist_ok=True)
        model, tokenizer = self._generator.model, self._generator.tokenizer
        return run_benchmarks(model, tokenizer, measurement.benchmarks, measurement.trial_id, self._batch_size, work)


@dataclass(frozen=True)
class Evaluation:
    """The pool's common ground."""

    engine: EngineSpec
    facts: pa.Table  # FACTS
    shot_sets: ShotSets
    work: Path


def evaluate_all(jobs: Iterable[Measurement], evaluation: Evaluation, cluster: Cluster, tally: Tally) -> Iterator[Measured]:
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
    for measurement in waiting:
        pool.submit(lambda one, job: one.measure.remote(job), measurement)
    while pool.has_next():
        yield pool.get_next_unordered()
    for one in actors:
        ray.kill(one)
