"""Ray Tune's ASHA, which remembers the trials of its study that ended before it was made.

Tune's own starts with empty rungs in every run. A study that was killed, or that Optuna extends by another batch, would then have
forgotten all that its finished trials reached, and let every survivor go on for want of anyone to lose against. So the epochs of ended
trials are told again, through the methods by which Tune itself tells a scheduler of a running trial: each takes its place on the rungs
that it reached, and no more.

Two rules of Tune's are bent. A trial that has learned everything (`search.stop_at_accuracy`) ends before later rungs and would be missing
from them, so that only slow learners set the mark there; it is entered on them with its last accuracy, which it would have kept. And a
trial that goes on after a kill tells its committed epochs again: where it was let go beyond an epoch once, it is not judged anew by trials
that came later.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ray.tune.schedulers import ASHAScheduler, TrialScheduler

TIME = "epoch"  # Tune's own training_iteration starts again at 1 after a restart
METRIC = "unknown_accuracy"


@dataclass(frozen=True)
class AshaSchedule:
    """When the weaker trials of a study are stopped."""

    grace_epochs: int  # the first rung
    reduction_factor: int  # one in so many goes on; the next rung is at so many times the epochs
    max_epochs: int  # of the trial that may take the most
    stop_at_accuracy: float | None = None  # from which on a trial that ended has learned everything


@dataclass(frozen=True)
class _Ended:
    """As much of a trial of Tune as a scheduler looks at."""

    trial_id: str
    config: dict[str, Any] = field(default_factory=dict)


class RememberingAsha(ASHAScheduler):
    """ASHA over epochs and unknown_accuracy, its rungs filled with what earlier trials reached there; see `asha`."""

    def __init__(self, schedule: AshaSchedule, history: Sequence[Mapping[int, float]], committed: Mapping[str, int]) -> None:
        super().__init__(
            time_attr=TIME,
            metric=METRIC,
            mode="max",
            grace_period=min(schedule.grace_epochs, schedule.max_epochs),
            reduction_factor=schedule.reduction_factor,
            max_t=schedule.max_epochs + 1,  # a trial that runs its course ends by itself and is no early stop
        )
        self._schedule, self._committed = schedule, dict(committed)
        for number, accuracies in enumerate(history):
            self._remember(_Ended(f"ended before, number {number}"), accuracies)

    def _remember(self, trial: Any, accuracies: Mapping[int, float]) -> None:
        no_controller: Any = None  # ASHA asks nothing of it
        self.on_trial_add(no_controller, trial)
        last: dict[str, Any] = {}
        for epoch in sorted(accuracies):
            last = {TIME: epoch, METRIC: accuracies[epoch]}
            self.on_trial_result(no_controller, trial, last)
        self.on_trial_complete(no_controller, trial, last)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """What becomes of a trial after an epoch: CONTINUE, or STOP."""
        decision = super().on_trial_result(tune_controller, trial, result)
        was_let_on = result.get(TIME, 0) < self._committed.get(trial.config.get("trial_id"), 0)
        return TrialScheduler.CONTINUE if was_let_on else decision

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """A trial that ended by itself takes the rungs it has no need to reach."""
        learned_all = self._schedule.stop_at_accuracy
        if learned_all is not None and result.get(METRIC, 0.0) >= learned_all:
            for epoch in range(result[TIME] + 1, self._schedule.max_epochs + 1):
                super().on_trial_result(tune_controller, trial, {TIME: epoch, METRIC: result[METRIC]})
        super().on_trial_complete(tune_controller, trial, result)


def asha(schedule: AshaSchedule, history: Sequence[Mapping[int, float]], committed: Mapping[str, int] | None = None) -> TrialScheduler:
    """The scheduler of one run of Tune over trials of a study.

    `history` has, for each trial that ended before, epoch -> unknown_accuracy, whatever ended it. `committed` has, for each trial that goes
    on from a checkpoint, by its `trial_id` in Tune's config, the last epoch of that checkpoint.
    """
    return RememberingAsha(schedule, history, committed or {})
