"""The trials of a study: Ray Tune schedules them, Ray Train with DeepSpeed runs each.

Every trial is a step of its own, committed by the driver the moment Tune says it has ended. A rerun therefore hands Tune only the
trials without a record, and each of these resumes inside Ray Train, whose run has the trial's stable name, from its last committed
epoch. Tune's own experiment state is not needed and not kept: the record is the one place that says a trial is done.
"""

import re
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kp.cluster import Cluster
from kp.training import ADAPTER, PROGRESS, Progress, TrialJob, train_trial
from kp.vocabulary import Scheduler, TrialStatus

WORKER_FAILURES = 2  # times a trial's workers may die and resume before the trial counts as failed
TRIAL_DRIVER_CPUS = 0.01  # a trial's driver only waits; reserving more would leave none for its workers


@dataclass(frozen=True)
class TrialOutcome:
    """How one trial ended; `folder` holds the last committed epoch's adapter, absent where there is none."""

    job: TrialJob
    status: TrialStatus
    cause: str | None
    progress: Progress | None
    folder: Path | None
    seconds: float


@dataclass(frozen=True)
class Schedule:
    """When a trial is stopped before its own end."""

    scheduler: Scheduler
    grace_epochs: int
    max_epochs: int
    workers: int  # Ray Train workers of each trial


def run_trials(
    jobs: Sequence[TrialJob],
    runs: Path,
    cluster: Cluster,
    schedule: Schedule,
    on_epoch: Callable[[str, int], None],
    on_end: Callable[[TrialOutcome], None],
) -> None:
    """Run all trials, each in `runs/<trial_id>`.

    `on_epoch` hears of every committed epoch and `on_end` of every outcome, both in this process, as they happen.
    """
    from ray import tune

    by_id = {job.trial_id: job for job in jobs}
    experiment = runs.parent / "tune" / str(time.time_ns())
    tuner = tune.Tuner(
        tune.with_resources(_trial_function(runs, cluster, schedule.workers), {"CPU": TRIAL_DRIVER_CPUS}),
        param_space=_space(by_id),
        tune_config=tune.TuneConfig(max_concurrent_trials=cluster.concurrent_trials, scheduler=_scheduler(schedule), reuse_actors=False),
        run_config=tune.RunConfig(
            name=experiment.name,
            storage_path=str(experiment.parent),
            callbacks=[_listener(by_id, on_epoch, on_end)],
            failure_config=tune.FailureConfig(max_failures=0),
            verbose=0,
        ),
    )
    tuner.fit()
    shutil.rmtree(experiment, ignore_errors=True)


def _space(by_id: dict[str, TrialJob]) -> dict[str, Any]:
    import ray
    from ray import tune

    # Tune prints and stores a trial's parameters; the job itself travels through the object store.
    references = {trial_id: ray.put(job) for trial_id, job in by_id.items()}
    return {"trial_id": tune.grid_search(list(by_id)), "jobs": references}


def _trial_function(runs: Path, cluster: Cluster, workers: int) -> Callable[[dict[str, Any]], None]:
    resources = cluster.worker_resources()
    backend = "nccl" if cluster.use_gpu else "gloo"
    use_gpu = cluster.use_gpu

    def trial(config: dict[str, Any]) -> None:
        import ray
        from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer
        from ray.tune.integration.ray_train import TuneReportCallback

        job = ray.get(config["jobs"][config["trial_id"]])
        to_tune: Any = TuneReportCallback()
        trainer = TorchTrainer(
            train_trial,
            train_loop_config={"job": job},
            torch_config=TorchConfig(backend=backend),
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=use_gpu, resources_per_worker=resources),
            run_config=RunConfig(
                name=job.trial_id,
                storage_path=str(runs),
                callbacks=[to_tune],
                failure_config=FailureConfig(max_failures=WORKER_FAILURES),
                # Two, since a trial that Tune stops may have committed one epoch more than Tune has heard of.
                checkpoint_config=CheckpointConfig(num_to_keep=2),
            ),
        )
        trainer.fit()

    return trial


