"""The ways to train, each in its own process: kp's worker, and transformers' Trainer on a PEFT model, with and without group_by_length.

All get the same base, tokens, order of rows, batches, initial LoRA weights, loss, optimiser, schedule and clipping, so they should take the
same steps, except with group_by_length, whose batches have other rows. What remains of the released script's set-up is how it computes:
eager attention, rows padded to the longest of their batch, logits of every token.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch

from kp.bench.options import DType, Shape
from kp.bench.timing import timed
from kp.bench.train_limits import PASSES, forward_rates
from kp.bench.train_line import Line
from kp.bench.train_state import count_parameters, device_name, peak_device_memory, start_digest
from kp.bench.train_trial import Kept, KpTrial, ReleasedTrial, TrainEpoch, TrainStart
from kp.config.layers import ALL_LAYERS
from kp.errors import UserError
from kp.training.job import ADAPTER, TrialJob
from kp.vocabulary import TrialStatus

if TYPE_CHECKING:
    from kp.training.base_model_cache import BaseModelCache
    from kp.training.trial import TrialTraining

_LIFE = "bench"  # of the only workers that write checkpoints here
_HERE = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}


def prepare_process(threads: int) -> None:
    """Set, before anything computes, what all implementations must have in common: threads, and one GPU if there are several."""
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # only results may go to standard output, and libraries print there, too
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
    os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[0]  # two would make the Trainer of transformers train on both
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(threads)


def kp_trains(job: TrialJob, line: Line, shape: Shape | None = None) -> KpTrial:
    """A trial trained like by a search worker, with an evaluation and a checkpoint after every epoch; the base is loaded before, or
    made with random weights of a shape."""
    prepare_process(job.engine.threads)
    lone_process_group(job.engine.use_gpu)
    import deepspeed  # noqa: F401  # and peft: so that set-up includes no import, as for every trial of a worker except the first
    import peft  # noqa: F401

    from kp.training.engine import Place
    from kp.training.trial import TrialTraining

    (model_cache, parameters), load = timed(_device(job), lambda: _loaded(job, shape))
    training, making = timed(_device(job), lambda: TrialTraining(model_cache, job, Place(0, 1)))
    with TemporaryDirectory(prefix="kp-bench-") as folder:
        digest = _saved_digest(training, Path(folder) / "start")
        line.ready(TrainStart(digest, parameters, model_cache.resolved.revision, device_name(model_cache.device)))
        trial = _epochs(training, line, Path(folder))
    _, closing = timed(_device(job), training.close)
    if training.progress.status is TrialStatus.DIVERGED:
        raise UserError(f"kp's training diverged, {training.progress.cause}", field="learning_rate")
    wall = making + trial.wall + closing
    return replace(trial, load=load, setup=training.progress.setup_seconds, wall=wall, peak_device_memory=peak_device_memory())


def released_trains(job: TrialJob, line: Line, shape: Shape | None = None) -> ReleasedTrial:
    """The released script's way, in `kp.bench.train_released`, on the batches of kp."""
    return _released(job, line, shape, group_by_length=False)


def grouped_trains(job: TrialJob, line: Line, shape: Shape | None = None) -> ReleasedTrial:
    """The same on batches of rows of similar length."""
    return _released(job, line, shape, group_by_length=True)


def all_layers_trains(job: TrialJob, line: Line, shape: Shape | None = None) -> ReleasedTrial:
    """The released script's way to train an adapter of all layers, whichever layers the trial's adapter has."""
    training = job.spec.training.model_copy(update={"layers": ALL_LAYERS})
    return _released(replace(job, spec=replace(job.spec, layers=ALL_LAYERS, training=training)), line, shape, group_by_length=False)


def _released(job: TrialJob, line: Line, shape: Shape | None, group_by_length: bool) -> ReleasedTrial:
    prepare_process(job.engine.threads)
    from kp.bench.train_released import train_the_released_way  # only now, because its imports print to standard output

    return train_the_released_way(job, line, shape, group_by_length)


def _device(job: TrialJob) -> torch.device:
    return torch.device("cuda" if job.engine.use_gpu else "cpu")


def _loaded(job: TrialJob, shape: Shape | None) -> tuple["BaseModelCache", int]:
    """A cache with its base model loaded or made, and the number of parameters."""
    from kp.training.base_model_cache import BaseModelCache

    model_cache = BaseModelCache(job.engine)
    if shape is None:
        base = model_cache.acquire()
    else:
        from kp.bench.subject import shaped_model

        name, dtype = model_cache.resolved.name, DType(job.engine.model.dtype)
        base = shaped_model(shape, model_cache.tokenizer, name, dtype, model_cache.device)
    model_cache.release(base)
    return model_cache, count_parameters(base)


def _epochs(training: "TrialTraining", line: Line, folder: Path) -> KpTrial:
    """Run all epochs, each when it is kp's turn; returns the times of the trial that they account for."""
    device, trial, passes = _device(training.job), KpTrial(), training.passes(PASSES)
    whole = training.spec.layers == ALL_LAYERS  # otherwise a forward pass of the whole model is no limit
    while training.progress.status is None:
        line.wait()
        _, running = timed(device, training.run_epoch)
        _, saving = timed(device, lambda: _checkpoint(training, folder))
        epoch = training.progress.epochs[-1]
        trial = KpTrial(
            wall=trial.wall + running + saving,
            training=trial.training + epoch["seconds"],
            evals=trial.evals + epoch["eval_seconds"],
            checkpoints=trial.checkpoints + saving,
            laps={part: trial.laps.get(part, 0.0) + seconds for part, seconds in training.laps.seconds.items()},
            kept=_kept(training),
            forward=trial.forward.better(forward_rates(training.model, passes, round(epoch["tokens"] / epoch["rows"])))
            if whole
            else trial.forward,
        )
        reading = 0.0 if len(training.progress.epochs) > 1 else training.reading_seconds
        line.report(
            TrainEpoch(reading + epoch["seconds"], epoch["rows"], epoch["tokens"], training.read_tokens, tuple(training.step_losses))
        )
    line.finish()
    return trial


def _kept(training: "TrialTraining") -> Kept | None:
    if training.frozen is None:
        return None
    store = training.frozen.store
    return Kept(training.frozen.first, store.tokens, store.bytes, training.reading_seconds)


def lone_process_group(use_gpu: bool) -> None:
    """Set up what Ray Train would: DeepSpeed reads its worker's rank from the environment."""
    import torch.distributed

    os.environ.update(_HERE)
    torch.distributed.init_process_group("nccl" if use_gpu else "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)


def _saved_digest(training: "TrialTraining", folder: Path) -> str:
    from safetensors.torch import load_file

    training.save(folder)
    return start_digest(load_file(folder / ADAPTER / "adapter_model.safetensors"))


def _checkpoint(training: "TrialTraining", folder: Path) -> None:
    """Commit a checkpoint as `kp.search.worker` does."""
    from kp.training import checkpoints

    epoch = len(training.progress.epochs)
    training.save(checkpoints.begin(folder, epoch, _LIFE))
    checkpoints.commit(folder, epoch, _LIFE)
