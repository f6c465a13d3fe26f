"""How a test takes hold of a running `kp` and its processes, so as to end some of them at a chosen moment."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.conftest import REPOSITORY, STUDY_SECONDS, clean_environment, kp_command

POLL_SECONDS = 0.02


@dataclass(frozen=True)
class RunningKp:
    """A `kp` command on its way, with all that it prints in `log`."""

    driver: psutil.Popen
    log: Path
    root: psutil.Process  # the process below which those of its Ray are

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for the condition; fails where the command ends without it."""
        deadline = time.monotonic() + STUDY_SECONDS
        while not condition():
            assert self.driver.poll() is None, self.output()
            assert time.monotonic() < deadline, self.output()
            time.sleep(POLL_SECONDS)

    def wait(self) -> int:
        """The exit code, once the command has ended."""
        code: int = self.driver.wait(STUDY_SECONDS)
        return code

    def output(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(encoding="utf-8")

    def generators(self) -> list[psutil.Process]:
        """The actors of its Ray Data pipeline that hold a model, or are about to."""
        return self.processes("_ChunkAnswerer")

    def processes(self, title: str) -> list[psutil.Process]:
        """Those of its processes whose title holds this."""
        return [process for process in self.root.children(recursive=True) if title in process_title(process)]

    def nodes_of(self, title: str) -> set[int]:
        """The nodes, by the process ids of their raylets, on which processes of this title run."""
        found: set[int] = set()
        for process in self.processes(title):
            with suppress(psutil.NoSuchProcess):
                found.add(process.ppid())
        return found

    def titles(self) -> list[str]:
        """The titles of all its processes."""
        return [process_title(process) for process in self.root.children(recursive=True)]


def process_title(process: psutil.Process) -> str:
    """Its command line; empty if it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # it ended since it was listed
        return ""


@contextmanager
def running_kp(
    root: Path,
    *arguments: str | Path,
    ray: str | None = None,
    program: str = "kp.cli",
    settings: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
    results: str | None = None,
) -> Iterator[RunningKp]:
    """Start `kp`, or another `program`, on this results root; one that still runs at the end of the block is killed with SIGKILL.

    With `results`, such as the URL of a bucket, those are elsewhere, and the root has the log alone.

    It joins the Ray at the address `ray`, which this process has started, or starts one of its own. `settings` go to its environment, and
    the command is given to that of `prefix`.
    """
    log = root / "output.txt"
    joined = {"RAY_AUTH_MODE": "disabled", "RAY_ADDRESS": ray} if ray else {}
    with log.open("w", encoding="utf-8") as out:
        command = [*prefix, *kp_command(*arguments, "--results", results or root, program=program)]
        environment = clean_environment() | joined | dict(settings or {})
        driver = psutil.Popen(command, stdout=out, stderr=out, cwd=REPOSITORY, env=environment)
    try:
        yield RunningKp(driver, log, psutil.Process() if ray else driver)
    finally:
        if driver.poll() is None:
            driver.kill()
        driver.wait()
