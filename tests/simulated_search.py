"""A search without models: the real queue and the real scheduler, workers that sleep by a law, and failures at a stated rate.

    python -m tests.simulated_search --trials 1000 --workers 64 --failures-a-day 2

Time is virtual: hours of a cluster pass in seconds, and what this process computes meanwhile is what the driver would. Workers do what
kp.search.worker does, one a group, and groups that are lost start again as kp.search.worker_groups lets them. Tune's trials are coroutines
that ask the scheduler, because Tune itself has a process for each. Prints what failures cost, how long decisions take, and the CPU time of
queue and scheduler.
"""

import argparse
import asyncio
import math
import random
import selectors
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any
from unittest import mock

from ray.tune.schedulers import TrialScheduler

from kp.search.asha import METRIC, TIME, AshaSchedule, asha
from kp.search.trial_queue import Decision, TrialQueue, WorkerDeath
from kp.search.tune import AHEAD
from kp.search.worker_groups import may_restart
from kp.vocabulary import TrialStatus

DAY = 86400.0
WORKER_DIED = "ActorDiedError: the worker died"
NODE_DIED = "ActorDiedError: The actor died because its node has died."


@dataclass(frozen=True)
class Law:
    """How long everything takes, in seconds, and how often something breaks."""

    trials: int = 1000
    workers: int = 64
    epochs: int = 10
    epoch_seconds: float = 60.0  # the median over trials, which differ by a factor of `spread` each way (one standard deviation)
    spread: float = 2.0
    checkpoint_seconds: float = 2.0
    start_seconds: float = 60.0  # of a worker group's processes and base model
    failures_a_day: float = 2.0  # of each worker: its process dies
    node_losses_a_day: float = 0.5  # of each node, with all its workers
    node_workers: int = 8
    new_node_seconds: float = 300.0
    slow_share: float = 0.05  # of the workers are stragglers
    slow_factor: float = 1.3
    stops: bool = True  # whether the scheduler stops trials (ASHA)
    seed: int = 0


@dataclass
class Figures:
    """What came of it; seconds are of worker time unless they say otherwise."""

    trained: float = 0.0  # in epochs that were committed, checkpoints included
    lost: float = 0.0  # in epochs that were not
    starting: float = 0.0  # until workers were up
    waiting: float = 0.0  # for a trial, while some waited, or for a decision
    failures: int = 0  # of single workers
    node_losses: int = 0
    retired: int = 0  # worker groups taken out of use
    statuses: dict[str, int] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)  # real seconds from the report of each epoch to the decision on it
    wall: float = 0.0  # virtual seconds
    cpu: float = 0.0  # CPU seconds of everything


class _VirtualSelector(selectors.SelectSelector):
    """Waits for nothing: time jumps to when the next thing is due."""

    loop: "_VirtualLoop"

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("everybody waits for somebody else")
        self.loop.now += max(0.0, timeout)
        return []


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        selector = _VirtualSelector()
        self.now = 0.0
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now


@contextmanager
def virtual_time() -> Iterator[_VirtualLoop]:
    """An event loop whose clock, and the queue's, is virtual."""
    loop = _VirtualLoop()
    clock = mock.Mock(monotonic=loop.time)
    with mock.patch("kp.search.trial_queue.time", clock):
        try:
            yield loop
        finally:
            loop.close()


@dataclass(frozen=True)
class _SchedulerTrial:
    trial_id: str
    config: dict[str, Any]


