"""A study interrupted where one stage ends and the next begins, at every such place, never does again what had ended."""

import signal
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.faults.test_killed_training import assert_as_uninterrupted
from tests.killing import POLL_SECONDS, RunningKp, running_kp

ENDS = {"facts": 1, "categorise": 1, "parts": 1, "trial": 3}
"""Records of a kind of step with which a stage ends, in the order of the stages; then come measurements of many kinds, and the report."""

SOON = 10.0
OF_STUDY = ("_ChunkAnswerer", "RayTrainWorker", "TrainController", "_GroupDriver", "ImplicitFunc", "TrialQueue", "_Count")


@pytest.mark.studies
def test_study_interrupted_at_every_stage_boundary_makes_each_step_once(
    tiny_study: Path, finished_tiny: Path, shared_ray: str, tmp_path: Path
) -> None:
    made: dict[Path, int] = {}
    ends = ENDS | {"*": len(records(finished_tiny)) - 1}  # all but the report
    for kind, count in ends.items():
        with running_kp(tmp_path, "study", tiny_study, ray=shared_ray) as run:
            run.wait_until(lambda kind=kind, count=count: len(records(tmp_path, kind)) >= count)  # type: ignore[misc]
            run.driver.send_signal(signal.SIGINT)
            assert run.wait() == 130, run.output()
            assert left(run) == []
        assert unchanged(made, records(tmp_path))
        made = records(tmp_path)
    assert not records(tmp_path, "report")
    with running_kp(tmp_path, "study", tiny_study, ray=shared_ray) as run:
        assert run.wait() == 0, run.output()
    assert unchanged(made, records(tmp_path))
    assert_as_uninterrupted(tmp_path, finished_tiny)


def records(root: Path, kind: str = "*") -> dict[Path, int]:
    """When each record of this kind of step was written, in ns."""
    return {path: path.stat().st_mtime_ns for path in root.glob(f"store/{kind}/*/record.json")}


def unchanged(before: Mapping[Path, int], after: Mapping[Path, int]) -> bool:
    """Whether what there was is as it was."""
    return before.items() <= after.items()


def left(run: RunningKp) -> list[str]:
    """The titles of the study's processes on its cluster that do not end soon after it."""
    until = time.monotonic() + SOON
    while found := [title for title in run.titles() if any(name in title for name in OF_STUDY)]:
        if time.monotonic() > until:
            break
        time.sleep(POLL_SECONDS)
    return found
