"""The trials of a study: Ray Tune schedules them, worker groups of Ray Train with DeepSpeed train them.

Every trial is a separate step, committed by the driver as soon as Tune reports its end. A rerun therefore gives Tune only the trials
without a record, and each of these continues from its last committed epoch, in whichever worker group. Tune's own experiment state is not
needed and not kept: only the record says that a trial is done.

A Tune trial trains nothing itself. It submits a trial to the queue (kp.search.trial_queue) and reports its epochs to Tune's scheduler.
"""

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kp.cluster import Cluster
from kp.errors import UserError, user_error_in
from kp.search.trial_queue import MOST_ATTEMPTS, TrialQueue, WorkerReport
from kp.search.worker import WorkerGroupJob, train_trials
from kp.training import checkpoints
from kp.training.job import ADAPTER, Progress, TrialJob
from kp.vocabulary import TrialStatus

DRIVER_CPUS = 0.01  # the driver of a trial or worker group only waits; reserving more would leave none for workers
AHEAD = 2  # trials submitted beyond those in training, so that no worker group waits for Tune to start one
GROUP_RESTARTS = 3  # of the process that holds a worker group's Train run
STARTUP_FAILURES = 10  # times that a worker group's workers may fail to start, in all
CLOSING_SECONDS = 60.0


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


@dataclass(frozen=True)
class SearchFolders:
    """The folders of a search: that of each trial's checkpoints, by trial_id, and a `scratch` folder for Ray's own files."""

    work: Mapping[str, Path]
    scratch: Path


@dataclass(frozen=True)
class WorkerGroups:
    """As many worker groups as trials run at once, each with `workers` Ray Train workers."""

    cluster: Cluster
    workers: int
    micro_batch: int | None


@dataclass(frozen=True)
class Listeners:
    """Callbacks in the driver's process: for every committed epoch of a trial, and for every outcome."""

    on_epoch: Callable[[str, dict[str, Any]], None]
    on_end: Callable[[TrialOutcome], None]


def run_trials(jobs: Sequence[TrialJob], folders: SearchFolders, groups: WorkerGroups, scheduler: Any, listeners: Listeners) -> None:
    """Run every trial to an outcome; `scheduler` is one of Tune's. Every node must see all folders."""
    from ray import tune

    by_id = {job.trial_id: job for job in jobs}
    with _running_worker_groups(by_id, folders, groups) as queue:
        tuner = tune.Tuner(
            tune.with_resources(_trial_function(queue), {"CPU": DRIVER_CPUS}),
            param_space={"trial_id": tune.grid_search(list(by_id))},
            tune_config=tune.TuneConfig(
                max_concurrent_trials=groups.cluster.concurrent_trials + AHEAD, scheduler=scheduler, reuse_actors=True
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(folders.scratch),
                callbacks=[_listener(by_id, folders.work, queue, listeners)],
                # Failures of the driver; a trial that fails in its workers ends here like any other.
                failure_config=tune.FailureConfig(max_failures=MOST_ATTEMPTS),
                verbose=0,
            ),
        )
        tuner.fit()


@contextmanager
def _running_worker_groups(jobs: dict[str, TrialJob], folders: SearchFolders, groups: WorkerGroups) -> Iterator[Any]:
    """A queue, and worker groups that take trials from it until the end of the block."""
    import ray

    options: dict[str, Any] = {"num_cpus": 0, "max_concurrency": 1000}  # many calls wait concurrently
    queue: Any = ray.remote(**options)(TrialQueue).remote()
    references = {trial_id: ray.put(job) for trial_id, job in jobs.items()}
    count = min(groups.cluster.concurrent_trials, len(jobs))
    run_group: Any = _run_worker_group
    start: Any = ray.remote(num_cpus=DRIVER_CPUS, max_retries=GROUP_RESTARTS)(run_group)
    running = [
        start.remote(
            WorkerGroupJob(f"worker-group-{number}", queue, references, folders.work, groups.micro_batch),
            groups,
            folders.scratch / "train",
            len(jobs),
        )
        for number in range(count)
    ]
    stop = threading.Event()
    watch = threading.Thread(target=_watch, args=(running, queue, stop), daemon=True)
    watch.start()
    try:
        yield queue
    finally:
        stop.set()
        watch.join()
        ray.get(queue.close.remote())
        _, lingering = ray.wait(running, num_returns=len(running), timeout=CLOSING_SECONDS)
        for group in lingering:  # never one that has ended: Ray 2.60 crashes if a returning task is cancelled
            ray.cancel(group)
        ray.kill(queue)


