"""Where a process of the cluster runs, and what it last wrote to its stderr: all that is left to tell of one that was killed.

Ray keeps the stderr of every worker process in a file on the process's node, which outlives the process but not the node.
"""

import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kp.cluster.connection import on_node
from kp.errors import printable

MOST_LINES = 20
MOST_CHARACTERS = 300  # of a line
MOST_BYTES = 16 << 10  # read from the end of the file
READ_SECONDS = 15.0  # for a process to start on the node and read

_RAYS_OWN = re.compile(r":(job_id|actor_name|task_name):")  # marks for Ray's log monitor
_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|_KEY\b", re.IGNORECASE)
_LEAST_SECRET = 8  # characters: a shorter value is a word that may be anywhere


@dataclass(frozen=True)
class ProcessPlace:
    """The node and the stderr file of a process; `address` is the node's in the cluster."""

    node_id: str
    address: str
    host: str
    pid: int
    stderr: str | None = None  # None if it is no file

    def __str__(self) -> str:
        return f"node {self.address} ({self.host}), process {self.pid}"


def place_here() -> ProcessPlace:
    """That of this process, a worker of Ray's."""
    import ray

    node = ray.get_runtime_context().get_node_id()
    return ProcessPlace(node, ray.util.get_node_ip_address(), socket.gethostname(), os.getpid(), _stderr_file())


def _stderr_file() -> str | None:
    try:
        path = os.readlink("/proc/self/fd/2")
    except OSError:  # a system without /proc
        return None
    return path if Path(path).is_file() else None


def last_words(place: ProcessPlace) -> str:
    """The end of what that process wrote to stderr, read by a task on its node; empty if that node or file cannot be asked."""
    import ray

    if place.stderr is None:
        return ""
    if place.node_id == ray.get_runtime_context().get_node_id():
        return tail_of(place.stderr)
    options: dict[str, Any] = {"num_cpus": 0, "max_retries": 0, "scheduling_strategy": on_node(place.node_id)}
    read: Any = ray.remote(**options)(tail_of)
    asked = read.remote(place.stderr)
    try:
        return str(ray.get(asked, timeout=READ_SECONDS))
    except ray.exceptions.RayError:  # with its node, the file is gone; one that answers too late is not waited for
        ray.cancel(asked, force=True)
        return ""


def tail_of(path: str) -> str:
    """The last lines of a log, as a record may hold them: bounded, printable, without the secrets of this node's environment."""
    try:
        with open(path, "rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - MOST_BYTES))
            text = log.read(MOST_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return ""
    lines = [line.rstrip() for line in text.splitlines() if line.strip() and not _RAYS_OWN.match(line)]
    return printable("\n".join(_without_secrets(line)[:MOST_CHARACTERS] for line in lines[-MOST_LINES:]))


def _without_secrets(line: str) -> str:
    for name, value in os.environ.items():
        if len(value) >= _LEAST_SECRET and _SECRET.search(name):
            line = line.replace(value, f"[{name}]")
    return line
