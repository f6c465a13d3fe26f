"""The worker groups of a search: each is a Ray Train run whose workers take one trial after another, and is started again when it is lost.

The driver of a group's run is an actor. It may lie on any node, so that many groups do not fill the head's memory, and is killed when the
search ends: what Ray Train leaves in its process (a controller, managers) ends with it.
"""

import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kp.cluster.connection import on_this_node
from kp.cluster.demand import WaitingLine
from kp.cluster.interfaces import use_interface_of_node
from kp.cluster.last_words import ProcessPlace, last_words, place_here
from kp.cluster.metrics import Metric, record
from kp.cluster.sizing import Cluster
from kp.errors import UserError, last_named, user_error_in
from kp.models.memory import use_expandable_segments
from kp.search.trial_queue import GroupEnd, QueueState, TrialQueue, WorkerDeath, node_lost
from kp.search.worker import WorkerGroupJob, train_trials
from kp.store.bucket_folder import WorkFolder
from kp.training.job import TrialJob

DRIVER_CPUS = 0.01  # the driver of a trial or worker group only waits; reserving more would leave none for workers
MOST_FRUITLESS = 3  # starts in a row without an epoch of a worker group that had its resources and ended all the same
STARTUP_FAILURES = 10  # times that a worker group's workers may fail to start, in all
# Between two looks of Ray Train at its workers, which take a report each time: the least that an epoch takes. Its own default is 2.
POLL_VARIABLE, POLL_SECONDS = "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.25"
CLOSING_SECONDS = 30.0
WATCH_SECONDS = 1.0
TOLD_SECONDS = 60.0  # between two lines on what the search is doing


@dataclass(frozen=True)
class WorkerGroups:
    """As many worker groups as trials run at once, each with `workers` Ray Train workers."""

    cluster: Cluster
    workers: int
    micro_batch: int | None


@dataclass(frozen=True)
class SearchFolders:
    """The folders of a search: that of each trial's checkpoints, by trial_id, and a `scratch` folder for Ray's own files, which each node
    may have for itself."""

    work: Mapping[str, WorkFolder]
    scratch: Path


@contextmanager
def running_worker_groups(
    jobs: Mapping[str, TrialJob], folders: SearchFolders, groups: WorkerGroups, note: Callable[[str], None]
) -> Iterator[Any]:
    """A queue, and worker groups that take trials from it until the end of the block; `note` gets a line a minute on what they do."""
    import ray

    # On the driver's node, which the search does not outlive anyway; many calls wait concurrently.
    options: dict[str, Any] = {"num_cpus": 0, "max_concurrency": 1000, "scheduling_strategy": on_this_node()}
    queue: Any = ray.remote(**options)(TrialQueue).remote(groups.cluster.study)
    references = {trial_id: ray.put(job) for trial_id, job in jobs.items()}
    count = min(groups.cluster.concurrent_trials, len(jobs))
    supervisor = _Supervisor(queue, references, folders, groups, note)
    for number in range(count):
        supervisor.start(f"worker-group-{number}")
    stop = threading.Event()
    watch = threading.Thread(target=supervisor.watch, args=(stop,), daemon=True)
    watch.start()
    try:
        yield queue
    finally:
        stop.set()
        watch.join()
        with suppress(ray.exceptions.RayActorError):  # it is dead already
            ray.get(queue.close.remote())
        supervisor.end()
        ray.kill(queue)


