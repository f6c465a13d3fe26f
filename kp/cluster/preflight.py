"""What a study needs of every node of a cluster, looked at in seconds before hours of work depend on it.

A node is asked by a task that runs on it. What must hold: the results folder is the same everywhere, the packages that make numbers have
one version, and there is room on the disk. Clocks that differ are told, as log lines do not compare then; nothing of kp depends on them.
"""

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from kp.cluster.connection import on_node
from kp.cluster.sizing import Node
from kp.errors import UserError
from kp.store.bucket_folder import WorkFolder
from kp.store.code_version import code_version, own_version
from kp.store.files import ROOT_FIELD
from kp.store.shared_folder import meeting_place, met, unmet

PACKAGES = ("ray", "torch", "transformers", "peft", "deepspeed", "lm_eval", "tokenizers", "safetensors", "pyarrow", "polars")
LEAST_FREE = 2 << 30  # bytes of room for checkpoints, chunks and tables
PROBE_SECONDS = 60.0  # for a worker process to start on every node and to import Ray
MOST_SKEW = 5.0  # seconds
CLUSTER_FIELD = "RAY_ADDRESS"
MODEL_FIELD = "model.name"
ModelCheck = Callable[[], str | None]
"""Called on a node: what it lacks for the study's model, as the end of a sentence."""


def _no_model() -> None:
    """Of a study whose model is not known yet."""


@dataclass(frozen=True)
class Probe:
    """What one node says of itself; times are seconds since the epoch, sizes bytes."""

    node: str
    packages: Mapping[str, str]  # by name; "kp" is the commit, or the version where there is none
    folder_fault: str | None
    free: int | None  # in the results folder; a bucket has no such number
    free_here: int  # in the node's own folder for temporary files
    clock: float
    model_fault: str | None = None


@dataclass(frozen=True)
class Finding:
    """What is wrong, and whether a study can run all the same."""

    message: str
    field: str
    is_fatal: bool


def probe_here(place: WorkFolder, node: str, model_check: ModelCheck = _no_model) -> Probe:
    """Look at this node; `place` is the driver's meeting place in the results."""
    fault = met(place, node)
    free = shutil.disk_usage(place).free if isinstance(place, Path) and not fault else None
    return Probe(node, versions(), fault, free, shutil.disk_usage(tempfile.gettempdir()).free, time.time(), model_check())


def versions() -> dict[str, str]:
    """The installed versions of what makes numbers; "none" for what is not installed."""
    found = {name: _version(name) for name in PACKAGES}
    code = code_version()
    commit = code["commit"] and f"{code['commit'][:12]}{' with changes' if code['dirty'] else ''}"
    return {"kp": commit or own_version(), **found}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "none"


def root_of(place: WorkFolder) -> str:
    """What a user calls the results whose meeting places are there."""
    return str(place) if isinstance(place, Path) else place.bucket.url


def probe_nodes(
    root: WorkFolder, model_check: ModelCheck = _no_model, accelerator_type: str | None = None
) -> tuple[list[Probe], list[Finding]]:
    """Ask every living node of the cluster that was joined; findings are of nodes that did not answer or whose files do not appear here.

    The model is asked for where GPUs are of this kind, the only ones on which it will be.
    """
    import ray

    with meeting_place(root) as place:
        alive = [node for node in ray.nodes() if node["Alive"]]
        nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in alive}
        checks = {node["NodeID"]: check_on(node["Resources"], model_check, accelerator_type) for node in alive}
        names = {node: f"{address}-{node[-8:]}" for node, address in nodes.items()}  # an autoscaler may give ids that begin alike
        ask: Any = ray.remote(num_cpus=0, max_retries=0)(probe_here)
        asked = {ask.options(scheduling_strategy=on_node(node)).remote(place, name, checks[node]): name for node, name in names.items()}
        answered, silent = ray.wait(list(asked), num_returns=len(asked), timeout=PROBE_SECONDS)
        late = f"runs no task within {PROBE_SECONDS:.0f} s"
        probes, findings = [], [Finding(f"node {asked[one]} {late}", CLUSTER_FIELD, True) for one in silent]
        for one in answered:
            try:
                probes.append(ray.get(one))
            except ray.exceptions.RayError as error:
                findings.append(Finding(f"node {asked[one]} cannot run kp: {str(error).strip().splitlines()[-1]}", CLUSTER_FIELD, True))
        hidden = unmet(place, [probe.node for probe in probes if not probe.folder_fault])
    findings += [Finding(f"what node {name} writes into {root_of(root)} does not appear here", ROOT_FIELD, True) for name in sorted(hidden)]
    return probes, findings


def check_on(resources: Mapping[str, float], model_check: ModelCheck, accelerator_type: str | None) -> ModelCheck:
    """The check for a node with these resources."""
    return model_check if Node.of_resources(resources).has(accelerator_type) else _no_model


def compared(here: Probe, probes: Sequence[Probe], root: str, began: float) -> list[Finding]:
    """What is wrong with nodes, as compared with where the study was started; they were asked after `began` and before its own probe."""
    findings = [Finding(f"{root} {probe.folder_fault} (node {probe.node})", ROOT_FIELD, True) for probe in probes if probe.folder_fault]
    found = [(name, version) for probe in probes for name, version in probe.packages.items() if version != here.packages[name]]
    for (name, version), count in sorted(Counter(found).items()):
        nodes = f"{count} of {len(probes)} nodes have {name} {version}, and here it is {here.packages[name]}"
        findings.append(Finding(f"{nodes}: install the same on every node, as an image does", CLUSTER_FIELD, True))
    findings += [Finding(f"it {probe.model_fault} (node {probe.node})", MODEL_FIELD, True) for probe in probes if probe.model_fault]
    for probe in (here, *probes):
        if probe.free is not None and not probe.folder_fault and probe.free < LEAST_FREE:
            findings.append(Finding(f"{root} has {_gib(probe.free)} left; make room", ROOT_FIELD, True))
            break
    for probe in probes:
        if probe.free_here < LEAST_FREE:
            findings.append(Finding(f"node {probe.node} has {_gib(probe.free_here)} left for temporary files", "TMPDIR", False))
        skew = max(probe.clock - here.clock, 0.0) or min(probe.clock - began, 0.0)
        if abs(skew) > MOST_SKEW:
            findings.append(Finding(f"the clock of node {probe.node} differs by {skew:+.0f} s; its log lines do too", CLUSTER_FIELD, False))
    return findings


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


def preflight(
    root: WorkFolder, model_check: ModelCheck = _no_model, accelerator_type: str | None = None
) -> tuple[list[Probe], list[Finding]]:
    """Look at all nodes of the cluster that was joined."""
    began = time.time()
    probes, findings = probe_nodes(root, model_check, accelerator_type)
    with meeting_place(root) as place:
        here = probe_here(place, "driver")
    return probes, findings + compared(here, probes, root_of(root), began)


def validate_cluster(
    root: WorkFolder, note: Callable[[str], None], model_check: ModelCheck = _no_model, accelerator_type: str | None = None
) -> None:
    """Raise UserError for the first finding with which no study can run, telling how many there are; `note` gets the others' messages."""
    _, findings = preflight(root, model_check, accelerator_type)
    for finding in findings:
        if not finding.is_fatal:
            note(finding.message)
    fatal = [finding for finding in findings if finding.is_fatal]
    if fatal:
        more = f" (and {len(fatal) - 1} more: `kp doctor` lists them)" if len(fatal) > 1 else ""
        raise UserError(fatal[0].message + more, field=fatal[0].field)
