"""From measurements to the saved result: plain JSON, every ratio with the counts and seconds that it was computed from.

rows         rows, facts, tokens (of an epoch's rows), steps (optimiser steps of an epoch)
implementations
             by name: way, rows, seconds (of all epochs), samples_per_s, tokens_per_s (tokens of the rows), read_tokens (read by the model:
             padding is counted, and shared tokens once if they are read once), peak_memory and peak_device_memory (bytes; the latter of a
             GPU, null on a CPU), epochs (seconds, loss, step_losses)
ratios       kp to each of the others: samples_per_s, over all epochs and in each; read_tokens and peak memories
agreement    of kp and the released way: same_start (of LoRA), the final losses (means over the last epoch's steps) and their relative
             difference, the largest relative difference of a step's losses, and whether the final ones are equal within the tolerance: null
             with dropout, because the masks differ
padding      by name: share of read_tokens
limit        read_tokens_per_s of kp, and for each way to measure the model's own forward pass: tokens_per_s, pass_tokens, and kp's share of
             half of it; null for an adapter of fewer layers
step         seconds of a step of kp in the mean, by part; null on a GPU, whose calls return before they have computed
attention    of kp: the implementation that its model computes with
kept         kp's, of the layers below the first adapted one: first_layer, tokens, bytes, token_bytes, and the seconds in which these layers
             read the rows, which count as the first epoch's; null if nothing is
trial        kp's: load_seconds (of the base, once per worker), wall_seconds from set-up to end, parts, share_of_training
left_out     what the released set-up has in addition, and whom leaving it out favours
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from importlib.metadata import version
from typing import Any

import polars as pl

from kp import __version__
from kp.bench.measured import Measured
from kp.bench.options import DType, TrainOptions
from kp.bench.subject import shape_name
from kp.bench.train_limits import ForwardRates
from kp.bench.train_trial import Kept, KpTrial, TrainEpoch, Trainer, TrainStart
from kp.config.layers import ALL_LAYERS
from kp.store.hardware import hardware
from kp.training.job import TrialJob
from kp.vocabulary import Packing, Role

TOLERANCE = 0.01
"""Final losses with a relative difference below this are equal."""

_PACKINGS = {
    Packing.PREFIX_TREE: "tokens that rows of a batch share are read once, nothing is padded",
    Packing.PADDED: "rows padded to the longest of their batch",
}
_RELEASED_WAY = (
    "transformers Trainer, PEFT: eager attention, rows padded to the longest of their batch, logits of every token; AdamW, linear decay, "
    "no warm-up, no weight decay, gradients clipped at 1.0"
)
_RELEASED_NUMBERS = {DType.FLOAT32: "", DType.BFLOAT16: "; bfloat16 by autocast, LoRA in float32"}
_PACKAGES = ("torch", "transformers", "peft", "deepspeed", "accelerate")


@dataclass
class Record:
    """The measurements; epochs in the order in which they were trained."""

    starts: dict[Trainer, TrainStart]
    epochs: dict[Trainer, list[TrainEpoch]] = field(default_factory=lambda: {trainer: [] for trainer in Trainer})
    ends: dict[Trainer, Measured[Any]] = field(default_factory=dict)  # of a KpTrial, and ReleasedTrials


def outcome(options: TrainOptions, job: TrialJob, record: Record) -> dict[str, Any]:
    """The result of a completed benchmark."""
    trial: KpTrial = record.ends[Trainer.KP].result
    ways = {Trainer.KP: f"a kp.training worker, DeepSpeed: {_PACKINGS[options.packing]}; logits where a label is predicted"}
    ways[Trainer.RELEASED] = _RELEASED_WAY + _RELEASED_NUMBERS[options.dtype]
    ways[Trainer.GROUPED] = f"{ways[Trainer.RELEASED]}; group_by_length"
    ways[Trainer.ALL_LAYERS] = f"{ways[Trainer.RELEASED]}; an adapter of all layers"
    implementations = {trainer: _implementation(ways[trainer], record.epochs[trainer], record.ends[trainer]) for trainer in record.starts}
    kp, *others = record.starts
    start, first = record.starts[Trainer.KP], record.epochs[Trainer.KP][0]
    rows = pl.DataFrame(job.rows)
    name, revision = (options.model, start.revision) if options.shape is None else (shape_name(options.shape), None)
    return {
        "bench": "train",
        "model": {"name": name, "revision": revision, "parameters": start.parameters, "dtype": options.dtype.value},
        "machine": hardware() | {"device": start.device, "threads": job.engine.threads},
        "versions": {"kp": __version__} | {name: version(name) for name in _PACKAGES},
        "settings": {entry.name: getattr(options, entry.name) for entry in fields(options) if entry.name != "json"},
        "rows": {
            "rows": rows.height,
            "facts": rows.filter(role=Role.UNKNOWN.value).height,
            "tokens": first.tokens,
            "steps": len(first.step_losses),
        },
        "implementations": {trainer.value: entry for trainer, entry in implementations.items()},
        "ratios": {other.value: _ratio(implementations[kp], implementations[other]) for other in others},
        "agreement": agreement_of_losses(record, judged=options.dropout == 0),
        "padding": {other.value: 1 - first.tokens * options.epochs / implementations[other]["read_tokens"] for other in others},
        "limit": _limit(implementations[kp], trial.forward) if options.layers == ALL_LAYERS else None,
        "step": _step(trial, sum(len(epoch.step_losses) for epoch in record.epochs[kp])) if start.device == "cpu" else None,
        "attention": job.engine.attention.value,
        "kept": _kept(trial.kept) if trial.kept else None,
        "trial": _trial(trial),
        "left_out": left_out(options),
    }


def _implementation(way: str, epochs: Sequence[TrainEpoch], end: Measured[Any]) -> dict[str, Any]:
    rows, seconds = sum(epoch.rows for epoch in epochs), sum(epoch.seconds for epoch in epochs)
    return {
        "way": way,
        "rows": rows,
        "seconds": seconds,
        "samples_per_s": rows / seconds,
        "tokens_per_s": sum(epoch.tokens for epoch in epochs) / seconds,
        "read_tokens": sum(epoch.read_tokens for epoch in epochs),
        "peak_memory": end.peak_memory,
        "peak_device_memory": end.result.peak_device_memory,
        "epochs": [{"seconds": epoch.seconds, "loss": epoch.loss, "step_losses": list(epoch.step_losses)} for epoch in epochs],
    }


def _ratio(kp: dict[str, Any], released: dict[str, Any]) -> dict[str, Any]:
    on_device = released["peak_device_memory"]
    return {
        "all": kp["samples_per_s"] / released["samples_per_s"],
        "epochs": [theirs["seconds"] / ours["seconds"] for ours, theirs in zip(kp["epochs"], released["epochs"], strict=True)],
        "read_tokens": kp["read_tokens"] / released["read_tokens"],
        "peak_memory": kp["peak_memory"] / released["peak_memory"],
        "peak_device_memory": kp["peak_device_memory"] / on_device if on_device else None,
    }


def agreement_of_losses(record: Record, judged: bool) -> dict[str, Any]:
    """Whether both started with the same weights, and how far their losses differ."""
    ours, theirs = record.epochs[Trainer.KP], record.epochs[Trainer.RELEASED]
    steps = [
        _difference(one, other)
        for mine, yours in zip(ours, theirs, strict=True)
        for one, other in zip(mine.step_losses, yours.step_losses, strict=True)
    ]
    final = _difference(ours[-1].loss, theirs[-1].loss)
    starts = {record.starts[trainer].digest for trainer in (Trainer.KP, Trainer.RELEASED)}
    return {
        "same_start": len(starts) == 1,
        "final_loss": {Trainer.KP.value: ours[-1].loss, Trainer.RELEASED.value: theirs[-1].loss, "difference": final},
        "steps": len(steps),
        "largest_step_difference": max(steps),
        "tolerance": TOLERANCE,
        "equal": len(starts) == 1 and final <= TOLERANCE if judged else None,
    }


def _difference(one: float, other: float) -> float:
    """The difference relative to the second; infinite if a loss is not a number."""
    found = abs(one - other) / abs(other)
    return found if math.isfinite(found) else math.inf


def _limit(kp: dict[str, Any], forward: ForwardRates) -> dict[str, Any]:
    read = kp["read_tokens"] / kp["seconds"]
    measured = {
        "same_passes": (forward.same_passes, None),
        "same_size": (forward.same_size, forward.same_tokens),
        "best_size": (forward.best_size, forward.best_tokens),
    }
    shares = {name: {"tokens_per_s": rate, "pass_tokens": size, "share": 2 * read / rate} for name, (rate, size) in measured.items()}
    return {"read_tokens_per_s": read, **shares}


def _kept(kept: Kept) -> dict[str, Any]:
    return {
        "first_layer": kept.first,
        "tokens": kept.tokens,
        "bytes": kept.bytes,
        "token_bytes": kept.bytes / kept.tokens,
        "seconds": kept.seconds,
    }


def _step(trial: KpTrial, steps: int) -> dict[str, float]:
    parts = {name: seconds / steps for name, seconds in trial.laps.items()}
    return parts | {"rest": trial.training / steps - sum(parts.values())}


def _trial(trial: KpTrial) -> dict[str, Any]:
    parts = {name: getattr(trial, name) for name in ("setup", "training", "evals", "checkpoints")}
    return {
        "load_seconds": trial.load,
        "wall_seconds": trial.wall,
        "parts": parts | {"rest": trial.wall - sum(parts.values())},
        "share_of_training": trial.training / trial.wall,
    }


def left_out(options: TrainOptions) -> list[dict[str, str]]:
    """What the released set-up has in addition to this benchmark, and whom leaving it out favours."""
    found = []
    if options.dropout == 0:
        found.append({"what": "LoRA dropout of 0.1, with which losses could not be compared step by step", "favours": "neither"})
    if options.dtype is DType.FLOAT32:
        found.append({"what": "bfloat16: both compute in float32", "favours": "neither"})
    return found