class _Supervisor:
    """Starts worker groups, and starts those again that end while there is something to train."""

    def __init__(self, queue: Any, jobs: dict[str, Any], folders: SearchFolders, groups: WorkerGroups, note: Callable[[str], None]) -> None:
        self._queue, self._jobs, self._folders, self._groups, self._note = queue, jobs, folders, groups, note
        self._actors: dict[str, Any] = {}
        self._running: dict[Any, str] = {}  # reference of a group's run -> its name
        self._starts: dict[str, int] = {}
        self._fruitless: dict[str, int] = {}  # starts in a row without an epoch
        # Why no group is left: the cause, what a user can mend of it, and the last lines of a driver that died.
        self._cause: tuple[str, UserError | None, str] = "all worker groups shut down", None, ""

    def start(self, group: str) -> None:
        """Start a group's driver and its Train run."""
        import ray

        self._starts[group] = self._starts.get(group, 0) + 1
        groups = self._groups
        if self._starts[group] > 1:
            record(Metric.RESTARTS, 1, study=groups.cluster.study, stage="search")
        settings = groups.micro_batch, groups.cluster.study
        job = WorkerGroupJob(self._job_name(group), self._queue, self._jobs, self._folders.work, *settings)
        options: dict[str, Any] = {"num_cpus": DRIVER_CPUS, "scheduling_strategy": "SPREAD"}
        actor: Any = ray.remote(**options)(_GroupDriver).remote()
        self._actors[group] = actor
        self._running[actor.run.remote(job, self._groups, self._folders.scratch / "train")] = group

    def _job_name(self, group: str) -> str:
        # New each time: Ray Train would try to resume a run of the same name, and trials are resumed by kp's own checkpoints.
        return f"{group}-start-{self._starts[group]}"

    def watch(self, stop: threading.Event) -> None:
        """Until no group is left, none takes a step any more, or told to stop; then tell the queue, or Tune would wait for ever."""
        import ray

        told, line = time.monotonic(), WaitingLine(self._note)
        while self._running and not stop.wait(WATCH_SECONDS):
            ended, _ = ray.wait(list(self._running), num_returns=1, timeout=0)
            for reference in ended:
                self._ended(reference)
            if time.monotonic() - told < TOLD_SECONDS:
                continue
            told = time.monotonic()
            try:
                state: QueueState = ray.get(self._queue.state.remote())
            except ray.exceptions.RayActorError:
                continue  # Tune's trials notice, too
            said = told_of(state, len(self._running), sum(self._starts.values()) - len(self._starts))
            # The cluster matters to trials that wait though a group has none.
            tell = line.say if state.waiting and len(state.training) < len(self._running) else self._note
            tell(said)
            if state.idle_seconds > self._groups.cluster.patience:
                refusal = UserError(stalled(state, self._groups, ray.cluster_resources()), field="resources.stalled_after")
                self._cause = str(refusal), refusal, ""
                break
        if not stop.is_set():
            with suppress(ray.exceptions.RayActorError):
                ray.get(self._queue.abandon.remote(*self._cause))

    def _ended(self, reference: Any) -> None:
        import ray

        group = self._running.pop(reference)
        error = None
        try:
            ray.get(reference)
        except ray.exceptions.RayError as raised:
            error = raised
        ray.kill(self._actors.pop(group))
        try:
            end: GroupEnd = ray.get(self._queue.group_ended.remote(self._job_name(group)))
        except ray.exceptions.RayActorError:
            return  # without a queue there is nothing to do for it
        if end.is_retired:
            self._cause = (
                f"worker groups were taken out of use after failing on two trials in a row; the last failure: {end.cause}",
                None,
                "",
            )
        elif error is not None:
            refusal = user_error_in(error)
            where = f" (driver on {end.driver})" if end.driver else ""
            stderr = last_words(end.driver) if end.driver and isinstance(error, ray.exceptions.RayActorError) else ""
            self._cause = f"no workers could be had: {refusal or last_named(str(error)) + where}", refusal, stderr
            self._fruitless[group] = 0 if end.epochs else self._fruitless.get(group, 0) + 1
            if refusal is None and not end.is_over and may_restart(str(error), self._fruitless[group], end, self._groups.cluster.patience):
                self.start(group)

    def end(self) -> None:
        """Let groups that are about to end do so, and end all."""
        import ray

        if self._running:
            ray.wait(list(self._running), num_returns=len(self._running), timeout=CLOSING_SECONDS)
        for actor in self._actors.values():
            ray.kill(actor)


def told_of(state: QueueState, groups: int, restarts: int = 0) -> str:
    """One line on what a search is doing; `restarts` are the starts of groups after the first of each."""
    steps = [f"{one.trial_id[:8]} at step {one.step} ({one.seconds:.0f} s ago)" for one in state.training]
    idle = groups - len(steps)
    parts = [f"{len(steps)} of {groups} worker groups train: {', '.join(steps)}" if steps else f"none of {groups} worker groups trains"]
    parts += [f"{state.waiting} trials wait"] if state.waiting else []
    parts += [f"{idle} groups have no worker yet, or start"] if idle and state.waiting else []
    parts += [f"{state.halved} trials read fewer rows in a pass, because memory ran out"] if state.halved else []
    parts += [f"{restarts} times a group was started again"] if restarts else []
    return "; ".join(parts)


