"""The Ray cluster of a study: join or start it, compare it with what the study requests, and keep it quiet.

A study that requests more than the cluster has would wait forever inside Ray; `Cluster.check` fails with the missing resource instead.
"""

import logging
import math
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kp.config.study import ResourcesConfig
from kp.errors import UserError
from kp.progress import Bar
from kp.ray_address import cluster_address
from kp.store import prefetched
from kp.store.hardware import MOST_CPU_GENERATORS

# Ray's own small tasks (file listing, checkpoint filters, trial drivers) need logical CPUs in addition to the computing actors; with only
# the two of a small machine, Ray Data waits forever without a message.
LEAST_LOGICAL_CPUS = 4
NOISY_LOGGERS = ("ray", "ray.data", "ray.tune", "ray.train", "ray.serve", "deepspeed", "lm_eval", "transformers", "datasets", "httpx")
POLL_SECONDS = 1.0
LEAST_PATIENCE = 900.0  # seconds for which a search without any worker waits for lost nodes to come back


@dataclass(frozen=True)
class Node:
    """What one node has."""

    cpus: int
    gpus: int


@dataclass(frozen=True)
class Cluster:
    """The resources that the study may use; threads are those of one actor or worker, counted for the smallest node that has some."""

    nodes: tuple[Node, ...]  # those of now
    generators: int
    generator_threads: int
    concurrent_trials: int
    worker_threads: int
    use_gpu: bool
    most_generators: int | None = None
    """Generators if nodes join while they work; None for one per GPU that there will ever be. `generators` are those of now."""
    patience: float = LEAST_PATIENCE
    """Seconds without an epoch for which a search waits for nodes."""

    @property
    def cpus(self) -> int:
        """CPUs of all nodes."""
        return sum(node.cpus for node in self.nodes)

    @property
    def gpus(self) -> int:
        """GPUs of all nodes."""
        return sum(node.gpus for node in self.nodes)

    def task_cpus(self, tasks: int) -> int:
        """CPUs that each of so many equal tasks can have: its share of all, and no more than one node has, or it would wait for ever."""
        return max(1, min(self.cpus // tasks, max(node.cpus for node in self.nodes)))

    @property
    def actor_cpus(self) -> float:
        """Logical CPUs that one generating or evaluating actor reserves: few, so that there is room for Ray's own tasks."""
        return 0.5

    @property
    def actor_gpus(self) -> float:
        """GPUs that one generating or evaluating actor reserves."""
        return 1.0 if self.use_gpu else 0.0

    def worker_resources(self) -> dict[str, float]:
        """The resources that one Ray Train worker reserves."""
        return {"CPU": 0.5, "GPU": 1} if self.use_gpu else {"CPU": 1}

    def __str__(self) -> str:
        devices = f"{self.gpus} GPUs" if self.use_gpu else f"{self.cpus} cores"
        nodes = f"{len(self.nodes)} node{'s' if len(self.nodes) > 1 else ''}"
        return f"{nodes}, {devices}; generators: {self.generators}, trials at once: {self.concurrent_trials}"


@contextmanager
def connected(resources: ResourcesConfig, log_file: Path) -> Iterator[Cluster]:
    """Join the cluster named by RAY_ADDRESS (a submitted job finds its own), or start Ray on this machine; leave it afterwards.

    Raises UserError if no cluster answers at that address, or if it does not get what the study needs to begin.
    Warnings and library logs of this process go to `log_file`; those of Ray's processes stay in Ray's session folder.
    """
    # One authentication mode for every process of this run; otherwise Ray would make a token with which a later `ray start` fails.
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    # Tune would take an interrupt as the wish to end its run alone, and kp would continue without its trials.
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
    import ray
    import ray.data
    import ray.train
    import ray.tune

    _quieten(log_file)  # after the imports, because they set their own handlers
    variables = prefetched.environment()
    runtime = {"env_vars": variables} if variables else None  # workers on other nodes resolve models by themselves
    if address := cluster_address():
        ray.init(address=address, runtime_env=runtime, log_to_driver=False, logging_level=logging.ERROR, ignore_reinit_error=True)
    else:
        # Disable a process per trial that watches for nodes about to be reclaimed; this machine is not.
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
        ray.init(
            address="local",
            num_cpus=max(LEAST_LOGICAL_CPUS, os.cpu_count() or 1),
            include_dashboard=True,  # a Train run stopped by Tune needs the State API, which runs there
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env=runtime,
        )
    try:
        if address:
            _wait_for_gpus(resources)
        yield plan_cluster(resources, _nodes(on_this_machine=address is None))
    finally:
        ray.shutdown()


def on_this_node() -> Any:
    """Ray's scheduling strategy for an actor that must not be lost with any other node than the caller's.

    An actor that reserves nothing is otherwise placed on a random node.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def _nodes(*, on_this_machine: bool) -> list[Node]:
    import ray

    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    found = [Node(int(has.get("CPU", 0)), int(has.get("GPU", 0))) for has in alive]
    # The logical CPUs of a cluster that kp has started are not cores.
    return [Node(os.cpu_count() or 1, node.gpus) for node in found] if on_this_machine else found


def _wait_for_gpus(resources: ResourcesConfig) -> None:
    """Ask the cluster's autoscaler for the GPUs with which the study begins, and wait until they are there."""
    import ray
    from ray.autoscaler.sdk import request_resources

    if not resources.min_gpus:
        return
    deadline = time.monotonic() + 60 * resources.wait_for
    request_resources(bundles=[{"GPU": 1}] * resources.min_gpus)
    try:
        while (there := int(ray.cluster_resources().get("GPU", 0))) < resources.min_gpus:
            if time.monotonic() > deadline:
                waited = f"after {resources.wait_for:g} minutes (resources.wait_for) " if resources.wait_for else ""
                raise UserError(f"{resources.min_gpus} are asked for and {waited}the cluster has {there}", field="resources.min_gpus")
            time.sleep(POLL_SECONDS)
    finally:
        request_resources(bundles=[])  # nodes in use stay by themselves


def plan_cluster(resources: ResourcesConfig, nodes: Sequence[Node]) -> Cluster:
    """Divide the available resources; raises UserError naming the field that requests more.

    With `resources.max_gpus`, trials are divided among the GPUs that there may be: those that wait are what an autoscaler acts on.
    """
    cpus, gpus = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
    most_gpus = max(gpus, resources.max_gpus or 0)
    use_gpu = most_gpus > 0 if resources.gpu is None else resources.gpu
    if use_gpu and not most_gpus:
        raise UserError(
            "a GPU is asked for and the cluster has none; where GPUs come when they are needed, set resources.max_gpus",
            field="resources.gpu",
        )
    slots = most_gpus if use_gpu else cpus
    unit = "GPUs" if use_gpu else "cores"
    if resources.workers_per_trial > slots:
        raise UserError(
            f"{resources.workers_per_trial} are asked for and the cluster has {slots} {unit}", field="resources.workers_per_trial"
        )
    if use_gpu and (resources.generators or 0) > slots:
        raise UserError(f"{resources.generators} are asked for and the cluster has {slots} GPUs", field="resources.generators")
    generators = resources.generators or (max(1, gpus) if use_gpu else sum(min(node.cpus, MOST_CPU_GENERATORS) for node in nodes))
    fitting = slots // resources.workers_per_trial
    concurrent = resources.concurrent_trials or fitting
    if concurrent > fitting:
        raise UserError(f"{concurrent} are asked for and the cluster has room for {fitting}", field="resources.concurrent_trials")
    return Cluster(
        tuple(nodes),
        generators,
        resources.threads or _threads(nodes, generators, use_gpu),
        concurrent,
        resources.threads or _threads(nodes, concurrent * resources.workers_per_trial, use_gpu),
        use_gpu,
        # Without GPUs the number does not grow, because the threads of each were counted for the cores that there are now.
        (resources.generators or resources.max_gpus) if use_gpu else generators,
        max(LEAST_PATIENCE, 60 * resources.wait_for),
    )


def _threads(nodes: Sequence[Node], actors: int, use_gpu: bool) -> int:
    """CPU threads of one of so many actors, such that no node with any of them has more threads than cores.

    One, if no node is there yet that could have some.
    """
    if use_gpu:
        return max(1, min((node.cpus // node.gpus for node in nodes if node.gpus), default=1))
    on_each = math.ceil(actors / len(nodes))
    return max(1, min(node.cpus for node in nodes) // on_each)


def _quieten(log_file: Path) -> None:
    handler = logging.FileHandler(log_file, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    logging.raiseExceptions = False  # a log that a full disk does not take adds nothing to the error that the user sees
    logging.captureWarnings(True)
    warnings.simplefilter("default")
    for name in (*NOISY_LOGGERS, "py.warnings"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False


class _Count:
    def __init__(self) -> None:
        self.parts: dict[str, int] = {}

    def set(self, part: str, amount: int) -> None:
        self.parts[part] = amount

    def get(self) -> int:
        return sum(self.parts.values())


class Tally:
    """A counter in the cluster to which actors add and which the driver's bar follows; the cluster must have been joined."""

    def __init__(self) -> None:
        import ray

        assert ray.is_initialized(), "Ray would start a cluster by itself for the counter"
        options: dict[str, Any] = {"num_cpus": 0, "max_restarts": -1, "scheduling_strategy": on_this_node()}
        self._actor: Any = ray.remote(**options)(_Count).remote()
        self._known = 0

    @contextmanager
    def counting(self, part: str) -> Iterator[Callable[[int], None]]:
        """Yields a function to call with each amount of work done; the sum is passed on once a second and at the end of the block.

        Work is counted by the name of its part: a part that is restarted because its actor died does not count twice.
        """
        done, reported = 0, time.monotonic()

        def count(amount: int) -> None:
            nonlocal done, reported
            done += amount
            if time.monotonic() - reported >= POLL_SECONDS:
                reported = time.monotonic()
                self._actor.set.remote(part, done)

        yield count
        self._actor.set.remote(part, done)

    def get(self) -> int:
        """The sum of all parts so far; what it was, while nobody can tell: a counter must not end what it counts."""
        import ray

        with suppress(ray.exceptions.RayError):
            self._known = max(self._known, ray.get(self._actor.get.remote()))
        return self._known

    @contextmanager
    def shown_on(self, bar: Bar, already: int = 0) -> Iterator[None]:
        """Update `bar` about once a second with the count, on top of what was done `already` by an earlier run."""
        stop = threading.Event()

        def follow() -> None:
            while not stop.wait(POLL_SECONDS):
                bar.update(already + self.get())

        bar.resume(already)
        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            bar.update(already + self.get())