class _Search:
    """One search by a law."""

    def __init__(self, law: Law, loop: asyncio.AbstractEventLoop) -> None:
        self.law, self.loop, self.figures = law, loop, Figures()
        dice = random.Random(law.seed)
        self.dice = dice
        self.queue = TrialQueue()
        self.scheduler = asha(AshaSchedule(2, 3, law.epochs), []) if law.stops else None
        lengths = sorted((law.epoch_seconds * law.spread ** dice.gauss(0, 1) for _ in range(law.trials)), reverse=True)
        self.seconds = {f"trial-{number:04d}": seconds for number, seconds in enumerate(lengths)}  # the longest first, as kp trains them
        self.skill = {trial_id: dice.random() for trial_id in self.seconds}
        self.committed: dict[str, int] = dict.fromkeys(self.seconds, 0)  # epochs whose checkpoint is written
        slow = round(law.workers * law.slow_share)
        self.pace = [law.slow_factor] * slow + [1.0] * (law.workers - slow)
        self.losses = [asyncio.Event() for _ in range(-(-law.workers // law.node_workers))]  # of each node, the next one

    async def run(self) -> None:
        """From the start to the end of everything."""
        nodes = [asyncio.ensure_future(self._node(number)) for number in range(len(self.losses))]
        groups = [asyncio.ensure_future(self._group(number)) for number in range(self.law.workers)]
        supervisor = asyncio.ensure_future(self._supervise(groups))
        await self._tune()
        self.figures.wall = self.loop.time()
        for task in (supervisor, *nodes):
            task.cancel()
        await asyncio.gather(*groups)

    async def _supervise(self, groups: list[asyncio.Future[None]]) -> None:
        await asyncio.wait(groups)
        await self.queue.abandon("all worker groups shut down")

    async def _node(self, number: int) -> None:
        while self.law.node_losses_a_day:
            await asyncio.sleep(self.dice.expovariate(self.law.node_losses_a_day / DAY))
            self.figures.node_losses += 1
            self.losses[number].set()
            self.losses[number] = asyncio.Event()

    # --- Tune's side

    async def _tune(self) -> None:
        """What Tune does with all trials, at most as many at once as kp lets it."""
        room = asyncio.Semaphore(self.law.workers + AHEAD)

        async def one(trial_id: str) -> None:
            async with room:
                await self._tune_trial(trial_id)

        await asyncio.gather(*map(one, self.seconds))
        await self.queue.close()

    async def _tune_trial(self, trial_id: str) -> None:
        queue, scheduler, known = self.queue, self.scheduler, 0
        none: Any = None
        trial: Any = _SchedulerTrial(trial_id, {"trial_id": trial_id})
        if scheduler:
            scheduler.on_trial_add(none, trial)
        await queue.submit(trial_id)
        last: dict[str, Any] = {TIME: 0, METRIC: 0.0}
        stopped = False
        while not stopped and (epochs := await queue.wait_for_epochs(trial_id, known)):
            for last in epochs:
                known += 1
                if scheduler and scheduler.on_trial_result(none, trial, last) == TrialScheduler.STOP:
                    stopped = True
                    break
                await queue.let_continue(trial_id, known)
        report = await queue.stop(trial_id)
        if scheduler:
            scheduler.on_trial_complete(none, trial, last)
        status = report.status.value if report.status else "stopped"
        self.figures.statuses[status] = self.figures.statuses.get(status, 0) + 1

    # --- the workers' side

    async def _group(self, number: int) -> None:
        """One worker group, started again whenever it is lost."""
        name, fruitless, start = f"group-{number}", 0, 0
        while True:
            start += 1
            life = f"{name}-start-{start}"
            error = await self._live(life, number)
            end = await self.queue.group_ended(life)
            if end.is_retired:
                self.figures.retired += 1
                return
            fruitless = 0 if end.epochs else fruitless + 1
            if not error or end.is_over or not may_restart(error, fruitless, end, DAY):
                return
            self.figures.starting += self.law.new_node_seconds
            await asyncio.sleep(self.law.new_node_seconds)

    async def _live(self, name: str, number: int) -> str:
        """From the start of the processes to their end; returns the error that ended them, or "" if there is nothing left to do.

        Ray Train starts workers that died again by itself, in the same run.
        """
        turn, life = 0, 0
        error = await self._start(number)
        while not error:
            asked = self.loop.time()
            assignment = await self.queue.next_trial(name, str(life), turn)
            if assignment is None:
                return ""
            self.figures.waiting += self.loop.time() - asked
            turn += 1
            if died := await self._train(assignment.trial_id, number):
                await self.queue.workers_died(name, [WorkerDeath(died)])
                if died == NODE_DIED:
                    return died
                self.figures.failures += 1
                turn, life = 0, life + 1
                error = await self._start(number)
        return error

    async def _start(self, number: int) -> str:
        """Start a group's processes; returns the error if its node is lost meanwhile."""
        seconds = await self._spend(self.law.start_seconds, number)
        self.figures.starting += seconds
        return NODE_DIED if seconds < self.law.start_seconds else ""

    async def _spend(self, seconds: float, number: int) -> float:
        """Let time pass until the worker's node is lost; returns how much did."""
        began = self.loop.time()
        try:
            await asyncio.wait_for(self.losses[number // self.law.node_workers].wait(), seconds)
        except TimeoutError:
            return seconds
        return self.loop.time() - began

    async def _train(self, trial_id: str, number: int) -> str:
        """Train until the trial ends, the scheduler stops it or something breaks; returns the error, or ""."""
        law = self.law
        for epoch in range(1, self.committed[trial_id] + 1):  # reported again, by whichever group resumes it
            if not await self._may_continue(trial_id, epoch):
                return ""
        while self.committed[trial_id] < law.epochs:
            needed = self.seconds[trial_id] * self.pace[number] + law.checkpoint_seconds
            # Failures have no memory, so each epoch may draw its own.
            breaks = self.dice.expovariate(law.failures_a_day / DAY) if law.failures_a_day else math.inf
            spent = await self._spend(min(needed, breaks), number)
            if spent < needed:
                self.figures.lost += spent
                return WORKER_DIED if spent == breaks else NODE_DIED
            self.figures.trained += needed
            self.committed[trial_id] += 1
            if not await self._may_continue(trial_id, self.committed[trial_id]):
                return ""
        await self.queue.report_end(trial_id, TrialStatus.COMPLETED, "ran all its epochs")
        return ""

    async def _may_continue(self, trial_id: str, epoch: int) -> bool:
        measured = {TIME: epoch, METRIC: self.skill[trial_id] * (1 - 0.5**epoch)}
        began = time.perf_counter()
        asked = self.loop.time()
        await self.queue.report_epoch(trial_id, epoch, measured)
        decision = await self.queue.wait_for_decision(trial_id, epoch)
        self.figures.waiting += self.loop.time() - asked
        self.figures.latencies.append(time.perf_counter() - began)
        return decision is Decision.CONTINUE


def simulate(law: Law) -> Figures:
    """Run a search by this law; the same law gives the same figures, but for those of the real clock."""
    with virtual_time() as loop:
        search, began = _Search(law, loop), time.process_time()
        loop.run_until_complete(search.run())
        search.figures.cpu = time.process_time() - began
    return search.figures


def told(law: Law, figures: Figures) -> list[str]:
    """The figures in words."""
    held = law.workers * figures.wall
    busy = {"training that was kept": figures.trained, "training that was lost": figures.lost}
    busy |= {"starting, and waiting for nodes": figures.starting, "waiting for trials and decisions": figures.waiting}
    busy["without a trial at the end"] = held - sum(busy.values())
    shares = [f"{name} {100 * seconds / held:.2f}%" for name, seconds in busy.items()]
    ended = ", ".join(f"{count} {status}" for status, count in sorted(figures.statuses.items()))
    quick = statistics.quantiles(figures.latencies, n=100)
    return [
        f"{law.trials} trials of at most {law.epochs} epochs on {law.workers} workers: {ended}",
        f"{figures.failures} workers died, {figures.node_losses} nodes of {law.node_workers} workers were lost, "
        f"{figures.retired} groups were retired",
        f"{figures.wall / 3600:.1f} hours of the cluster; of the workers' time: {', '.join(shares)}",
        f"{len(figures.latencies)} decisions: median {1000 * quick[49]:.2f} ms, 99% within {1000 * quick[98]:.2f} ms",
        f"driver: {figures.cpu:.1f} s of CPU, {1000 * figures.cpu / len(figures.latencies):.2f} ms a decision, "
        f"{100 * figures.cpu / figures.wall:.2f}% of one core",
    ]


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    plain = {"trials", "workers", "epochs", "node_workers", "seed"}
    for name, default in asdict(Law()).items():
        if name != "stops":
            parser.add_argument(f"--{name.replace('_', '-')}", type=int if name in plain else float, default=default)
    parser.add_argument("--no-stops", dest="stops", action="store_false", help="no trial is stopped early")
    law = Law(**vars(parser.parse_args(arguments)))
    for line in told(law, simulate(law)):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