def stalled(state: QueueState, groups: WorkerGroups, there: Mapping[str, float]) -> str:
    """What a search waits for in which nothing has been trained for too long; `there` is what the cluster has."""
    minutes = f"nothing was trained for {state.idle_seconds / 60:.0f} minutes"
    if state.training:
        held = ", ".join(one.trial_id[:8] for one in state.training)
        return f"{minutes}, though workers have trials ({held}): look at the logs of their nodes, or allow more time for a step"
    kind = "GPU" if groups.cluster.use_gpu else "CPU"
    count = groups.workers * groups.cluster.actor_gpus if groups.cluster.use_gpu else groups.workers
    needed = f"{count:g} {groups.cluster.gpu_name if groups.cluster.use_gpu else kind}{'s' if count > 1 else ''}"
    has = f"{there.get(kind, 0):g} {kind}s in all"
    return f"{minutes}: worker groups wait for {needed} each, and the cluster has {has}; add nodes and run it again"


def may_restart(error: str, fruitless: int, end: GroupEnd, patience: float) -> bool:
    """Whether a worker group that ended with this error is started again, after as many starts in a row without an epoch.

    One for which there is no node may wait as long as the study may, in seconds since any group trained an epoch.
    """
    if node_lost(error) or "WorkerGroupStartupTimeoutError" in error:
        return end.idle_seconds < patience
    return fruitless < MOST_FRUITLESS


class _GroupDriver:
    """An actor that drives one worker group's Train run."""

    def run(self, job: WorkerGroupJob, groups: WorkerGroups, storage: Path) -> None:
        """Return once the group has shut down."""
        import ray
        from ray.train import RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer
        from ray.train.v2.api.config import FailureConfig  # ray.train has the same class, with the stub of an older one

        os.environ.setdefault(POLL_VARIABLE, POLL_SECONDS)
        ray.get(job.queue.driver_started.remote(job.group, place_here()))
        cluster = groups.cluster
        resources = cluster.worker_resources()
        TorchTrainer(
            train_trials,
            train_loop_config={"group": job},
            torch_config=_process_group("nccl" if cluster.use_gpu else "gloo", cluster.patience),
            scaling_config=ScalingConfig(num_workers=groups.workers, use_gpu=cluster.use_gpu, resources_per_worker=resources),
            run_config=RunConfig(
                name=job.group,
                storage_path=str(storage),
                callbacks=[_messenger(job)],
                # The queue counts what is charged to a trial and to its group; the loss of a node is charged to nobody.
                failure_config=FailureConfig(max_failures=-1, controller_failure_limit=STARTUP_FAILURES),
            ),
        ).fit()


def _process_group(backend: str, patience: float) -> Any:
    """Ray Train's process group, over the interface of each worker's node.

    Workers of a group wait for each other as long as the study may, in seconds: one may load its model from slow storage.
    """
    from ray.train.torch import TorchConfig

    torch_backend: Any = TorchConfig().backend_cls

    class OnInterfaceOfNode(torch_backend):
        def on_start(self, worker_group: Any, backend_config: Any) -> None:
            worker_group.execute(use_interface_of_node)
            worker_group.execute(use_expandable_segments)  # here, because the process group is the first to use CUDA
            super().on_start(worker_group, backend_config)

    class ProcessGroup(TorchConfig):
        @property
        def backend_cls(self) -> Any:
            return OnInterfaceOfNode

    return ProcessGroup(backend=backend, timeout_s=max(TorchConfig.timeout_s, math.ceil(patience)))


def _messenger(job: WorkerGroupJob) -> Any:
    from ray.train import UserCallback

    class Messenger(UserCallback):
        """Reports workers that died to the queue, with Ray Train's error and what they last wrote."""

        def __init__(self, group: str, queue: Any) -> None:
            self.group, self.queue = group, queue

        def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
            import ray

            places = ray.get(self.queue.workers_of.remote(self.group))
            deaths = [_death(error, places.get(rank)) for rank, error in worker_exceptions.items()]
            ray.get(self.queue.workers_died.remote(self.group, deaths))

    return Messenger(job.group, job.queue)


def _death(error: Exception, place: ProcessPlace | None) -> WorkerDeath:
    text = f"{type(error).__name__}: {error}"
    if place is None:
        return WorkerDeath(text)
    return WorkerDeath(text, str(place), "" if node_lost(text) else last_words(place))
