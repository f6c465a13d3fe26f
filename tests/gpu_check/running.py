"""Running steps, each in processes of its own within its time, and what came of it."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from tests.gpu_check.steps import Judged, Setting, Step, read_xml

REPOSITORY = Path(__file__).resolve().parents[2]
LEAST_SECONDS = 20.0  # with less time left a step is not begun
_SAID = 12  # last lines of a step that failed


class Status(StrEnum):
    """How a step came out."""

    PASSED = "passed"
    FAILED = "failed"
    OVERRAN = "overran"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Outcome:
    """A step that is done with: seconds it took of its budget, what it showed and what is wrong, and its whole result."""

    step: Step
    status: Status
    seconds: float
    shown: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    measured: Any = field(default=None, compare=False)

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "step": self.step.name,
            "status": self.status.value,
            "seconds": round(self.seconds, 1),
            "budget": self.step.seconds,
            "shows": self.step.shows,
            "shown": list(self.shown),
            "wrong": list(self.wrong),
            "expected": self.step.expected,
            "measured": self.measured,
        }


def run_steps(
    steps: Sequence[Step], setting: Setting, seconds: float, clock: Callable[[], float] = time.monotonic
) -> Iterator[Outcome]:  # fmt: skip
    """Run the steps one after another, all within `seconds`; a step that overruns its own is ended, and the next one runs."""
    until, failed = clock() + seconds, None
    for step in steps:
        left = until - clock()
        reason = f"{failed} failed" if failed else "no time was left" if left < LEAST_SECONDS else None
        if reason:
            yield Outcome(step, Status.NOT_RUN, 0.0, wrong=(reason,))
            continue
        outcome = run_step(step, setting, min(step.seconds * setting.patience, left))
        if step.is_needed and outcome.status is not Status.PASSED:
            failed = step.name
        yield outcome


def run_step(step: Step, setting: Setting, seconds: float) -> Outcome:
    """Run one step; never raises for what its processes do."""
    log, result = setting.file(step.name, ".log"), setting.file(step.name, step.suffix)
    began = time.monotonic()
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(
            step.command(setting), stdout=out, stderr=subprocess.STDOUT, cwd=REPOSITORY, env=_variables(setting), start_new_session=True
        )
        try:
            code: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process)
    took, said = time.monotonic() - began, log.read_text(encoding="utf-8", errors="replace")
    if code is None:
        return Outcome(step, Status.OVERRAN, took, wrong=(f"ended after {took:.0f} s", *_last(said)))
    if code not in (0, 1) or not result.is_file():
        return Outcome(step, Status.FAILED, took, wrong=(f"exit code {code}", *_last(said)))
    found = read_xml(result) if step.suffix == ".xml" else json.loads(result.read_text(encoding="utf-8"))
    judged: Judged = step.judge(found, said, setting)
    wrong = judged.wrong or ((f"exit code {code}", *_last(said)) if code else ())
    status = Status.FAILED if wrong else Status.PASSED
    return Outcome(step, status, took, judged.shown, wrong, found if step.suffix == ".json" else None)


def _variables(setting: Setting) -> dict[str, str]:
    search = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
    # On a busy CPU the threads of tiny products wait for each other.
    threads = {"OMP_NUM_THREADS": "1"} if setting.dry else {}
    return os.environ | {"PYTHONPATH": os.pathsep.join(search), "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"} | threads


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End what is left of the step, with all that it has started: they are one session."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def _last(said: str) -> list[str]:
    return [line.rstrip() for line in said.splitlines() if line.strip()][-_SAID:]