def _run_worker_group(job: WorkerGroupJob, groups: WorkerGroups, storage: Path, trials: int) -> None:
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.config import FailureConfig  # ray.train has the same class, with the stub of an older one

    cluster = groups.cluster
    TorchTrainer(
        train_trials,
        train_loop_config={"group": job},
        torch_config=TorchConfig(backend="nccl" if cluster.use_gpu else "gloo"),
        scaling_config=ScalingConfig(num_workers=groups.workers, use_gpu=cluster.use_gpu, resources_per_worker=cluster.worker_resources()),
        run_config=RunConfig(
            name=job.group,
            storage_path=str(storage),
            callbacks=[_messenger(job)],
            # The queue counts how often a trial's workers died; this limit only ends what would never end.
            failure_config=FailureConfig(max_failures=trials * MOST_ATTEMPTS, controller_failure_limit=STARTUP_FAILURES),
        ),
    ).fit()


def _messenger(job: WorkerGroupJob) -> Any:
    from ray.train import UserCallback

    class Messenger(UserCallback):
        """Reports Ray Train's errors of workers that died to the queue."""

        def __init__(self, group: str, queue: Any) -> None:
            self.group, self.queue = group, queue

        def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
            import ray

            ray.get(
                self.queue.workers_died.remote(self.group, [f"{type(error).__name__}: {error}" for error in worker_exceptions.values()])
            )

    return Messenger(job.group, job.queue)


def _watch(running: list[Any], queue: Any, stop: threading.Event) -> None:
    """Tell the queue when no worker group is left; otherwise Tune would wait for epochs forever."""
    import ray

    left = list(running)
    cause, refusal = "all worker groups shut down", None
    while left and not stop.wait(1.0):
        ended, left = ray.wait(left, num_returns=1, timeout=0)
        for group in ended:
            try:
                ray.get(group)
            except ray.exceptions.RayError as error:
                refusal = user_error_in(error)
                cause = f"no workers could be had: {refusal or _named_last(str(error))}"
    if not left and not stop.is_set():
        ray.get(queue.abandon.remote(cause, refusal))


def _trial_function(queue: Any) -> Callable[[dict[str, Any]], None]:
    def trial(config: dict[str, Any]) -> None:
        import ray
        from ray import tune

        trial_id, known = config["trial_id"], 0
        ray.get(queue.submit.remote(trial_id))
        while epochs := ray.get(queue.wait_for_epochs.remote(trial_id, known)):
            for measured in epochs:
                tune.report({name: value for name, value in measured.items() if value is not None})
                ray.get(queue.let_continue.remote(trial_id, int(measured["epoch"])))  # report returned, so Tune lets the trial continue
                known += 1

    return trial


def _listener(jobs: dict[str, TrialJob], work: Mapping[str, Path], queue: Any, listeners: Listeners) -> Any:
    from ray.tune import Callback

    class Listener(Callback):
        # All that it needs is on the instance: a local class is pickled by value, with everything it closes over.
        jobs: dict[str, TrialJob]
        work: Mapping[str, Path]
        queue: Any
        listeners: Listeners

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
            self._end(trial, f"its driver died {MOST_ATTEMPTS + 1} times: {_named_last(text)}")

        def _end(self, trial: Any, driver_error: str | None) -> None:
            import ray

            trial_id = trial.config["trial_id"]
            report: WorkerReport = ray.get(self.queue.stop.remote(trial_id))
            if report.status is None and driver_error is not None:
                report = WorkerReport(TrialStatus.FAILED, driver_error, report.seconds)
            self.listeners.on_end(judge(self.jobs[trial_id], checkpoints.newest(self.work[trial_id]), report))

    listener = Listener()
    listener.jobs, listener.work, listener.queue, listener.listeners = jobs, work, queue, listeners
    return listener


def judge(job: TrialJob, folder: Path | None, report: WorkerReport) -> TrialOutcome:
    """The outcome of a trial, from its last checkpoint and the report of its workers and Tune."""
    progress = Progress.load(folder) if folder else None
    if report.status in (TrialStatus.FAILED, TrialStatus.OUT_OF_MEMORY):
        return TrialOutcome(job, report.status, report.cause or "no cause given", progress, None, report.seconds, report.refusal)
    if progress is None:
        return TrialOutcome(job, TrialStatus.FAILED, "the trial ended without a checkpoint", None, None, report.seconds)
    if progress.status is None:
        last = progress.epochs[-1]
        why = f"stopped by the scheduler after epoch {last['epoch']:.0f} at unknown_accuracy {last['unknown_accuracy']:.2f}"
        return TrialOutcome(job, TrialStatus.STOPPED, why, progress, folder, report.seconds)
    return TrialOutcome(job, progress.status, progress.cause or "", progress, folder, report.seconds)


def _named_last(text: str) -> str:
    """The last error named in an error text, which may quote tracebacks of other processes."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Interrupt)\b", line)]
    return (named or lines or ["no error text"])[-1]


def adapter_of(outcome: TrialOutcome) -> Path | None:
    """The adapter's folder in the trial's last checkpoint; None for a trial that diverged or failed."""
    usable = outcome.status in (TrialStatus.COMPLETED, TrialStatus.STOPPED)
    return outcome.folder / ADAPTER if usable and outcome.folder else None
