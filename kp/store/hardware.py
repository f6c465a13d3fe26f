"""What a machine is, in the words of a record.

It stands apart from the steps, whose records hold it, because a benchmark on a bare GPU box names its machine in the same words and has
none of the packages that the steps need.
"""

import json
import os
import platform
import socket
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

# On a CPU one-threaded generators side by side beat one with many threads, which wait for each other at every small matrix product; each
# holds a model of its own, though.
MOST_CPU_GENERATORS = 4


def hardware() -> dict[str, Any]:
    """What this machine is, and the names of the GPUs that this process has computed on; never part of an identity."""
    return {
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "gpus": _gpus(),
    }


def process_hardware() -> dict[str, Any]:
    """The same of this process, with the name of its host as `hosts`: what a worker reports of itself once it has loaded its model."""
    return {**hardware(), "hosts": [socket.gethostname()]}


def distinct_hardware(found: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What several processes reported (each as `process_hardware`, or a list of this function), equal machines once with all hosts."""
    hosts: dict[str, set[str]] = {}
    for one in found:
        machine = {name: value for name, value in one.items() if name != "hosts"}
        hosts.setdefault(json.dumps(machine, sort_keys=True), set()).update(one["hosts"])
    return [{**json.loads(machine), "hosts": sorted(names)} for machine, names in sorted(hosts.items())]


def _gpus() -> list[str]:
    """Those that CUDA shows this process; none where it has not begun to use them, since asking would put a context on each."""
    torch = sys.modules.get("torch")  # not imported for this: a driver has no need of it
    if torch is None or not torch.cuda.is_initialized():
        return []
    return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())
