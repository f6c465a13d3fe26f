"""The queue between Ray Tune, which decides how long each trial runs, and the workers of Ray Train, which outlive trials.

Starting a Ray Train run takes longer than training a small trial. So a *worker group*, the workers of one Train run, trains one trial after
another and keeps its processes, process group and base model. Trials are submitted to the queue, and worker groups take them from it; each
epoch is reported to Tune, and the decision to continue or to stop is returned. No worker starts an epoch that Tune has not allowed.

What is lost with workers returns to the queue, and whichever group asks next resumes it from its last epoch. The loss of a node is nobody's
fault. What fails is charged twice: to the trial, which has failed after `MOST_ATTEMPTS` without an epoch in between, and to the group,
which is retired after failing on two trials in a row, because then it is more likely the group's GPU or node that is broken. The queue is
plain asyncio; in a study it runs in a Ray actor.
"""

import asyncio
import re
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from kp.cluster.last_words import ProcessPlace
from kp.cluster.metrics import Metric, record
from kp.errors import UserError
from kp.vocabulary import TrialStatus

MOST_ATTEMPTS = 3  # failures of a trial's workers without an epoch in between before the trial counts as failed
MOST_GROUP_FAILURES = 2  # trials in a row on which a worker group may fail before it is retired

# What Ray says of an actor whose node was lost or is being drained.
_NODE_LOST = re.compile(r"node has died|node was terminated|node .*preempt|ActorUnavailableError|temporarily unavailable", re.IGNORECASE)

# The sentence on an actor's end in Ray's twenty lines, without the list of what commonly ends one.
_ACTOR_DIED = re.compile(r"The actor (is dead|died) because.*?(?= Some common causes|$)", re.MULTILINE)


class Decision(StrEnum):
    """What workers do after an epoch."""

    CONTINUE = "continue"
    STOP = "stop"


@dataclass(frozen=True)
class TrialAssignment:
    """A trial assigned to a worker group; `attempt` is 1 the first time.

    `micro_batch` is the most rows of a pass if more have run out of memory before, otherwise None.
    """

    trial_id: str
    attempt: int
    micro_batch: int | None = None


@dataclass(frozen=True)
class WorkerReport:
    """How a trial ended, as far as workers know: `status` is None if Tune stopped it."""

    status: TrialStatus | None
    cause: str | None
    seconds: float  # since workers first started it
    refusal: UserError | None = None  # what a user can mend, if that was the cause
    stderr: str = ""  # the last lines of a worker that died of it


@dataclass(frozen=True)
class WorkerDeath:
    """Ray Train's error of a worker that died, where that was, and the last lines of its stderr, if they are known."""

    error: str
    place: str = ""
    stderr: str = ""

    def __str__(self) -> str:
        said = _ACTOR_DIED.search(self.error)
        where = f" (on {self.place})" if self.place else ""
        return f"{said.group() if said else self.error}{where}"


@dataclass(frozen=True)
class GroupEnd:
    """What follows from the end of a worker group: one that is retired is not started again, none is if the search is over."""

    is_retired: bool
    cause: str  # of its last failure, if it had any
    is_over: bool
    epochs: int  # that it has trained
    idle_seconds: float  # since any group has taken a step of training, or since the search began
    driver: ProcessPlace | None = None


@dataclass(frozen=True)
class Training:
    """A trial in the hands of a worker group; `step` is its last known optimiser step, `seconds` since it was heard of."""

    trial_id: str
    step: int
    seconds: float


@dataclass(frozen=True)
class QueueState:
    """What the search is doing."""

    training: tuple[Training, ...]
    waiting: int  # trials without a worker group
    idle_seconds: float  # since the last step of any trial
    halved: int = 0  # unfinished trials that read fewer rows in a pass, because memory ran out


