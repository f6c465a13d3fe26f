"""Seconds and memory of work that has a process to itself, so that nobody pays for what another has loaded or left in memory."""

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

_LOOK_SECONDS = 0.2  # seldom enough to cost the implementations nothing

Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")


@dataclass(frozen=True)
class Measured(Generic[Result]):
    """What came of the work, and the most memory in bytes that its process and all processes below it held at one time."""

    result: Result
    peak_memory: int


def measured(work: Callable[Arguments, Result], *arguments: Arguments.args, **named: Arguments.kwargs) -> Measured[Result]:
    """Do the work in a new process; an error that it raises is raised here.

    The peak of the first process is what the system kept count of. Where it has others below it their resident memory is summed up now and
    then, which counts shared pages twice and may miss a short peak: the larger of both numbers is returned.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        look = _Look(pool.submit(getpid).result())
        with look:
            result, peak = pool.submit(_work_and_peak, work, arguments, named).result()
    return Measured(result, max(peak, look.peak))


def _work_and_peak(work: Callable[..., Result], arguments: tuple[object, ...], named: dict[str, object]) -> tuple[Result, int]:
    return work(*arguments, **named), _own_peak()


def _own_peak() -> int:
    if sys.platform == "linux":  # where ru_maxrss of a new process begins with that of the process that started it
        (line,) = (line for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class _Look:
    """A context within which the memory of a process and all below it is looked at."""

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
