"""The Ray cluster of a study: join or start it, and keep it quiet."""

import importlib
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from kp.cluster.address import cluster_address
from kp.cluster.demand import WaitingLine
from kp.cluster.sizing import Cluster, Node, kind_resource, of_kind, plan_cluster
from kp.config.resources import ResourcesConfig
from kp.errors import UserError
from kp.store import prefetched

# Ray's own small tasks (file listing, checkpoint filters, trial drivers) need logical CPUs in addition to the computing actors; with only
# the two of a small machine, Ray Data waits forever without a message.
LEAST_LOGICAL_CPUS = 4
NOISY_LOGGERS = ("ray", "ray.data", "ray.tune", "ray.train", "ray.serve", "deepspeed", "lm_eval", "transformers", "datasets", "httpx")
POLL_SECONDS = 1.0
TOLD_SECONDS = 30.0  # between two lines on what is waited for


@contextmanager
def connected(resources: ResourcesConfig, log_file: Path, note: Callable[[str], None]) -> Iterator[Cluster]:
    """Join the cluster named by RAY_ADDRESS (a submitted job finds its own), or start Ray on this machine; leave it afterwards.

    Raises UserError if no cluster answers at that address, or if it does not get what the study needs to begin.
    `note` gets lines on what it waits for. Warnings and library logs of this process go to `log_file`; those of Ray's processes stay in
    Ray's session folder.
    """
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    # Tune would take an interrupt as the wish to end its run alone, and kp would continue without its trials.
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
    import ray
    import ray.data
    import ray.train
    import ray.tune

    _import_before_threads()
    _quieten(log_file)  # after the imports, because they set their own handlers
    variables = prefetched.environment()
    runtime = {"env_vars": variables} if variables else None  # workers on other nodes resolve models by themselves
    if address := cluster_address():
        ray.init(address=address, runtime_env=runtime, log_to_driver=False, logging_level=logging.ERROR, ignore_reinit_error=True)
    else:
        # One authentication mode for every process of this run; otherwise Ray would make a token with which a later `ray start` fails. A
        # cluster that is joined has its own.
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
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
            _wait_for_gpus(resources, note)
        yield replace(plan_cluster(resources, _nodes(on_this_machine=address is None)), is_joined=address is not None)
    finally:
        ray.shutdown()


def _import_before_threads() -> None:
    """Import W&B, if it is installed, as Ray Tune would in the middle of a search.

    Pydantic then parses the docstrings of its classes, which in Python 3.11 fails if another thread parses at the same time ("AST
    constructor recursion depth mismatch").
    """
    with suppress(ImportError):
        importlib.import_module("ray.air.integrations.wandb")


def on_this_node() -> Any:
    """Ray's scheduling strategy for an actor that must not be lost with any other node than the caller's.

    An actor that reserves nothing is otherwise placed on a random node.
    """
    import ray

    return on_node(ray.get_runtime_context().get_node_id())


def on_node(node_id: str) -> Any:
    """Ray's scheduling strategy for what must run on this node and on no other."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node_id, soft=False)


def _nodes(*, on_this_machine: bool) -> list[Node]:
    import ray

    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    found = [Node.of_resources(resources) for resources in alive]
    # The logical CPUs of a cluster that kp has started are not cores.
    return [replace(node, cpus=os.cpu_count() or 1) for node in found] if on_this_machine else found


def _gpus_there(accelerator_type: str | None) -> int:
    """GPUs of this kind, or of any, that the cluster has now."""
    return sum(node.gpus for node in of_kind(_nodes(on_this_machine=False), accelerator_type))


def _wait_for_gpus(resources: ResourcesConfig, note: Callable[[str], None]) -> None:
    """Ask the cluster's autoscaler for the GPUs with which the study begins, and wait until they are there."""
    from ray.autoscaler.sdk import request_resources

    if not resources.min_gpus:
        return
    line, told = WaitingLine(note), -TOLD_SECONDS
    began = time.monotonic()
    deadline = began + 60 * resources.wait_for
    kind = resources.accelerator_type
    request_resources(bundles=[{"GPU": 1, **kind_resource(kind)}] * resources.min_gpus)
    try:
        while (there := _gpus_there(kind)) < resources.min_gpus:
            if time.monotonic() > deadline:
                waited = f"after {resources.wait_for:g} minutes (resources.wait_for) " if resources.wait_for else ""
                of_it = f" of kind '{kind}' (resources.accelerator_type)" if kind else ""
                has = f"{waited}the cluster has {there}{of_it}"
                raise UserError(f"{resources.min_gpus} are asked for and {has}", field="resources.min_gpus")
            if (waited_for := time.monotonic() - began) - told >= TOLD_SECONDS:
                told = waited_for
                line.say(f"waiting for {resources.min_gpus} GPUs (resources.min_gpus) since {waited_for:.0f} s")
            time.sleep(POLL_SECONDS)
    finally:
        request_resources(bundles=[])  # nodes in use stay by themselves


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
