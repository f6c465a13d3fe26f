"""The Ray cluster of a study: join or start it, compare it with what the study requests, and keep it quiet.

A study that requests more than the cluster has would wait forever inside Ray; `Cluster.check` fails with the missing resource instead.
"""

import logging
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


@dataclass(frozen=True)
class Cluster:
    """The resources that the study may use; threads are those of one actor or worker."""

    cpus: int
    gpus: int
    nodes: int
    generators: int
    generator_threads: int
    concurrent_trials: int
    worker_threads: int
    use_gpu: bool
    most_generators: int | None = None
    """Generators if nodes join while they work; None for one per GPU that there will ever be. `generators` are those of now."""

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
        nodes = f"{self.nodes} node{'s' if self.nodes > 1 else ''}"
        return f"{nodes}, {devices}; generators: {self.generators}, trials at once: {self.concurrent_trials}"


@contextmanager
def connected(resources: ResourcesConfig, log_file: Path) -> Iterator[Cluster]:
    """Join the cluster named by RAY_ADDRESS (a submitted job finds its own), or start Ray on this machine; leave it afterwards.

    Raises UserError if no cluster answers at that address.
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
        yield _inspect(resources, on_this_machine=address is None)
    finally:
        ray.shutdown()


def _inspect(resources: ResourcesConfig, *, on_this_machine: bool) -> Cluster:
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]
    gpus = int(sum(node["Resources"].get("GPU", 0) for node in alive))
    cpus = int(sum(node["Resources"].get("CPU", 0) for node in alive))
    if on_this_machine:
        cpus = os.cpu_count() or 1  # the logical CPUs above are not cores
    return plan_cluster(resources, cpus=cpus, gpus=gpus, nodes=len(alive))


def plan_cluster(resources: ResourcesConfig, *, cpus: int, gpus: int, nodes: int) -> Cluster:
    """Divide the available resources; raises UserError naming the field that requests more."""
    use_gpu = gpus > 0 if resources.gpu is None else resources.gpu
    if use_gpu and not gpus:
        raise UserError("a GPU is asked for and the cluster has none", field="resources.gpu")
    slots = gpus if use_gpu else cpus
    if resources.workers_per_trial > slots:
        unit = "GPUs" if use_gpu else "cores"
        raise UserError(
            f"{resources.workers_per_trial} are asked for and the cluster has {slots} {unit}", field="resources.workers_per_trial"
        )
    if use_gpu and (resources.generators or 0) > gpus:
        raise UserError(f"{resources.generators} are asked for and the cluster has {gpus} GPUs", field="resources.generators")
    generators = resources.generators or (gpus if use_gpu else min(cpus, MOST_CPU_GENERATORS))
    fitting = slots // resources.workers_per_trial
    concurrent = resources.concurrent_trials or fitting
    if concurrent > fitting:
        raise UserError(f"{concurrent} are asked for and the cluster has room for {fitting}", field="resources.concurrent_trials")
    generator_threads = resources.threads or max(1, cpus // generators)
    worker_threads = resources.threads or max(1, cpus // (concurrent * resources.workers_per_trial))
    # Without GPUs the number does not grow, because the threads of each were counted for the cores that there are now.
    most = resources.generators if use_gpu else generators
    return Cluster(cpus, gpus, nodes, generators, generator_threads, concurrent, worker_threads, use_gpu, most)


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
        actor: Any = ray.remote(num_cpus=0)(_Count)
        self._actor = actor.remote()

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
        """The sum of all parts so far."""
        import ray

        count: int = ray.get(self._actor.get.remote())
        return count

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