def _scheduler(schedule: Schedule) -> Any:
    from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

    if schedule.scheduler is Scheduler.NONE:
        return FIFOScheduler()
    return ASHAScheduler(
        time_attr="epoch",  # Tune's own training_iteration starts again at 1 after a restart
        metric="unknown_accuracy",
        mode="max",
        grace_period=min(schedule.grace_epochs, schedule.max_epochs),
        max_t=schedule.max_epochs + 1,  # a trial that runs its course ends by itself and is no early stop
    )


def _listener(jobs: dict[str, TrialJob], on_epoch: Callable[[str, int], None], on_end: Callable[[TrialOutcome], None]) -> Any:
    from ray.tune import Callback

    class Listener(Callback):
        # All it needs is on the instance: a local class is pickled by value, with whatever it closes over.
        jobs: dict[str, TrialJob]
        on_epoch: Callable[[str, int], None]
        on_end: Callable[[TrialOutcome], None]
        began: dict[str, float]

        def __getstate__(self) -> dict[str, Any]:
            return {}  # Tune pickles its callbacks for a restore that kp does not use; these hold the driver's open files

        def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.began.setdefault(trial.config["trial_id"], time.monotonic())

        def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any) -> None:
            if "epoch" in result:
                self.on_epoch(trial.config["trial_id"], result["epoch"])

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.on_end(self._outcome(trial, cause=None))

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.on_end(self._outcome(trial, cause=_cause(trial)))

        def _outcome(self, trial: Any, cause: str | None) -> TrialOutcome:
            trial_id = trial.config["trial_id"]
            seconds = time.monotonic() - self.began[trial_id]
            reported = (trial.last_result or {}).get("checkpoint_path")
            folder = Path(reported) if reported else None
            progress = Progress.load(folder) if folder and (folder / PROGRESS).exists() else None
            return _judge(self.jobs[trial_id], folder, progress, cause, seconds)

    listener = Listener()
    listener.jobs, listener.on_epoch, listener.on_end, listener.began = jobs, on_epoch, on_end, {}
    return listener


def _judge(job: TrialJob, folder: Path | None, progress: Progress | None, cause: str | None, seconds: float) -> TrialOutcome:
    if cause is not None:
        status = TrialStatus.OUT_OF_MEMORY if "OutOfMemory" in cause or "out of memory" in cause else TrialStatus.FAILED
        return TrialOutcome(job, status, cause, progress, None, seconds)
    if progress is None or folder is None:
        return TrialOutcome(job, TrialStatus.FAILED, "the trial ended without a checkpoint", None, None, seconds)
    if progress.status is None:
        last = progress.epochs[-1]
        why = f"stopped by the scheduler after epoch {last['epoch']:.0f} at unknown_accuracy {last['unknown_accuracy']:.2f}"
        return TrialOutcome(job, TrialStatus.STOPPED, why, progress, folder, seconds)
    return TrialOutcome(job, progress.status, progress.cause, progress, folder, seconds)


def _cause(trial: Any) -> str:
    """The last error named in the trial's error text, which quotes the worker's traceback."""
    # Not trial.get_error(): that reads the storage folder, to which Tune copies the text only later.
    text = Path(trial.error_file).read_text(encoding="utf-8") if trial.error_file else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Interrupt)\b", line)]
    return (named or lines or ["no error text"])[-1]


def adapter_of(outcome: TrialOutcome) -> Path | None:
    """The adapter's folder in the trial's last checkpoint; a trial that diverged or failed has none worth keeping."""
    usable = outcome.status in (TrialStatus.COMPLETED, TrialStatus.STOPPED)
    return outcome.folder / ADAPTER if usable and outcome.folder else None


def forget_run(trial_id: str, runs: Path) -> None:
    """Drop a committed trial's checkpoints; its adapter is in its step, optimiser states serve nobody any more."""
    shutil.rmtree(runs / trial_id, ignore_errors=True)
