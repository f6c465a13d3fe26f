"""The race: how fast a trial trains, kp's worker against the released script's way, on the same rows in the same steps.

A machine that others use is not the same from minute to minute, so the two train one epoch in turns, and who begins moves on from epoch to
epoch; only one computes at a time. Whether both end with the same loss is a part of the result: a faster way to another loss is none.
"""

from typing import Any

import torch

from kp.bench.keeping import keep, refuse_missing_folder, say
from kp.bench.options import Device, TrainOptions
from kp.bench.train_contestants import kp_trains, released_trains
from kp.bench.train_line import Contestant
from kp.bench.train_outcome import Record, outcome
from kp.bench.train_race import Trainer, trial_job
from kp.bench.train_table import markdown, text
from kp.errors import UserError


def run_train(options: TrainOptions) -> int:
    """Run the benchmark, print its table, and write what the options name; the exit code, 1 where the final losses differ."""
    refuse_missing_folder(options.json)
    result = race(options)
    keep(result, text, markdown, options.json)
    return 1 if result["agreement"]["equal"] is False else 0


def race(options: TrainOptions) -> dict[str, Any]:
    """The result of a race, as `kp.bench.train_outcome` describes it."""
    job = trial_job(options, _use_gpu(options.device))
    say("kp sets up its trial")
    with Contestant(kp_trains, job) as kp:
        say("the released way sets up its own")
        with Contestant(released_trains, job) as released:
            record = Record({Trainer.KP: kp.start, Trainer.RELEASED: released.start})
            contestants: dict[Trainer, Contestant[Any]] = {Trainer.KP: kp, Trainer.RELEASED: released}
            for number in range(options.epochs):
                for trainer in list(Trainer) if number % 2 == 0 else list(reversed(Trainer)):
                    epoch = contestants[trainer].epoch()
                    record.epochs[trainer].append(epoch)
                    rate = epoch.rows / epoch.seconds
                    say(f"epoch {number + 1}: {trainer} in {epoch.seconds:.1f} s, {rate:.2f} rows/s, loss {epoch.loss:.4f}")
            record.kp, record.released = kp.end(), released.end()
    return outcome(options, job, record)


def _use_gpu(device: Device) -> bool:
    there = torch.cuda.is_available()
    if device is Device.CUDA and not there:
        raise UserError("cuda is asked for, but torch sees no GPU", field="device")
    return there and device is not Device.CPU
