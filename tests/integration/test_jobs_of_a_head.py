"""Studies submitted with the documented command to a head that `ray start` has started, as on a cluster.

The entry points run out of the uploaded working directory, under token authentication, and know of the cluster by what Ray tells them.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, Done
from tests.faults.test_killed_training import assert_as_uninterrupted, is_training
from tests.ray_head import RunningHead, running_head
from tests.tiny_study import NAME

SUBMIT = ("submit", "--working-dir", ".", "--runtime-env", "ray_jobs/runtime_env.yaml")
ENTRY_POINTS = sorted(path.name for path in (REPOSITORY / "ray_jobs").glob("*.py"))
LEFT_SECONDS = 15.0
ONE_TRIAL = "search.arms=[{}]"


@pytest.fixture(scope="module")
def head() -> Iterator[RunningHead]:
    with running_head() as running:
        yield running


def submitted(head: RunningHead, name: str, *entry_point: str | Path, wait: bool = True) -> Done:
    """Submit a job of this name; returns at its end, with its logs."""
    return head.job(*SUBMIT, "--submission-id", name, *(() if wait else ("--no-wait",)), "--", *entry_point)


def status(head: RunningHead, name: str) -> str:
    """What Ray says of the job, in one word at the end."""
    return head.job("status", name).stdout


def records(root: Path) -> dict[Path, int]:
    """When each record of a root was written, in ns."""
    return {path: path.stat().st_mtime_ns for path in root.glob("store/*/*/record.json")}


@pytest.mark.studies
def test_submitted_study_makes_its_report_and_submitted_again_makes_nothing(
    head: RunningHead, tiny_study: Path, finished_tiny: Path, tmp_path: Path
) -> None:
    command = ("python", "ray_jobs/study.py", tiny_study, "--results", tmp_path)
    done = submitted(head, "study", *command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCEEDED" in status(head, "study").upper()
    logs = head.job("logs", "study").stdout
    assert "search: 3 trials trained" in logs
    assert "finished in" in logs
    assert "Traceback" not in logs
    assert head.working() == []
    assert_as_uninterrupted(tmp_path, finished_tiny)
    assert (tmp_path / NAME / "report" / "report.html").is_file()

    before = records(tmp_path)
    again = submitted(head, "again", *command)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "search: 3 of 3 trials already done, not redone" in again.stdout
    assert records(tmp_path) == before


@pytest.mark.studies
def test_submitted_study_with_a_failing_trial_is_a_failed_job_whose_logs_name_the_cause(
    head: RunningHead, tiny_study: Path, tiny_copy: Path
) -> None:
    overrides = [ONE_TRIAL, "search.rank=[7]", "training.init=orthogonal", "evaluate.misconceptions=0"]  # PEFT wants an even rank
    done = submitted(head, "failing", "python", "ray_jobs/study.py", tiny_study, *overrides, "--results", tiny_copy)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "exit code 3" in status(head, "failing")
    assert "rank to be even" in head.job("logs", "failing").stdout


@pytest.mark.studies
def test_submitted_study_with_relative_results_is_refused(head: RunningHead, tiny_study: Path) -> None:
    done = submitted(head, "relative", "python", "ray_jobs/study.py", tiny_study, "--results", "runs")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "exit code 2" in status(head, "relative")
    assert "kp: --results: runs: is relative" in head.job("logs", "relative").stdout


@pytest.mark.slow
def test_stopped_study_leaves_nothing_running_and_no_actor(head: RunningHead, tiny_study: Path, untrained: Path) -> None:
    submitted(head, "stopped", "python", "ray_jobs/study.py", tiny_study, ONE_TRIAL, "--results", untrained, wait=False)
    wait_until(lambda: bool(list(untrained.glob("work/trial/*/epochs/*/progress.json"))), 300)
    assert any("RayTrainWorker" in title for title in head.working())
    assert head.job("stop", "stopped").returncode == 0
    assert "STOPPED" in status(head, "stopped").upper()
    assert left(head) == []
    assert head.actors() == []
    assert not list(untrained.glob("store/trial/*/record.json"))


@pytest.mark.studies
def test_study_whose_head_was_lost_is_submitted_to_another_and_makes_each_step_once(
    head: RunningHead, tiny_study: Path, untrained: Path, finished_tiny: Path
) -> None:
    command = ("python", "ray_jobs/study.py", tiny_study, "--results", untrained)
    with running_head() as lost:
        submitted(lost, "lost", *command, wait=False)
        wait_until(lambda: is_training(untrained, 1), 300)
        lost.kill()
    before = records(untrained)
    done = submitted(head, "found", *command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "search: 1 of 3 trials already done, not redone" in done.stdout
    assert before.items() <= records(untrained).items()
    assert_as_uninterrupted(untrained, finished_tiny)


@pytest.mark.studies
def test_every_entry_point_runs_as_a_job_out_of_the_uploaded_folder(head: RunningHead, tiny_study: Path, tmp_path: Path) -> None:
    stages = [name.removesuffix(".py") for name in ENTRY_POINTS]
    assert stages == ["categorise", "evaluate", "facts", "report", "search", "study"]
    each = " && ".join(f"python ray_jobs/{stage}.py --help && echo {stage} answers" for stage in stages)
    plan = f"python ray_jobs/study.py {tiny_study} --dry-run --results {tmp_path}"
    done = submitted(head, "plans", "bash", "-c", f"python -c 'import kp; print(kp.__file__)' && {plan} && {each}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "/working_dir_files/" in done.stdout
    assert all(f"{stage} answers" in done.stdout for stage in stages)
    assert "3 trials" in done.stdout


def left(head: RunningHead) -> list[str]:
    """What still works for a job after LEFT_SECONDS."""
    until = time.monotonic() + LEFT_SECONDS
    while (found := head.working()) and time.monotonic() < until:
        time.sleep(0.2)
    return found


def wait_until(condition: object, seconds: float) -> None:
    """Wait for the condition; fails where it does not come to hold in time."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)
