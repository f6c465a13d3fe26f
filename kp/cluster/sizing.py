"""What a cluster has, divided into what a study asks for.

A study that asks for more than there is, or will be, would wait forever inside Ray; `plan_cluster` names the missing resource instead.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kp.config.resources import ResourcesConfig
from kp.errors import UserError
from kp.store.hardware import MOST_CPU_GENERATORS


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
    patience: float = 1800.0
    """Seconds without a step of training, or an answer, after which nobody waits any longer."""
    is_joined: bool = False
    """Whether it was there before the study; otherwise Ray was started on this machine for it."""
    study: str = ""
    """The study that uses it, by whose name its metrics are told from those of others."""

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
        """The resources that one Ray Train worker reserves.

        Not all of a core: the drivers of trials and worker groups reserve a little each, and where every core gets a worker they would take
        what one of the workers needs, which would then wait for ever.
        """
        return {"CPU": 0.5, "GPU": 1} if self.use_gpu else {"CPU": 0.9}

    def __str__(self) -> str:
        devices = f"{self.gpus} GPUs" if self.use_gpu else f"{self.cpus} cores"
        nodes = f"{len(self.nodes)} node{'s' if len(self.nodes) > 1 else ''}"
        return f"{nodes}, {devices}; generators: {self.generators}, trials at once: {self.concurrent_trials}"


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
        60 * resources.stalled_after,
    )


def _threads(nodes: Sequence[Node], actors: int, use_gpu: bool) -> int:
    """CPU threads of one of so many actors, such that no node with any of them has more threads than cores.

    One, if no node is there yet that could have some.
    """
    if use_gpu:
        return max(1, min((node.cpus // node.gpus for node in nodes if node.gpus), default=1))
    on_each = math.ceil(actors / len(nodes))
    return max(1, min(node.cpus for node in nodes) // on_each)
