"""Between Ray Tune, which decides how far each trial goes, and the workers of Ray Train, which outlive trials.

Starting a Ray Train run takes longer than training a small trial. So a *crew*, the workers of one Train run, takes one trial after another,
and keeps processes, process group and base model meanwhile. The broker stands between: trials are offered to it, crews take them, each
epoch goes up to Tune, and the word to go on or to stop comes down. No worker begins an epoch that Tune has not allowed.

A crew whose workers died is started again by Ray Train, and is handed the trial that it had; a trial that breaks its workers too often is
given up, with what was last heard of them as the cause. Plain asyncio: in a study it lives in a Ray actor.
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


class Word(StrEnum):
    """What workers are told after an epoch."""

    GO_ON = "go_on"
    STOP = "stop"


@dataclass(frozen=True)
class Order:
    """A trial handed to a crew; `attempt` is 1 the first time."""

    trial_id: str
    attempt: int


@dataclass(frozen=True)
class Account:
    """How a trial ended, as far as workers can say: `status` is None where it was stopped from above."""

    status: TrialStatus | None
    cause: str | None
    seconds: float  # since workers first took it


@dataclass
class _Trial:
    epochs: list[dict[str, Any]] = field(default_factory=list)  # what Tune hears, in order
    words: dict[int, Word] = field(default_factory=dict)  # epoch -> what was decided
    attempts: int = 0
    stopped: bool = False
    account: Account | None = None
    taken: float | None = None

    def seconds(self) -> float:
        return time.monotonic() - self.taken if self.taken is not None else 0.0


class Broker:
    """Every method is safe to call again: callers that die and are started again ask the same things."""

    def __init__(self) -> None:
        self._trials: dict[str, _Trial] = {}
        self._waiting: deque[str] = deque()
        self._held: dict[str, str | None] = {}  # crew -> the trial it has
        self._orders: dict[tuple[str, str, int], Order | None] = {}
        self._closed = False
        self._abandoned: str | None = None
        self._changed = asyncio.Condition()
        self._asking: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    # --- from above: Tune's trials and the study's driver

    async def offer(self, trial_id: str) -> None:
        """Put a trial up to be taken, once."""
        async with self._changed:
            if trial_id not in self._trials:
                self._trials[trial_id] = _Trial()
                if self._abandoned is None:
                    self._waiting.append(trial_id)
                else:
                    self._end(trial_id, Account(TrialStatus.FAILED, self._abandoned, 0.0))
                self._changed.notify_all()

    async def heard(self, trial_id: str, known: int) -> list[dict[str, Any]]:
        """Waits for epochs beyond the first `known`; gives them, or nothing once the trial has ended."""
        trial = self._trials[trial_id]
        async with self._changed:
            await self._changed.wait_for(lambda: len(trial.epochs) > known or trial.account is not None)
            return trial.epochs[known:]

    async def go_on(self, trial_id: str, epoch: int) -> None:
        """Let workers go beyond this epoch."""
        async with self._changed:
            self._trials[trial_id].words.setdefault(epoch, Word.GO_ON)
            self._changed.notify_all()

    async def stop(self, trial_id: str) -> Account:
        """Let nobody go on with the trial; gives its account. Of one that has ended by itself nothing changes."""
        async with self._changed:
            trial = self._trials.setdefault(trial_id, _Trial())
            trial.stopped = True
            if trial.account is None:
                self._end(trial_id, Account(None, None, trial.seconds()))
            assert trial.account is not None
            return trial.account

    async def close(self) -> None:
        """Send crews home once they have nothing in hand."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    async def abandon(self, cause: str) -> None:
        """Count every trial as failed that has not ended, and those that are yet to come: there is no crew left to take them."""
        async with self._changed:
            self._abandoned = cause
            for trial_id, trial in self._trials.items():
                if trial.account is None:
                    self._end(trial_id, Account(TrialStatus.FAILED, cause, trial.seconds()))

    # --- from below: crews

    async def take(self, crew: str, life: str, turn: int) -> Order | None:
        """The crew's next trial, or None to go home; all its workers ask, and are told the same.

        `life` names this start of the crew's processes, `turn` counts what they have taken in it. A new life goes on with what an earlier
        one left.
        """
        key = (crew, life, turn)
        async with self._asking[crew]:  # the first worker's question decides, the others wait for the answer
            if key not in self._orders:
                self._orders[key] = await self._next(crew)
        return self._orders[key]

    async def _next(self, crew: str) -> Order | None:
        async with self._changed:
            left = self._held.get(crew)
            if left is not None and self._trials[left].account is None:
                return self._ordered(crew, left) or await self._new(crew)
            return await self._new(crew)

    async def _new(self, crew: str) -> Order | None:
        while True:
            self._held[crew] = None
            await self._changed.wait_for(lambda: bool(self._waiting) or self._closed)
            if not self._waiting:
                return None
            order = self._ordered(crew, self._waiting.popleft())
            if order:
                return order

    def _ordered(self, crew: str, trial_id: str) -> Order | None:
        trial = self._trials[trial_id]
        if trial.account is not None:
            return None
        trial.attempts += 1
        if trial.attempts > MOST_ATTEMPTS:
            self._end(trial_id, Account(TrialStatus.FAILED, f"its workers died {MOST_ATTEMPTS} times", trial.seconds()))
            return None
        trial.taken = trial.taken or time.monotonic()
        self._held[crew] = trial_id
        return Order(trial_id, trial.attempts)

    async def tell(self, trial_id: str, epoch: int, measured: dict[str, Any]) -> None:
        """Pass an epoch up; one that was told before is not told again."""
        trial = self._trials[trial_id]
        async with self._changed:
            if epoch > len(trial.epochs):
                trial.epochs.append(measured)
                self._changed.notify_all()

    async def word(self, trial_id: str, epoch: int) -> Word:
        """Waits for what was decided after this epoch."""
        trial = self._trials[trial_id]
        async with self._changed:
            await self._changed.wait_for(lambda: trial.stopped or epoch in trial.words)
            return trial.words.get(epoch, Word.STOP)

    async def ended(self, trial_id: str, status: TrialStatus, cause: str | None) -> None:
        """A trial has come to its own end, or broke."""
        async with self._changed:
            if self._trials[trial_id].account is None:
                self._end(trial_id, Account(status, cause, self._trials[trial_id].seconds()))

    async def broken(self, crew: str, errors: Sequence[str]) -> None:
        """What Ray Train knows of workers that died; where they had no memory left, their trial is not tried again."""
        trial_id = self._held.get(crew)
        lacking = next((error for error in errors if out_of_memory(error)), None)
        if trial_id is not None and lacking is not None:
            await self.ended(trial_id, TrialStatus.OUT_OF_MEMORY, lacking)

    def _end(self, trial_id: str, account: Account) -> None:
        trial = self._trials[trial_id]
        trial.account = account
        for crew, held in self._held.items():
            if held == trial_id:
                self._held[crew] = None
        self._changed.notify_all()


def out_of_memory(error: str) -> bool:
    """Whether an error's text speaks of memory that was not there, on a GPU or a node."""
    return "OutOfMemory" in error or "out of memory" in error or "running low on memory" in error
