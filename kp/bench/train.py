"""`kp bench train`: how fast a trial trains, with kp's worker and in the released script's way, on the same rows in the same steps.

The speed of a shared machine changes from minute to minute, so all take turns after every epoch, and their order alternates; only one
computes at a time. Whether kp and the released way end with the same loss is part of the result: a faster way to another loss is no
improvement. The released script also groups rows by length, for less padding; that takes part as an implementation of its own, because its
batches are others and its losses cannot be compared step by step.
"""

from contextlib import ExitStack
from functools import partial
from typing import Any

import torch

from kp.bench.options import Device, TrainOptions
from kp.bench.output import log, save_result, validate_folder
from kp.bench.train_implementations import all_layers_trains, grouped_trains, kp_trains, released_trains
from kp.bench.train_line import TrainingProcess
from kp.bench.train_outcome import Record, outcome
from kp.bench.train_table import markdown, text
from kp.bench.train_trial import Trainer, trial_job
from kp.config.layers import ALL_LAYERS
from kp.errors import UserError

_WORK = {
    Trainer.KP: kp_trains,
    Trainer.RELEASED: released_trains,
    Trainer.GROUPED: grouped_trains,
    Trainer.ALL_LAYERS: all_layers_trains,
}


def run_train(options: TrainOptions) -> int:
    """Run the benchmark, print its table, and write the requested files; returns the exit code, 1 if the final losses differ."""
    validate_folder(options.json)
    result = benchmark(options)
    save_result(result, text, markdown, options.json)
    return 1 if result["agreement"]["equal"] is False else 0


def benchmark(options: TrainOptions) -> dict[str, Any]:
    """The result of a benchmark, as `kp.bench.train_outcome` describes it."""
    job = trial_job(options, _use_gpu(options.device))
    trainers = [trainer for trainer in Trainer if trainer is not Trainer.ALL_LAYERS or options.layers != ALL_LAYERS]
    with ExitStack() as running:
        processes: dict[Trainer, TrainingProcess[Any]] = {}
        for trainer in trainers:
            log(f"{trainer} sets up")
            processes[trainer] = running.enter_context(TrainingProcess(partial(_WORK[trainer], shape=options.shape), job))
        record = Record({trainer: process.start for trainer, process in processes.items()})
        for number in range(options.epochs):
            for trainer in trainers if number % 2 == 0 else reversed(trainers):
                epoch = processes[trainer].epoch()
                record.epochs[trainer].append(epoch)
                rate = epoch.rows / epoch.seconds
                log(f"epoch {number + 1}: {trainer} in {epoch.seconds:.1f} s, {rate:.2f} rows/s, loss {epoch.loss:.4f}")
        record.ends = {trainer: process.end() for trainer, process in processes.items()}
    return outcome(options, job, record)


def _use_gpu(device: Device) -> bool:
    there = torch.cuda.is_available()
    if device is Device.CUDA and not there:
        raise UserError("cuda is asked for, but torch sees no GPU", field="device")
    return there and device is not Device.CPU
