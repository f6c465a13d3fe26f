"""The trials of a study: Ray Tune schedules them, worker groups of Ray Train with DeepSpeed train them.

Every trial is a separate step, committed by the driver as soon as Tune reports its end. A rerun therefore gives Tune only the trials
without a record, and each of these continues from its last committed epoch, in whichever worker group. Tune's own experiment state is not
needed and not kept: only the record says that a trial is done.

A Tune trial trains nothing itself. It submits a trial to the queue (kp.search.trial_queue) and reports its epochs to Tune's scheduler.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kp.errors import UserError, last_named
from kp.search.trial_queue import MOST_ATTEMPTS, WorkerReport
from kp.search.worker_groups import DRIVER_CPUS, SearchFolders, WorkerGroups, running_worker_groups
from kp.store.bucket_folder import WorkFolder
from kp.training.bucket_checkpoints import checkpoints_in
from kp.training.job import ADAPTER, PROGRESS, Progress, TrialJob
from kp.vocabulary import TrialStatus

AHEAD = 2  # trials submitted beyond those in training, so that no worker group waits for Tune to start one


@dataclass(frozen=True)
class TrialOutcome:
    """How one trial ended; `folder` is its last committed checkpoint, None if there is none to keep."""

    job: TrialJob
    status: TrialStatus
    cause: str
    progress: Progress | None
    folder: Path | None
    seconds: float
    refusal: UserError | None = None  # what a user can mend, if that was the cause
    stderr: str = ""  # the last lines of a worker that died of it


@dataclass(frozen=True)
class Listeners:
    """Callbacks in the driver's process: for every committed epoch of a trial, every outcome, and a line a minute on what is being done."""

    on_epoch: Callable[[str, dict[str, Any]], None]
    on_end: Callable[[TrialOutcome], None]
    on_note: Callable[[str], None]


class QueueLostError(Exception):
    """The process of the search's queue died; what it knew is in records and checkpoints, and the search can begin again."""


def run_trials(jobs: Sequence[TrialJob], folders: SearchFolders, groups: WorkerGroups, scheduler: Any, listeners: Listeners) -> None:
    """Run every trial to an outcome; `scheduler` is one of Tune's. Every node must see the folders of trials.

    Raises QueueLostError if some have no outcome because the queue's process died.
    """
    from ray import tune

    by_id = {job.trial_id: job for job in jobs}
    with running_worker_groups(by_id, folders, groups, listeners.on_note) as queue:
        listener = _listener(by_id, folders.work, queue, listeners)
        tuner = tune.Tuner(
            tune.with_resources(_trial_function(queue), {"CPU": DRIVER_CPUS}),
            param_space={"trial_id": tune.grid_search(list(by_id))},
            tune_config=tune.TuneConfig(
                max_concurrent_trials=groups.cluster.concurrent_trials + AHEAD, scheduler=scheduler, reuse_actors=True
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(folders.scratch),
                callbacks=[listener],
                # Failures of the driver; a trial that fails in its workers ends here like any other.
                failure_config=tune.FailureConfig(max_failures=MOST_ATTEMPTS),
                verbose=0,
            ),
        )
        tuner.fit()
    if listener.lost:
        raise QueueLostError(f"{len(listener.lost)} trials have no outcome")


def _trial_function(queue: Any) -> Callable[[dict[str, Any]], None]:
    def trial(config: dict[str, Any]) -> None:
        import ray
        from ray import tune

        def ask(question: str, *arguments: Any) -> Any:
            return ray.get(getattr(queue, question).remote(*arguments))

        trial_id, known = config["trial_id"], 0
        with suppress(ray.exceptions.RayActorError):  # the queue died: this trial has no outcome, as the listener notices
            ask("submit", trial_id)
            while epochs := ask("wait_for_epochs", trial_id, known):
                for measured in epochs:
                    tune.report({name: value for name, value in measured.items() if value is not None})
                    ask("let_continue", trial_id, int(measured["epoch"]))  # report returned, so Tune lets the trial continue
                    known += 1

    return trial


def _listener(jobs: dict[str, TrialJob], work: Mapping[str, WorkFolder], queue: Any, listeners: Listeners) -> Any:
    from ray.tune import Callback

    class Listener(Callback):
        # All that it needs is on the instance: a local class is pickled by value, with everything it closes over.
        jobs: dict[str, TrialJob]
        work: Mapping[str, WorkFolder]
        queue: Any
        listeners: Listeners
        lost: set[str]  # trials that ended after the queue had died

        def __getstate__(self) -> dict[str, Any]:
            return {}  # Tune pickles its callbacks for a restore that kp does not use; these have open files of the driver

        def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any) -> None:
            if "epoch" in result:
                self.listeners.on_epoch(trial.config["trial_id"], result)

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self._end(trial, None)

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            # Not trial.get_error(), which reads the storage folder, where Tune copies the text only later.
            text = Path(trial.error_file).read_text(encoding="utf-8") if trial.error_file else ""
            self._end(trial, f"its driver died {MOST_ATTEMPTS + 1} times: {last_named(text)}")

        def _end(self, trial: Any, driver_error: str | None) -> None:
            import ray

            trial_id = trial.config["trial_id"]
            try:
                report: WorkerReport = ray.get(self.queue.stop.remote(trial_id))
            except ray.exceptions.RayActorError:
                self.lost.add(trial_id)
                return
            if report.status is None and driver_error is not None:
                report = WorkerReport(TrialStatus.FAILED, driver_error, report.seconds)
            self.listeners.on_end(judge(self.jobs[trial_id], checkpoints_in(self.work[trial_id]).newest(PROGRESS, ADAPTER), report))

    listener = Listener()
    listener.jobs, listener.work, listener.queue, listener.listeners, listener.lost = jobs, work, queue, listeners, set()
    return listener


def judge(job: TrialJob, folder: Path | None, report: WorkerReport) -> TrialOutcome:
    """The outcome of a trial, from its last checkpoint and the report of its workers and Tune."""
    progress = Progress.load(folder) if folder else None
    if report.status in (TrialStatus.FAILED, TrialStatus.OUT_OF_MEMORY):
        cause = report.cause or "no cause given"
        return TrialOutcome(job, report.status, cause, progress, None, report.seconds, report.refusal, report.stderr)
    if progress is None:
        return TrialOutcome(job, TrialStatus.FAILED, "the trial ended without a checkpoint", None, None, report.seconds)
    if progress.status is None:
        last = progress.epochs[-1]
        why = f"stopped by the scheduler after epoch {last['epoch']:.0f} at unknown_accuracy {last['unknown_accuracy']:.2f}"
        return TrialOutcome(job, TrialStatus.STOPPED, why, progress, folder, report.seconds)
    return TrialOutcome(job, progress.status, progress.cause or "", progress, folder, report.seconds)


def adapter_of(outcome: TrialOutcome) -> Path | None:
    """The adapter's folder in the trial's last checkpoint; None for a trial that diverged or failed."""
    usable = outcome.status in (TrialStatus.COMPLETED, TrialStatus.STOPPED)
    return outcome.folder / ADAPTER if usable and outcome.folder else None
