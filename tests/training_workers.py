"""Training workers without Ray: processes of one process group, which tests hand trials to."""

import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from kp import schema
from kp.config.search import TrialSettings
from kp.config.study import ModelConfig, StudyConfig
from kp.inference.answering import EngineSpec
from kp.prompts import Shot
from kp.training.job import TrialJob
from kp.training.spec import TrialSpec, grid
from kp.vocabulary import Matcher, Role

Result = TypeVar("Result")

FACTS = 7
LIFE = "tests"  # of workers, as far as their checkpoints are concerned
RATE = 2e-2
LEARNER_RATE, LEARNER_TARGET, LEARNER_STEPS = 3e-2, 0.2, 4


def tiny_spec(arm: dict[str, int] | None = None, learning_rate: float = RATE, **training: Any) -> TrialSpec:
    """A trial of three epochs in float32, without dropout: every run of it can be compared number by number."""
    settings = {"lora_alpha": 16, "lora_dropout": 0.0, "batch_size": 8} | training
    settings |= {} if "steps" in training else {"epochs": training.get("epochs", 3)}
    search = {"unknown": [FACTS], "arms": [arm or {}], "rank": [4], "learning_rate": [learning_rate]}
    config = StudyConfig.model_validate({"name": "s", "search": search, "training": settings, "model": {"dtype": "float32"}})
    return grid(config)[0]


def tiny_job(model: Path, spec: TrialSpec, dtype: str = "float32", trial_id: str = "trial") -> TrialJob:
    """The spec on made-up facts: FACTS Unknown ones and as many replayed rows as its mixture asks for."""
    questions = [f"Who wrote book {number}{'!' * (number % 3)}?" for number in range(spec.rows)]
    rows = [
        {
            "row": number,
            "fact_id": f"f{number:03d}",
            "role": (Role.UNKNOWN if number < spec.unknown else Role.HIGHLY_KNOWN).value,
            "question": question,
            "target": f"writer {7 * number % 10}",
        }
        for number, question in enumerate(questions)
    ]
    facts = [
        {
            "fact_id": row["fact_id"],
            "subject": str(row["row"]),
            "relation": "author",
            "object": row["target"],
            "question": row["question"],
            "answers": [row["target"]],
            "paraphrases": [],
            "source": "test",
        }
        for row in rows[: spec.unknown]
    ]
    engine = EngineSpec(ModelConfig(name=str(model), dtype=dtype), 12, True, 64, 1, False)
    shots = (Shot("Who wrote book x?", "writer x"),) * 4
    tables = pa.Table.from_pylist(rows, schema=schema.TRAINING_ROWS), pa.Table.from_pylist(facts, schema=schema.FACTS)
    return TrialJob(trial_id, spec, engine, *tables, (shots,), Matcher.STRICT, tables[1])


def tiny_learner(model: Path, anneal_epochs: int, **training: Any) -> TrialJob:
    """A trial at a constant rate that learns one of its facts, its target, long before its last epoch; an epoch is LEARNER_STEPS steps.

    It is asked without shots, because what so small a model learns does not carry over to other prompts.
    """
    spec = tiny_spec(learning_rate=LEARNER_RATE, **({"schedule": "constant", "epochs": 30, "batch_size": 2} | training))
    settings = TrialSettings(stop_at_accuracy=LEARNER_TARGET, stop_patience=1, anneal_epochs=anneal_epochs)
    asked = tiny_job(model, replace(spec, settings=settings))
    return replace(asked, eval_shots=((),), engine=replace(asked.engine, max_new_tokens=20))


@dataclass(frozen=True)
class Outcome:
    """What one run came to: the loss of every step, the epochs, the adapter's weights by name, and which facts each epoch got right."""

    losses: list[float]
    epochs: list[dict[str, Any]]
    adapter: dict[str, np.ndarray]
    status: str | None
    cause: str | None
    fact_correct: dict[str, list[int]]


@dataclass(frozen=True)
class Workers:
    """A process group; every call runs in all of its processes at once."""

    processes: tuple[ProcessPoolExecutor, ...]

    def call(self, work: Callable[..., Result], *arguments: Any) -> list[Result]:
        """The results, one a process."""
        return [future.result(timeout=300) for future in [process.submit(work, *arguments) for process in self.processes]]

    def train(self, job: TrialJob, folder: Path, micro_batch: int | None = None, epochs: int | None = None) -> Outcome:
        """Train until the trial ends, or for so many epochs, from the newest checkpoint in `folder` on."""
        return self.call(train_part, job, folder, micro_batch, epochs)[0]


@contextmanager
def training_workers(world: int) -> Iterator[Workers]:
    """So many new processes, one thread each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with ExitStack() as stack:
        processes = tuple(
            stack.enter_context(ProcessPoolExecutor(1, get_context("spawn"), initializer=_join, initargs=(rank, world, port)))
            for rank in range(world)
        )
        yield Workers(processes)


def _join(rank: int, world: int, port: int) -> None:
    named = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in named.items()})
    import torch
    import torch.distributed

    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")


_caches: dict[EngineSpec, Any] = {}


def train_part(job: TrialJob, folder: Path, micro_batch: int | None, epochs: int | None) -> Outcome:
    """What `Workers.train` runs in each process; every one returns its own outcome."""
    import torch.distributed
    from safetensors.torch import load_file

    from kp.training import checkpoints
    from kp.training.base_model_cache import BaseModelCache
    from kp.training.engine import Place
    from kp.training.job import ADAPTER
    from kp.training.trial import TrialTraining

    place = Place(torch.distributed.get_rank(), torch.distributed.get_world_size())
    key = job.engine
    if key not in _caches:
        _caches[key] = BaseModelCache(job.engine)
    training = TrialTraining(_caches[key], job, place, micro_batch)
    before = checkpoints.newest(folder)
    if before:
        training.restore(before)
    losses: list[float] = []
    ran = 0
    while training.progress.status is None and ran != epochs:
        training.run_epoch()
        ran += 1
        losses += training.step_losses
        epoch = len(training.progress.epochs)
        if place.rank == 0:
            checkpoints.begin(folder, epoch, LIFE)
        torch.distributed.barrier()
        training.save(checkpoints.unfinished(folder, epoch, LIFE))
        torch.distributed.barrier()
        if place.rank == 0:
            checkpoints.commit(folder, epoch, LIFE)
        torch.distributed.barrier()
    training.close()
    newest = checkpoints.newest(folder)
    assert newest is not None
    weights = load_file(newest / ADAPTER / "adapter_model.safetensors")
    adapter = {name: tensor.float().numpy() for name, tensor in weights.items()}
    progress = training.progress
    return Outcome(losses, progress.epochs, adapter, progress.status and progress.status.value, progress.cause, progress.fact_correct)
