"""Ray Tune's ASHA with a memory of the trials that ended in earlier runs of the study.

Tune's own ASHA starts with empty rungs in every run. If a study was killed, or is extended by another batch of Optuna, the results of its
finished trials would be lost, and every remaining trial would continue because there is nothing to compare it with. So the epochs of ended
trials are reported again, through the methods with which Tune reports running trials to a scheduler: each is entered on the rungs that it
reached, and on no others.

Three rules differ from Tune's. A trial that has learned everything (`search.stop_at_accuracy`) ends before later rungs and would be missing
there, so that only slow learners would set the cutoff; it is entered on these rungs with its last accuracy. Until it ends, which takes
`search.anneal_epochs` more epochs, it is not stopped: it would end at a high learning rate, and count as one that learned too slowly. And a
trial that resumes after a kill reports its committed epochs again: if it was allowed to continue beyond an epoch once, it is not stopped
there because of later trials.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from kp.training.schedule import epochs_to_target

TIME = "epoch"  # Tune's own training_iteration starts again at 1 after a restart
METRIC = "unknown_accuracy"


@dataclass(frozen=True)
class AshaSchedule:
    """When the weaker trials of a study are stopped."""

    grace_epochs: int  # the first rung
    reduction_factor: int  # one in this many continues; the next rung is at this many times the epochs
    max_epochs: int  # of the longest trial
    stop_at_accuracy: float | None = None  # a trial that ended with at least this has learned everything
    stop_patience: int = 1  # so has one that had it for as many epochs in a row


@dataclass(frozen=True)
class _Ended:
    """The part of a Tune trial that a scheduler reads."""

    trial_id: str
    config: dict[str, Any] = field(default_factory=dict)


class RememberingAsha(ASHAScheduler):
    """ASHA over epochs and unknown_accuracy, with its rungs filled by earlier trials; see `asha`."""

    def __init__(self, schedule: AshaSchedule, history: Sequence[Mapping[int, float]], committed: Mapping[str, int]) -> None:
        super().__init__(
            time_attr=TIME,
            metric=METRIC,
            mode="max",
            grace_period=min(schedule.grace_epochs, schedule.max_epochs),
            reduction_factor=schedule.reduction_factor,
            max_t=schedule.max_epochs + 1,  # a trial that runs all its epochs ends by itself and is not stopped early
        )
        self._schedule, self._committed = schedule, dict(committed)
        self._accuracies: defaultdict[str, dict[int, float]] = defaultdict(dict)  # of each trial, by epoch
        for number, accuracies in enumerate(history):
            self._remember(_Ended(f"ended before, number {number}"), accuracies)

    def _remember(self, trial: Any, accuracies: Mapping[int, float]) -> None:
        no_controller: Any = None  # ASHA does not use it
        self.on_trial_add(no_controller, trial)
        last: dict[str, Any] = {}
        for epoch in sorted(accuracies):
            last = {TIME: epoch, METRIC: accuracies[epoch]}
            self.on_trial_result(no_controller, trial, last)
        self.on_trial_complete(no_controller, trial, last)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """The decision on a trial after an epoch: CONTINUE or STOP."""
        decision = super().on_trial_result(tune_controller, trial, result)
        self._accuracies[trial.trial_id][result[TIME]] = result[METRIC]
        was_let_on = result[TIME] < self._committed.get(trial.config.get("trial_id"), 0)
        return TrialScheduler.CONTINUE if was_let_on or self._has_reached_target(trial) else decision

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Enter a trial that learned everything on the later rungs, which it need not reach."""
        target = self._schedule.stop_at_accuracy
        ended_there = target is not None and result.get(METRIC, 0.0) >= target
        if ended_there or self._has_reached_target(trial):
            for epoch in range(result[TIME] + 1, self._schedule.max_epochs + 1):
                super().on_trial_result(tune_controller, trial, {TIME: epoch, METRIC: result[METRIC]})
        super().on_trial_complete(tune_controller, trial, result)

    def _has_reached_target(self, trial: Any) -> bool:
        accuracies, schedule = self._accuracies[trial.trial_id], self._schedule
        in_order = [accuracies[epoch] for epoch in sorted(accuracies)]
        return epochs_to_target(in_order, schedule.stop_at_accuracy, schedule.stop_patience) is not None


def asha(schedule: AshaSchedule, history: Sequence[Mapping[int, float]], committed: Mapping[str, int] | None = None) -> TrialScheduler:
    """The scheduler of one Tune run over trials of a study.

    `history` has epoch -> unknown_accuracy for each trial that ended before, for whatever reason. `committed` has the last committed epoch
    of each trial that resumes from a checkpoint, by its `trial_id` in Tune's config.
    """
    return RememberingAsha(schedule, history, committed or {})