@dataclass
class _Trial:
    epochs: list[dict[str, Any]] = field(default_factory=list)  # as reported to Tune, in order
    decisions: dict[int, Decision] = field(default_factory=dict)  # by epoch
    attempts: int = 0
    failures: int = 0  # of its workers since its last epoch
    micro_batch: int | None = None  # most rows of a pass, once a larger one has run out of memory
    stopped: bool = False
    report: WorkerReport | None = None
    taken: float | None = None

    def seconds(self) -> float:
        return time.monotonic() - self.taken if self.taken is not None else 0.0


@dataclass
class _Group:
    held: str | None = None  # the trial it has
    failed_on: list[str] = field(default_factory=list)  # different trials in a row, without an epoch in between
    cause: str = ""  # of its last failure
    epochs: int = 0
    step: int = 0
    heard: float = 0.0
    driver: ProcessPlace | None = None
    workers: dict[int, ProcessPlace] = field(default_factory=dict)  # by rank; of the processes of now

    @property
    def is_retired(self) -> bool:
        return len(self.failed_on) >= MOST_GROUP_FAILURES


class TrialQueue:
    """Every method may be called again: callers that die and are restarted repeat their calls."""

    def __init__(self, study: str = "") -> None:
        self._study = study  # its name, for metrics
        self._trials: dict[str, _Trial] = {}
        self._waiting: deque[str] = deque()
        self._groups: defaultdict[str, _Group] = defaultdict(_Group)
        self._assignments: dict[tuple[str, str, int], TrialAssignment | None] = {}
        self._closed = False
        self._progressed = time.monotonic()
        self._abandoned: WorkerReport | None = None
        self._changed = asyncio.Condition()
        self._asking: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    # --- called by Tune's trials and the study's driver

    async def submit(self, trial_id: str) -> None:
        """Queue a trial, once."""
        async with self._changed:
            if trial_id not in self._trials:
                self._trials[trial_id] = _Trial()
                if self._abandoned is None:
                    self._waiting.append(trial_id)
                else:
                    self._end(trial_id, self._abandoned)
                self._changed.notify_all()

    async def wait_for_epochs(self, trial_id: str, known: int) -> list[dict[str, Any]]:
        """Wait for epochs after the first `known`; returns them, or an empty list once the trial has ended."""
        trial = self._trials[trial_id]
        async with self._changed:
            await self._changed.wait_for(lambda: len(trial.epochs) > known or trial.report is not None)
            return trial.epochs[known:]

    async def let_continue(self, trial_id: str, epoch: int) -> None:
        """Allow workers to continue after this epoch."""
        async with self._changed:
            self._trials[trial_id].decisions.setdefault(epoch, Decision.CONTINUE)
            self._changed.notify_all()

    async def stop(self, trial_id: str) -> WorkerReport:
        """Stop the trial and return its report; a trial that has ended by itself keeps its report."""
        async with self._changed:
            trial = self._trials.setdefault(trial_id, _Trial())
            trial.stopped = True
            if trial.report is None:
                self._end(trial_id, WorkerReport(None, None, trial.seconds()))
            assert trial.report is not None
            return trial.report

    async def state(self) -> QueueState:
        """What is being done, for those who watch."""
        now = time.monotonic()
        training = tuple(Training(one.held, one.step, now - one.heard) for one in self._groups.values() if one.held is not None)
        waiting = sum(self._trials[trial_id].report is None for trial_id in self._waiting)
        halved = sum(trial.report is None and trial.micro_batch is not None for trial in self._trials.values())
        return QueueState(training, waiting, now - self._progressed, halved)

    async def close(self) -> None:
        """Let worker groups shut down once they have no trial."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    async def abandon(self, cause: str, refusal: UserError | None = None, stderr: str = "") -> None:
        """Fail all trials that have not ended, and all later ones: no worker group is left to train them."""
        async with self._changed:
            self._abandoned = WorkerReport(TrialStatus.FAILED, cause, 0.0, refusal, stderr)
            for trial_id, trial in self._trials.items():
                if trial.report is None:
                    self._end(trial_id, replace(self._abandoned, seconds=trial.seconds()))

    # --- called by worker groups

    async def driver_started(self, group: str, place: ProcessPlace) -> None:
        """Record where a group's driver runs."""
        self._groups[group].driver = place

    async def worker_started(self, group: str, rank: int, place: ProcessPlace) -> None:
        """Record where a group's worker runs."""
        self._groups[group].workers[rank] = place

    async def workers_of(self, group: str) -> dict[int, ProcessPlace]:
        """Where a group's workers run, or ran when they were last heard of, by rank."""
        return dict(self._groups[group].workers)

    async def next_trial(self, group: str, life: str, turn: int) -> TrialAssignment | None:
        """The worker group's next trial, or None to shut down; all its workers ask and get the same answer.

        `life` identifies this start of the group's processes, `turn` counts the trials that they have taken since. After a restart, the
        group's unfinished trial comes first.
        """
        key = (group, life, turn)
        async with self._asking[group]:  # the first worker's call decides, the others wait for its result
            if key not in self._assignments:
                self._assignments[key] = await self._next(group)
        return self._assignments[key]

    async def _next(self, group: str) -> TrialAssignment | None:
        async with self._changed:
            self._put_back(group)  # what an earlier life of its processes had, if anything
            while not self._groups[group].is_retired:
                await self._changed.wait_for(lambda: bool(self._waiting) or self._closed)
                if not self._waiting:
                    return None
                assignment = self._assign(group, self._take(group))
                if assignment:
                    return assignment
            return None

    def _take(self, group: str) -> str:
        """The first waiting trial on which this group has not just failed; the first of all if there is none."""
        failed_on = self._groups[group].failed_on
        trial_id = next((waiting for waiting in self._waiting if waiting not in failed_on), self._waiting[0])
        self._waiting.remove(trial_id)
        return trial_id

    def _assign(self, group: str, trial_id: str) -> TrialAssignment | None:
        trial = self._trials[trial_id]
        if trial.report is not None:
            return None
        trial.attempts += 1
        trial.taken = trial.taken or time.monotonic()
        one = self._groups[group]
        one.held, one.step, one.heard = trial_id, 0, time.monotonic()
        return TrialAssignment(trial_id, trial.attempts, trial.micro_batch)

    async def wait_for_more(self) -> bool:
        """Wait until a trial waits for a worker group, or the search is over; returns whether one waits."""
        async with self._changed:
            await self._changed.wait_for(lambda: bool(self._waiting) or self._closed)
            return bool(self._waiting)

    async def heartbeat(self, group: str, step: int) -> None:
        """Record that a group has come to this optimiser step of its trial."""
        one = self._groups[group]
        one.step, one.heard = step, time.monotonic()
        self._progressed = one.heard

    async def report_epoch(self, trial_id: str, epoch: int, measured: dict[str, Any]) -> None:
        """Pass an epoch on to Tune; one that was reported before is not passed on again."""
        trial = self._trials[trial_id]
        async with self._changed:
            if epoch > len(trial.epochs):
                trial.epochs.append(measured)
                trial.failures = 0
                self._progressed = time.monotonic()
                for group in self._groups.values():
                    if group.held == trial_id:
                        group.failed_on.clear()
                        group.epochs += 1
                self._changed.notify_all()

    async def wait_for_decision(self, trial_id: str, epoch: int) -> Decision:
        """Wait for the decision after this epoch."""
        trial = self._trials[trial_id]
        async with self._changed:
            await self._changed.wait_for(lambda: trial.stopped or epoch in trial.decisions)
            return trial.decisions.get(epoch, Decision.STOP)

    async def report_end(self, trial_id: str, status: TrialStatus, cause: str | None, refusal: UserError | None = None) -> None:
        """Record that a trial has ended by itself, or failed."""
        async with self._changed:
            if self._trials[trial_id].report is None:
                self._end(trial_id, WorkerReport(status, cause, self._trials[trial_id].seconds(), refusal))

    async def ran_out_of_memory(self, group: str, trial_id: str, cause: str, rows: int | None) -> None:
        """Record that a pass of `rows` rows ran out of memory: the trial continues from its last epoch with half as many in a pass.

        It has run out of memory if it cannot, with one row, or with None if that happened before the first pass. All workers of a group may
        report the same failure; it counts once.
        """
        async with self._changed:
            trial = self._trials[trial_id]
            if self._groups[group].held != trial_id:
                return
            if rows is None or rows <= 1:
                self._end(trial_id, WorkerReport(TrialStatus.OUT_OF_MEMORY, cause, trial.seconds()))
                return
            trial.micro_batch = rows // 2
            self._put_back(group)

    async def attempt_failed(self, group: str, trial_id: str, cause: str) -> None:
        """Record that a trial failed for a reason that may lie in the group's process or node: it is moved, unless it failed too often.

        All workers of a group may report the same failure; it counts once.
        """
        async with self._changed:
            if self._groups[group].held == trial_id:
                self._failed(group, cause)

    async def workers_died(self, group: str, deaths: Sequence[WorkerDeath]) -> None:
        """Record the workers that died; if they ran out of memory, their trial is not tried again."""
        async with self._changed:
            trial_id = self._groups[group].held
            if trial_id is None:
                return
            memory = next((death for death in deaths if out_of_memory(death.error)), None)
            if memory is not None:
                seconds = self._trials[trial_id].seconds()
                self._end(trial_id, WorkerReport(TrialStatus.OUT_OF_MEMORY, str(memory), seconds, stderr=memory.stderr))
            elif any(node_lost(death.error) for death in deaths):
                self._put_back(group)
            else:
                last = deaths[-1] if deaths else WorkerDeath("no error is known")
                self._failed(group, f"its workers died: {last}", last.stderr)

    async def group_ended(self, group: str) -> GroupEnd:
        """Record that a worker group is no more, whatever ended it; its trial is resumed by others."""
        async with self._changed:
            self._put_back(group)
            one = self._groups[group]
            return GroupEnd(one.is_retired, one.cause, self._closed, one.epochs, time.monotonic() - self._progressed, one.driver)

    def _failed(self, group: str, cause: str, stderr: str = "") -> None:
        one = self._groups[group]
        assert one.held is not None
        trial_id, trial = one.held, self._trials[one.held]
        one.cause = cause
        if trial_id not in one.failed_on:
            one.failed_on.append(trial_id)
        trial.failures += 1
        if trial.failures < MOST_ATTEMPTS:
            self._put_back(group)
        elif trial.report is None:
            why = f"failed {MOST_ATTEMPTS} times without an epoch in between, at last because {cause}"
            self._end(trial_id, WorkerReport(TrialStatus.FAILED, why, trial.seconds(), stderr=stderr))

    def _put_back(self, group: str) -> None:
        trial_id, self._groups[group].held = self._groups[group].held, None
        if trial_id is not None and self._trials[trial_id].report is None:
            self._waiting.appendleft(trial_id)
            record(Metric.RETRIES, 1, study=self._study, stage="search")
            self._changed.notify_all()

    def _end(self, trial_id: str, report: WorkerReport) -> None:
        trial = self._trials[trial_id]
        trial.report = report
        for group in self._groups.values():
            if group.held == trial_id:
                group.held = None
        self._changed.notify_all()


def out_of_memory(error: str) -> bool:
    """Whether an error's text says that a GPU or a node ran out of memory."""
    return any(said in error for said in ("OutOfMemory", "out of memory", "_STATUS_ALLOC_FAILED", "running low on memory"))


def node_lost(error: str) -> bool:
    """Whether an error's text says that the node of a worker is gone or going, which no trial and no group is to blame for."""
    return bool(_NODE_LOST.search(error))
