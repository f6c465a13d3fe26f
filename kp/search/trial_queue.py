"""Between Ray Tune, which decides how far each trial goes, and the workers of Ray Train, which outlive trials.

Starting a Ray Train run takes longer than training a small trial. So a *worker group*, the workers of one Train run, takes one trial after
another, and keeps processes, process group and base model meanwhile. The queue stands between: trials are submitted to it, worker groups
take them, each epoch goes up to Tune, and the decision to continue or to stop comes down. No worker begins an epoch that Tune has not
allowed.

Ray Train starts a worker group again whose workers died, and it is handed the trial that it had; a trial that breaks its workers too often
is given up, with what was last heard of them as the cause. Plain asyncio: in a study it lives in a Ray actor.
"""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from kp.vocabulary import TrialStatus

MOST_ATTEMPTS = 3  # times that workers may begin or resume a trial before it counts as failed


class Decision(StrEnum):
    """What workers are told after an epoch."""

    CONTINUE = "continue"
    STOP = "stop"


@dataclass(frozen=True)
class TrialAssignment:
    """A trial handed to a worker group; `attempt` is 1 the first time."""

    trial_id: str
    attempt: int


@dataclass(frozen=True)
class WorkerReport:
    """How a trial ended, as far as workers can say: `status` is None where it was stopped from above."""

    status: TrialStatus | None
    cause: str | None
    seconds: float  # since workers first took it


@dataclass
class _Trial:
    epochs: list[dict[str, Any]] = field(default_factory=list)  # what Tune hears, in order
    decisions: dict[int, Decision] = field(default_factory=dict)  # epoch -> what was decided
    attempts: int = 0
    stopped: bool = False
    report: WorkerReport | None = None
    taken: float | None = None

    def seconds(self) -> float:
        return time.monotonic() - self.taken if self.taken is not None else 0.0


class TrialQueue:
    """Every method is safe to call again: callers that die and are started again ask the same things."""

    def __init__(self) -> None:
        self._trials: dict[str, _Trial] = {}
        self._waiting: deque[str] = deque()
        self._held: dict[str, str | None] = {}  # worker group -> the trial it has
        self._assignments: dict[tuple[str, str, int], TrialAssignment | None] = {}
        self._closed = False
        self._abandoned: str | None = None
        self._changed = asyncio.Condition()
        self._asking: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    # --- from above: Tune's trials and the study's driver

    async def submit(self, trial_id: str) -> None:
        """Queue a trial, once."""
        async with self._changed:
            if trial_id not in self._trials:
                self._trials[trial_id] = _Trial()
                if self._abandoned is None:
                    self._waiting.append(trial_id)
                else:
                    self._end(trial_id, WorkerReport(TrialStatus.FAILED, self._abandoned, 0.0))
                self._changed.notify_all()

    async def wait_for_epochs(self, trial_id: str, known: int) -> list[dict[str, Any]]:
        """Waits for epochs beyond the first `known`; returns them, or nothing once the trial has ended."""
        trial = self._trials[trial_id]
        async with self._changed:
            await self._changed.wait_for(lambda: len(trial.epochs) > known or trial.report is not None)
            return trial.epochs[known:]

    async def let_continue(self, trial_id: str, epoch: int) -> None:
        """Let workers go beyond this epoch."""
        async with self._changed:
            self._trials[trial_id].decisions.setdefault(epoch, Decision.CONTINUE)
            self._changed.notify_all()

    async def stop(self, trial_id: str) -> WorkerReport:
        """Let nobody continue the trial; returns its report. Of one that has ended by itself nothing changes."""
        async with self._changed:
            trial = self._trials.setdefault(trial_id, _Trial())
            trial.stopped = True
            if trial.report is None:
                self._end(trial_id, WorkerReport(None, None, trial.seconds()))
            assert trial.report is not None
            return trial.report

    async def close(self) -> None:
        """Let worker groups shut down once they have nothing in hand."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    async def abandon(self, cause: str) -> None:
        """Count every trial as failed that has not ended, and those that are yet to come: there is no worker group left to take them."""
        async with self._changed:
            self._abandoned = cause
            for trial_id, trial in self._trials.items():
                if trial.report is None:
                    self._end(trial_id, WorkerReport(TrialStatus.FAILED, cause, trial.seconds()))

    # --- from below: worker groups

    async def next_trial(self, group: str, life: str, turn: int) -> TrialAssignment | None:
        """The worker group's next trial, or None to shut down; all its workers ask and get the same answer.

        `life` names this start of the group's processes, `turn` counts what they have taken in it. A new life continues what an earlier one
        left.
        """
        key = (group, life, turn)
        async with self._asking[group]:  # the first worker's question decides, the others wait for the answer
            if key not in self._assignments:
                self._assignments[key] = await self._next(group)
        return self._assignments[key]

    async def _next(self, group: str) -> TrialAssignment | None:
        async with self._changed:
            left = self._held.get(group)
            if left is not None and self._trials[left].report is None:
                return self._assign(group, left) or await self._new(group)
            return await self._new(group)

    async def _new(self, group: str) -> TrialAssignment | None:
        while True:
            self._held[group] = None
            await self._changed.wait_for(lambda: bool(self._waiting) or self._closed)
            if not self._waiting:
                return None
            assignment = self._assign(group, self._waiting.popleft())
            if assignment:
                return assignment

    def _assign(self, group: str, trial_id: str) -> TrialAssignment | None:
        trial = self._trials[trial_id]
        if trial.report is not None:
            return None
        trial.attempts += 1
        if trial.attempts > MOST_ATTEMPTS:
            self._end(trial_id, WorkerReport(TrialStatus.FAILED, f"its workers died {MOST_ATTEMPTS} times", trial.seconds()))
            return None
        trial.taken = trial.taken or time.monotonic()
        self._held[group] = trial_id
        return TrialAssignment(trial_id, trial.attempts)

    async def report_epoch(self, trial_id: str, epoch: int, measured: dict[str, Any]) -> None:
        """Pass an epoch up; one that was reported before is not passed up again."""
        trial = self._trials[trial_id]
        async with self._changed:
            if epoch > len(trial.epochs):
                trial.epochs.append(measured)
                self._changed.notify_all()

    async def wait_for_decision(self, trial_id: str, epoch: int) -> Decision:
        """Waits for what was decided after this epoch."""
        trial = self._trials[trial_id]
        async with self._changed:
            await self._changed.wait_for(lambda: trial.stopped or epoch in trial.decisions)
            return trial.decisions.get(epoch, Decision.STOP)

    async def report_end(self, trial_id: str, status: TrialStatus, cause: str | None) -> None:
        """A trial has come to its own end, or broke."""
        async with self._changed:
            if self._trials[trial_id].report is None:
                self._end(trial_id, WorkerReport(status, cause, self._trials[trial_id].seconds()))

    async def workers_died(self, group: str, errors: Sequence[str]) -> None:
        """What Ray Train knows of workers that died; where they had no memory left, their trial is not tried again."""
        trial_id = self._held.get(group)
        cause = next((error for error in errors if out_of_memory(error)), None)
        if trial_id is not None and cause is not None:
            await self.report_end(trial_id, TrialStatus.OUT_OF_MEMORY, cause)

    def _end(self, trial_id: str, report: WorkerReport) -> None:
        trial = self._trials[trial_id]
        trial.report = report
        for group, held in self._held.items():
            if held == trial_id:
                self._held[group] = None
        self._changed.notify_all()


def out_of_memory(error: str) -> bool:
    """Whether an error's text speaks of memory that was not there, on a GPU or a node."""
    return "OutOfMemory" in error or "out of memory" in error or "running low on memory" in error
