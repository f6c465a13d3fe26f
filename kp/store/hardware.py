"""The description of a machine for a record.

It is separate from the steps, whose records contain it, because a benchmark on a bare GPU box describes its machine in the same way without
the packages that the steps need.
"""

import json
import os
import platform
import socket
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

# On a CPU several one-threaded generators are faster than one with many threads, which wait for each other at every small matrix product;
# but each has its own copy of the model.
MOST_CPU_GENERATORS = 4


def hardware() -> dict[str, Any]:
    """This machine, and the names of the GPUs on which this process has computed; never part of an identity."""
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
    """The same for this process, with the name of its host as `hosts`: what a worker reports once it has loaded its model."""
    return {**hardware(), "hosts": [socket.gethostname()]}


def distinct_hardware(found: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The reports of several processes (each from `process_hardware`, or a list of this function); equal machines once, with all hosts."""
    hosts: dict[str, set[str]] = {}
    for one in found:
        machine = {name: value for name, value in one.items() if name != "hosts"}
        hosts.setdefault(json.dumps(machine, sort_keys=True), set()).update(one["hosts"])
    return [{**json.loads(machine), "hosts": sorted(names)} for machine, names in sorted(hosts.items())]


def _gpus() -> list[str]:
    """The GPUs that CUDA shows this process; none if it has not used them yet, because asking would create a context on each."""
    torch = sys.modules.get("torch")  # not imported for this, because a driver does not need it
    if torch is None or not torch.cuda.is_initialized():
        return []
    return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())
