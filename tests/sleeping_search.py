"""A search on Ray whose worker groups sleep: Tune, the queue's actor, the supervisor and its restarts as they are, and no model.

    python -m tests.sleeping_search --trials 200 --workers 16 --failures-an-hour 60

What is measured is what tests.simulated_search cannot know, because its queue is in the same process and it has no Tune: how long a worker
waits for the decision on an epoch, how long for its next trial, and the CPU time of the driver's process. Tune has a process for each trial
at once, and so has every group here, so that the number of workers is limited by the memory of this machine.
"""

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from kp.cluster.connection import connected
from kp.cluster.sizing import Cluster
from kp.config.resources import ResourcesConfig
from kp.search.asha import AshaSchedule, asha
from kp.search.trial_queue import Decision
from kp.search.tune import Listeners, TrialOutcome, run_trials
from kp.search.worker import WorkerGroupJob
from kp.search.worker_groups import SearchFolders, WorkerGroups
from kp.training import checkpoints
from kp.training.job import Progress
from kp.vocabulary import TrialStatus


@dataclass(frozen=True)
class SleepingTrial:
    """In place of a TrialJob: how long each of its epochs takes."""

    trial_id: str
    epochs: int
    seconds: float
    failures_an_hour: float


class Sleeper:
    """In place of the driver of a worker group's Train run: it does itself what the workers do, and sleeps in place of training."""

    def run(self, job: WorkerGroupJob, groups: WorkerGroups, storage: Path) -> None:
        """Return once the queue has no more."""
        import ray

        def ask(question: str, *arguments: Any) -> Any:
            return ray.get(getattr(job.queue, question).remote(*arguments))

        life, turn = f"{os.getpid()}", 0
        dice = random.Random(f"{job.group} {life}")
        self.waited = 0.0
        while True:
            asked = time.monotonic()
            assignment = ask("next_trial", job.group, life, turn)
            if assignment is None:
                return
            self.waited = time.monotonic() - asked
            turn += 1
            self._train(ray.get(job.jobs[assignment.trial_id]), job.work[assignment.trial_id], ask, dice)

    def _train(self, trial: SleepingTrial, folder: Path, ask: Any, dice: random.Random) -> None:
        newest = checkpoints.newest(folder)
        progress = Progress.load(newest) if newest else Progress()
        decided = 0.0
        for measured in list(progress.epochs):
            if not self._may_continue(trial.trial_id, measured, ask):
                return
        while len(progress.epochs) < trial.epochs:
            if trial.failures_an_hour and dice.expovariate(trial.failures_an_hour / 3600) < trial.seconds:
                time.sleep(dice.random() * trial.seconds)
                os._exit(1)
            time.sleep(trial.seconds)
            epoch = len(progress.epochs) + 1
            accuracy = dice.random() * (1 - 0.5**epoch)
            measured = {"epoch": epoch, "unknown_accuracy": accuracy, "decided": decided, "waited": self.waited}
            progress.epochs.append(measured)
            progress.status = TrialStatus.COMPLETED if epoch == trial.epochs else None
            checkpoints_life = f"{os.getpid()}"
            progress.save(checkpoints.begin(folder, epoch, checkpoints_life))
            checkpoints.commit(folder, epoch, checkpoints_life)
            began = time.monotonic()
            goes_on = self._may_continue(trial.trial_id, measured, ask)
            decided, self.waited = time.monotonic() - began, 0.0
            if not goes_on:
                return
        ask("report_end", trial.trial_id, TrialStatus.COMPLETED, "ran all its epochs")

    @staticmethod
    def _may_continue(trial_id: str, measured: dict[str, Any], ask: Any) -> bool:
        ask("report_epoch", trial_id, measured["epoch"], measured)
        return bool(ask("wait_for_decision", trial_id, measured["epoch"]) is Decision.CONTINUE)


class _Follower:
    def __init__(self) -> None:
        self.epochs: dict[tuple[str, int], dict[str, Any]] = {}
        self.reported = 0
        self.outcomes: dict[str, str] = {}

    def on_epoch(self, trial_id: str, measured: dict[str, Any]) -> None:
        self.reported += 1
        self.epochs[trial_id, int(measured["epoch"])] = measured

    def on_end(self, outcome: TrialOutcome) -> None:
        self.outcomes[outcome.job.trial_id] = outcome.status.value


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of an epoch, at the median")
    parser.add_argument("--failures-an-hour", type=float, default=0.0, help="of each worker; its process dies in mid-epoch")
    asked = parser.parse_args(arguments)
    dice = random.Random(0)
    lengths = sorted((asked.seconds * 2 ** dice.gauss(0, 1) for _ in range(asked.trials)), reverse=True)
    trials: list[Any] = [
        SleepingTrial(f"trial-{number:04d}", asked.epochs, seconds, asked.failures_an_hour) for number, seconds in enumerate(lengths)
    ]
    follower, cpus = _Follower(), os.cpu_count() or 1
    with tempfile.TemporaryDirectory(prefix="kp-sleep-") as folder:
        work = {trial.trial_id: Path(folder) / "work" / trial.trial_id for trial in trials}
        folders = SearchFolders(work, Path(folder) / "scratch")
        with connected(ResourcesConfig(), Path(folder) / "log") as there, mock.patch("kp.search.worker_groups._GroupDriver", Sleeper):
            sizes = {"generators": 1, "generator_threads": 1, "worker_threads": 1, "use_gpu": False}
            cluster = Cluster(there.nodes, concurrent_trials=asked.workers, **sizes)  # type: ignore[arg-type]
            began, cpu = time.monotonic(), time.process_time()
            listeners = Listeners(follower.on_epoch, follower.on_end, print)
            run_trials(trials, folders, WorkerGroups(cluster, 1, None), asha(AshaSchedule(asked.epochs, 3, asked.epochs), []), listeners)
            wall, cpu = time.monotonic() - began, time.process_time() - cpu
    slept = sum(trial.seconds * trial.epochs for trial in trials)
    decided = sorted(one["decided"] for one in follower.epochs.values() if one.get("decided"))
    waited = sorted(one["waited"] for one in follower.epochs.values() if one.get("waited"))
    print(f"{asdict(trials[0])} is the longest of {len(trials)}; ends: {sorted(set(follower.outcomes.values()))}, {len(follower.outcomes)}")
    print(f"{wall:.0f} s on {asked.workers} workers ({cpus} cores); {100 * slept / wall / asked.workers:.0f}% of the workers' time kept")
    print(f"decision on an epoch: {_spread(decided)}")
    print(f"next trial: {_spread(waited)}")
    print(f"driver: {cpu:.1f} s of CPU, {1000 * cpu / max(1, follower.reported):.1f} ms an epoch of {follower.reported}")
    return 0 if len(follower.outcomes) == len(trials) else 1


def _spread(seconds: list[float]) -> str:
    quick = statistics.quantiles(seconds, n=100)
    return f"median {1000 * quick[49]:.0f} ms, 95% within {1000 * quick[94]:.0f} ms, {len(seconds)} of them"


if __name__ == "__main__":
    sys.exit(main())
