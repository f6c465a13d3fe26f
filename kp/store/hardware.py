"""What a machine is, in the words of a record.

It stands apart from the steps, whose records hold it, because a benchmark on a bare GPU box names its machine in the same words and has
none of the packages that the steps need.
"""

import os
import platform
from pathlib import Path
from typing import Any

# On a CPU one-threaded generators side by side beat one with many threads, which wait for each other at every small matrix product; each
# holds a model of its own, though.
MOST_CPU_GENERATORS = 4


def hardware() -> dict[str, Any]:
    """What this machine is, for a record; never part of an identity."""
    return {
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())
