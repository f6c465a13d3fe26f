"""The learning rate of every step, and when a trial has reached its target and anneals.

Both follow from the trial's spec and the accuracies of its epochs, which every checkpoint has. So a resumed trial needs no other state, all
workers decide alike, and the search's scheduler recognises a trial that has reached its target by the same rule.
"""

import math
from collections.abc import Iterable

from kp.training.spec import TrialSpec
from kp.vocabulary import RateSchedule


def epochs_to_target(accuracies: Iterable[float], target: float | None, patience: int) -> int | None:
    """The first epoch (1 is the first) that ends `patience` epochs in a row at `target` or above; None if there is none so far.

    What a trial measures later changes nothing: it has reached its target.
    """
    in_a_row = 0
    for epoch, accuracy in enumerate(accuracies, start=1):
        in_a_row = in_a_row + 1 if target is not None and accuracy >= target else 0
        if in_a_row == patience:
            return epoch
    return None


def lr_multiplier(spec: TrialSpec, step: int, reached: int | None = None) -> float:
    """Share of the peak learning rate at a step (0 is the first); `reached` is the epoch in which the trial reached its target, if it did.

    From the first step after that epoch the rate falls linearly, from what the schedule has there to 0 after the last step of the epochs
    of annealing, or of the trial where that comes first. It is never above the schedule's.
    """
    scheduled = _scheduled(spec, step)
    if reached is None:
        return scheduled
    start = reached * spec.steps_per_epoch
    end = min(start + spec.settings.anneal_epochs * spec.steps_per_epoch, spec.max_steps)
    left = max(0, end - step) / max(1, end - start)
    return min(scheduled, _scheduled(spec, start) * left)


def _scheduled(spec: TrialSpec, step: int) -> float:
    """A linear rise, then as `training.schedule` says, 0 after the last step."""
    total = spec.max_steps
    warmup = math.ceil(total * spec.training.warmup_ratio)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    left = max(0.0, (total - step) / max(1, total - warmup))
    match spec.training.schedule:
        case RateSchedule.LINEAR:
            return left
        case RateSchedule.COSINE:
            return 0.5 * (1 - math.cos(math.pi * left))
        case RateSchedule.CONSTANT:
            return 1.0
