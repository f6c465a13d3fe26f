"""What a process has in memory after each of five trials that it opens and closes; the third runs out of memory and is discarded.

On a GPU the third has 64 MiB left, and PyTorch's own allocator refuses; on a CPU, whose allocator refuses nothing, the error is raised
inside a layer. In both the trial is handled as a worker of a search handles it.
"""

import argparse
import gc
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from kp.bench.options import Device, DType, Shape, TrainOptions
from kp.bench.subject import shaped_model
from kp.bench.train_implementations import lone_process_group
from kp.bench.train_trial import trial_job
from kp.generation.memory import is_out_of_memory, release_memory
from kp.training.base_model_cache import BaseModelCache
from kp.training.engine import Place
from kp.training.job import TrialJob
from kp.training.trial import TrialTraining
from tests.gpu_check.steps import TRIALS

WITHOUT_MEMORY = 2  # the number of the trial that runs out
ROOM = 64 << 20
TOLERANCE = 64 << 20
"""Bytes that a later trial may leave beyond the first one: libraries keep workspaces."""


@dataclass(frozen=True)
class Left:
    """After a trial: how it ended, bytes allocated on the GPU (None on a CPU), base models and engines alive."""

    ended: str
    allocated: int | None
    models: int
    engines: int


def faults(found: list[Left]) -> list[str]:
    """What is wrong with it; nothing if every trial left what the first one left."""
    wrong = []
    for number, left in enumerate(found):
        expected = "out of memory" if number == WITHOUT_MEMORY else "completed"
        if left.ended != expected:
            wrong.append(f"trial {number + 1} ended {left.ended}, expected {expected}")
        if left.models > 1 or left.engines:
            wrong.append(f"after trial {number + 1}: {left.models} base models and {left.engines} engines are alive")
        more = (left.allocated or 0) - (found[0].allocated or 0)
        if more > TOLERANCE:
            wrong.append(f"after trial {number + 1}: {more >> 20} MiB more are allocated than after the first")
    return wrong


def reopen(options: TrainOptions, use_gpu: bool) -> list[Left]:
    """Open and close the trials, one after another."""
    assert options.shape is not None
    lone_process_group(use_gpu)
    job, model_cache, found = trial_job(options, use_gpu), None, []
    for number in range(TRIALS):
        if model_cache is None:
            model_cache = BaseModelCache(job.engine)
            made = shaped_model(options.shape, model_cache.tokenizer, model_cache.resolved.name, options.dtype, model_cache.device)
            model_cache.release(made)
            del made
        ended = _trial(model_cache, job, number == WITHOUT_MEMORY, use_gpu)
        if ended != "completed":
            model_cache = None  # as of a worker: the state of its base is unknown
        gc.collect()
        release_memory()
        found.append(Left(ended, torch.cuda.memory_allocated() if use_gpu else None, *_alive()))
    return found


def _trial(model_cache: BaseModelCache, job: TrialJob, starved: bool, use_gpu: bool) -> str:
    training, raised = TrialTraining(model_cache, job, Place(0, 1)), None
    try:
        with _without_memory(use_gpu) if starved else _undisturbed():
            while training.progress.status is None:
                training.run_epoch()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raised = str(error)
    if raised is None:
        training.close()
        return str(training.progress.status)
    training.discard()
    return "out of memory"


@contextmanager
def _undisturbed() -> Iterator[None]:
    yield


@contextmanager
def _without_memory(use_gpu: bool) -> Iterator[None]:
    if use_gpu:
        release_memory()
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + ROOM) / total)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        return
    from transformers.models.llama.modeling_llama import LlamaMLP

    with mock.patch.object(LlamaMLP, "forward", side_effect=torch.OutOfMemoryError("CUDA out of memory, as of this check")):
        yield


def _alive() -> tuple[int, int]:
    """Base models and engines that somebody holds."""
    import deepspeed
    from transformers import LlamaForCausalLM

    kinds: list[Any] = [type(found) for found in gc.get_objects()]
    return sum(kind is LlamaForCausalLM for kind in kinds), sum(kind is deepspeed.DeepSpeedEngine for kind in kinds)


def main(arguments: list[str] | None = None) -> int:
    """Run the step; exits with 1 if a trial leaves more than the first one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", type=Device, default=Device.CUDA)
    parser.add_argument("--shape", type=Shape, default=Shape.LLAMA_3_1_8B)
    parser.add_argument("--dtype", type=DType, default=DType.BFLOAT16)
    parser.add_argument("--facts", type=int, default=64)
    parser.add_argument("--json", type=Path, required=True)
    asked = parser.parse_args(arguments)
    options = TrainOptions(
        facts=asked.facts,
        epochs=1,
        batch_size=32,
        shape=asked.shape,
        dtype=asked.dtype,
        device=asked.device,
        threads=torch.get_num_threads(),
    )
    found = reopen(options, asked.device is Device.CUDA)
    wrong = faults(found)
    asked.json.write_text(json.dumps({"trials": [asdict(left) for left in found], "faults": wrong}), encoding="utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
