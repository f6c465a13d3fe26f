"""What a cluster has, divided into what a study asks for.

A study that asks for more than there is, or will be, would wait forever inside Ray; `plan_cluster` names the missing resource instead.
Nodes need not be equal: GPUs are counted node by node, where there are cores for who uses them, and of the kind that is asked for.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kp.config.resources import ResourcesConfig
from kp.errors import UserError
from kp.store.hardware import MOST_CPU_GENERATORS

ACCELERATOR_PREFIX = "accelerator_type:"
"""Before the kind of a node's GPUs, in the name of a resource that Ray gives to the node."""

_OF_ACCELERATOR = 0.001  # of that resource: what Ray takes for `accelerator_type=`, so that any number fits on a node
_GPU_STEPS = 10_000  # Ray counts parts of a GPU in steps of a ten-thousandth, and rounds
_CPUS_A_GPU = 0.5  # that the processes on one GPU reserve together


@dataclass(frozen=True)
class Node:
    """What one node has; `accelerators` are the kinds of its GPUs, as Ray names them."""

    cpus: int
    gpus: int
    accelerators: tuple[str, ...] = ()

    @classmethod
    def of_resources(cls, resources: Mapping[str, float]) -> "Node":
        """The node with these resources, as Ray lists them."""
        kinds = sorted(name.removeprefix(ACCELERATOR_PREFIX) for name in resources if name.startswith(ACCELERATOR_PREFIX))
        return cls(int(resources.get("CPU", 0)), int(resources.get("GPU", 0)), tuple(kinds))

    def has(self, accelerator_type: str | None) -> bool:
        """Whether its GPUs, if it has any, are of this kind; all are, of none."""
        return accelerator_type is None or accelerator_type in self.accelerators

    def places(self, per_gpu: int) -> int:
        """Processes that its GPUs and cores have room for, with so many on each GPU."""
        return min(self.gpus * per_gpu, int(self.cpus * per_gpu / _CPUS_A_GPU))


@dataclass(frozen=True)
class Cluster:
    """The resources that the study may use; threads are those of one actor or worker, counted for the smallest node that has some.

    GPUs of a kind that the study does not use are not among them.
    """

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
    per_gpu: int = 1
    """Processes that share a GPU."""
    accelerator_type: str | None = None
    """The kind of GPU that is used; None for any."""

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
        return _CPUS_A_GPU / self.per_gpu if self.use_gpu else 0.5

    @property
    def actor_gpus(self) -> float:
        """GPUs that one generating or evaluating actor reserves: rounded down, or Ray would round up what then does not fit."""
        return _GPU_STEPS // self.per_gpu / _GPU_STEPS if self.use_gpu else 0.0

    @property
    def gpu_name(self) -> str:
        """What a GPU is called in messages."""
        return f"{self.accelerator_type} GPU" if self.accelerator_type else "GPU"

    def gpu_kind(self) -> dict[str, float]:
        """The resource by which Ray places what uses a GPU on nodes that have the kind; empty if any will do."""
        return kind_resource(self.accelerator_type) if self.use_gpu else {}

    def actor_options(self) -> dict[str, Any]:
        """Ray's options for what one generating or evaluating actor reserves."""
        kind = self.gpu_kind()
        return {"num_cpus": self.actor_cpus, "num_gpus": self.actor_gpus, **({"resources": kind} if kind else {})}

    def worker_resources(self) -> dict[str, float]:
        """The resources that one Ray Train worker reserves.

        Not all of a core: the drivers of trials and worker groups reserve a little each, and where every core gets a worker they would take
        what one of the workers needs, which would then wait for ever.
        """
        return {"CPU": self.actor_cpus, "GPU": self.actor_gpus, **self.gpu_kind()} if self.use_gpu else {"CPU": 0.9}

    def __str__(self) -> str:
        shared = f" with {self.per_gpu} processes each" if self.per_gpu > 1 else ""
        devices = f"{self.gpus} {self.gpu_name}s{shared}" if self.use_gpu else f"{self.cpus} cores"
        nodes = f"{len(self.nodes)} node{'s' if len(self.nodes) > 1 else ''}"
        return f"{nodes}, {devices}; generators: {self.generators}, trials at once: {self.concurrent_trials}"


def kind_resource(accelerator_type: str | None) -> dict[str, float]:
    """The resource that stands for a kind of GPU; empty for none."""
    return {} if accelerator_type is None else {f"{ACCELERATOR_PREFIX}{accelerator_type}": _OF_ACCELERATOR}


