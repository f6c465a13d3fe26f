"""Seconds and memory of work in its own process, so that it is not charged for what others have loaded or left in memory."""

import resource
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from os import getpid
from pathlib import Path
from typing import Generic, ParamSpec, TypeVar

import psutil

_LOOK_SECONDS = 0.2  # rare enough not to slow the implementations down

Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")


@dataclass(frozen=True)
class Measured(Generic[Result]):
    """The result of the work, and the peak memory in bytes of its process and all its descendants together."""

    result: Result
    peak_memory: int


def measured(work: Callable[Arguments, Result], *arguments: Arguments.args, **named: Arguments.kwargs) -> Measured[Result]:
    """Do the work in a new process; an error that it raises is raised here.

    The peak of the process itself is the system's. If it has children, their resident memory is sampled and summed up, which counts shared
    pages twice and may miss a short peak. The larger of the two numbers is returned.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        look = _Look(pool.submit(getpid).result())
        with look:
            result, peak = pool.submit(_work_and_peak, work, arguments, named).result()
    return Measured(result, max(peak, look.peak))


def _work_and_peak(work: Callable[..., Result], arguments: tuple[object, ...], named: dict[str, object]) -> tuple[Result, int]:
    return work(*arguments, **named), _own_peak()


def _own_peak() -> int:
    if sys.platform == "linux":  # there ru_maxrss of a new process starts at that of its parent
        (line,) = (line for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class _Look:
    """A context in which the memory of a process and all its descendants is sampled."""

    def __init__(self, process: int) -> None:
        self.peak = 0
        self._process, self._stop = psutil.Process(process), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(_LOOK_SECONDS):
            self.peak = max(self.peak, _resident(self._process))


def _resident(process: psutil.Process) -> int:
    try:
        tree = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    total = 0
    for one in tree:
        try:
            total += one.memory_info().rss
        except psutil.NoSuchProcess:  # it has ended in the meantime
            continue
    return total
