"""What the cluster has, what waits for a place on it, and why the autoscaler cannot help: for those who wait.

The demand is Ray's own, asked of the head in milliseconds; there is one whether or not an autoscaler acts on it. What the autoscaler
says it cannot do reaches a driver only as an event that the dashboard keeps. All of this is for lines that people read: what cannot be
asked is left out, and nothing here raises.
"""

import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kp.errors import printable

ASKING_SECONDS = 5
MOST_EVENTS = 1000
MOST_SHAPES = 3  # of pending demands that a line names
MOST_CHARACTERS = 300  # of a warning

_log = logging.getLogger(__name__)
_TROUBLE = re.compile(r"no available node types|fail|error|unavailable|insufficient|quota", re.IGNORECASE)
_GENERATED = re.compile(r"^(node:|bundle)|_group_|^(memory|object_store_memory)$")  # names that only Ray gives


@dataclass(frozen=True)
class ClusterState:
    """Nodes that are alive, those that are being started, GPUs in all and free, and demands that have no place, by their resources."""

    nodes: int
    starting: int
    gpus: float
    free_gpus: float
    pending: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        parts = [_counted(self.nodes, "node") + (f" and {self.starting} starting" if self.starting else "")]
        parts += [f"{self.free_gpus:g} of {self.gpus:g} GPUs free" if self.gpus else "no GPUs"]
        shapes = [f"{count} x {{{what}}}" for what, count in self.pending[:MOST_SHAPES]]
        shapes += [f"{len(self.pending) - MOST_SHAPES} more kinds"] if len(self.pending) > MOST_SHAPES else []
        return ", ".join([*parts, f"pending: {', '.join(shapes)}" if shapes else "nothing pending"])


def cluster_state() -> ClusterState | None:
    """That of the cluster that was joined; None if it cannot be asked."""
    import ray

    try:
        alive = sum(node["Alive"] for node in ray.nodes())
        has, free = ray.cluster_resources(), ray.available_resources()
        return ClusterState(alive, _starting(), has.get("GPU", 0.0), free.get("GPU", 0.0), _pending())
    except Exception as error:  # an interface of Ray that is not there, or a head that does not answer
        _log.warning("the cluster's state cannot be told: %s", error)
        return None


def _pending() -> tuple[tuple[str, int], ...]:
    """Demands of tasks, actors and placement groups that have no place, the most numerous first."""
    import ray
    from ray.autoscaler.v2.sdk import get_cluster_status

    demands = get_cluster_status(ray.get_runtime_context().gcs_address, timeout=ASKING_SECONDS).resource_demands
    found: Counter[str] = Counter()
    for demand in (*demands.ray_task_actor_demand, *demands.placement_group_demand):
        for bundle in demand.bundles_by_count:
            found[shape(bundle.bundle)] += bundle.count
    return tuple(found.most_common())


def shape(bundle: Mapping[str, float]) -> str:
    """The resources of a demand, as a line names them."""
    return ", ".join(f"{name}: {amount:g}" for name, amount in sorted(bundle.items()) if not _GENERATED.search(name)) or "nothing"


def _starting() -> int:
    """Nodes that the autoscaler has asked for and that have not joined."""
    import ray
    from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
    from ray.autoscaler.v2.sdk import get_cluster_status
    from ray.experimental.internal_kv import _internal_kv_get

    newer = get_cluster_status(ray.get_runtime_context().gcs_address, timeout=ASKING_SECONDS)
    count = sum(launch.count for launch in newer.pending_launches) + len(newer.pending_nodes)
    older = _internal_kv_get(DEBUG_AUTOSCALING_STATUS)  # the first autoscaler, which Ray still starts by default, writes there alone
    report = (json.loads(older).get("autoscaler_report") or {}) if older else {}
    return count + len(report.get("pending_nodes") or ()) + sum((report.get("pending_launches") or {}).values())


def autoscaler_warnings() -> list[str]:
    """What the cluster's autoscaler said that it cannot do: demands for which it has no type of node, launches that failed."""
    import ray
    from ray.util.state import list_cluster_events

    filters: Any = [("source_type", "=", "AUTOSCALER")]
    try:
        address = ray.get_runtime_context().gcs_address  # this machine may have more than one
        events = list_cluster_events(address, filters, limit=MOST_EVENTS, timeout=ASKING_SECONDS, raise_on_missing_output=False)
        return troubles(str(event.get("message", "")) for event in events)
    except Exception as error:  # without a dashboard nobody keeps them
        _log.warning("the autoscaler's events cannot be read: %s", error)
        return []


def troubles(messages: Iterable[str]) -> list[str]:
    """Those of an autoscaler's messages that tell of something it cannot do, each once."""
    return list(dict.fromkeys(printable(" ".join(text.split()))[:MOST_CHARACTERS] for text in messages if _TROUBLE.search(text)))


class WaitingLine:
    """Tells those who wait how the cluster stands, and each warning of its autoscaler once."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._said: set[str] = set()

    def say(self, waiting: str) -> None:
        """One line on what is waited for, followed by the cluster's state; then new warnings."""
        state = cluster_state()
        self._note(f"{waiting}; cluster: {state}" if state else waiting)
        for warning in autoscaler_warnings():
            if warning not in self._said:
                self._said.add(warning)
                self._note(f"the autoscaler says: {warning}")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