def of_kind(nodes: Sequence[Node], accelerator_type: str | None) -> list[Node]:
    """The nodes without GPUs of any other kind."""
    return [node if node.has(accelerator_type) else replace(node, gpus=0) for node in nodes]


def plan_cluster(resources: ResourcesConfig, nodes: Sequence[Node]) -> Cluster:
    """Divide the available resources; raises UserError naming the field that requests more.

    With `resources.max_gpus`, trials are divided among the GPUs that there may be: those that wait are what an autoscaler acts on.
    """
    everything, nodes, per_gpu = nodes, of_kind(nodes, resources.accelerator_type), resources.per_gpu
    gpus = sum(node.gpus for node in nodes)
    use_gpu = _uses_gpu(resources, everything, gpus)
    places = sum(node.places(per_gpu) for node in nodes)
    slots = max(places, (resources.max_gpus or 0) * per_gpu) if use_gpu else sum(node.cpus for node in nodes)
    shared = f" for {per_gpu} processes each" if per_gpu > 1 else ""
    unit = f"GPUs{shared}" if use_gpu else "cores"
    if use_gpu and not slots:
        raise UserError("no node with a GPU has a core for who uses it: start Ray there with CPUs", field="resources.gpu")
    if resources.workers_per_trial > slots:
        raise UserError(
            f"{resources.workers_per_trial} are asked for and the cluster has {slots} {unit}", field="resources.workers_per_trial"
        )
    if use_gpu and (resources.generators or 0) > slots:
        has = f"{max(gpus, resources.max_gpus or 0)} {unit}"
        raise UserError(f"{resources.generators} are asked for and the cluster has {has}", field="resources.generators")
    generators = resources.generators or (max(1, places) if use_gpu else sum(min(node.cpus, MOST_CPU_GENERATORS) for node in nodes))
    fitting = slots // resources.workers_per_trial
    concurrent = resources.concurrent_trials or fitting
    if concurrent > fitting:
        raise UserError(f"{concurrent} are asked for and the cluster has room for {fitting}", field="resources.concurrent_trials")
    return Cluster(
        tuple(nodes),
        generators,
        resources.threads or _threads(nodes, generators, use_gpu, per_gpu),
        concurrent,
        resources.threads or _threads(nodes, concurrent * resources.workers_per_trial, use_gpu, per_gpu),
        use_gpu,
        # Without GPUs the number does not grow, because the threads of each were counted for the cores that there are now.
        (resources.generators or (resources.max_gpus and resources.max_gpus * per_gpu)) if use_gpu else generators,
        60 * resources.stalled_after,
        per_gpu=per_gpu,
        accelerator_type=resources.accelerator_type,
    )


def _uses_gpu(resources: ResourcesConfig, nodes: Sequence[Node], gpus: int) -> bool:
    """Whether the study uses GPUs, of which there are so many that it may use; raises UserError if it must and there are none."""
    if resources.accelerator_type and not gpus and not resources.max_gpus:
        raise UserError(_no_such_kind(resources.accelerator_type, nodes), field="resources.accelerator_type")
    there_may_be = gpus > 0 or resources.max_gpus is not None
    use_gpu = there_may_be if resources.gpu is None else resources.gpu
    if use_gpu and not there_may_be:
        raise UserError(
            "a GPU is asked for and the cluster has none; where GPUs come when they are needed, set resources.max_gpus",
            field="resources.gpu",
        )
    return use_gpu


def _no_such_kind(accelerator_type: str, nodes: Sequence[Node]) -> str:
    """That no node has this kind of GPU, and what nodes have."""
    found: Counter[str] = Counter()
    for node in nodes:
        if node.gpus:
            found[" or ".join(node.accelerators) or "a kind that Ray does not know"] += node.gpus
    has = ", ".join(f"{count} of {kind}" for kind, count in sorted(found.items())) or "no GPUs"
    return (
        f"no node has a GPU of kind '{accelerator_type}'; the cluster has {has}. Where nodes with it come when they are needed, set "
        "resources.max_gpus"
    )


def _threads(nodes: Sequence[Node], actors: int, use_gpu: bool, per_gpu: int) -> int:
    """CPU threads of one of so many actors, such that no node with any of them has more threads than cores.

    One, if no node is there yet that could have some.
    """
    if use_gpu:
        return max(1, min((node.cpus // node.places(per_gpu) for node in nodes if node.places(per_gpu)), default=1))
    on_each = math.ceil(actors / len(nodes))
    return max(1, min(node.cpus for node in nodes) // on_each)
