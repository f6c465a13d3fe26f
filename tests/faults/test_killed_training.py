"""Training that loses a worker, the driver of a trial, or the process that holds a worker group ends as if nothing had happened."""

import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import psutil
import pytest

from tests.conftest import SMOKE
from tests.killing import RunningKp, running_kp
from tests.tables import report_tables

WORKER, TRIAL_DRIVER, GROUP_DRIVER = "RayTrainWorker", "ImplicitFunc", "_run_worker_group"


@pytest.fixture
def untrained(finished_smoke: Path, tmp_path: Path) -> Path:
    """The finished study's root less all that its trials left: a search is the next thing to do."""
    root = tmp_path / "runs"
    shutil.copytree(finished_smoke, root, symlinks=True)
    for kind in ("trial", "answers", "report"):
        shutil.rmtree(root / "store" / kind)
    return root


def kill_one(run: RunningKp, title: str) -> None:
    """End one process of this title; there must be one."""
    found = run.processes(title)
    assert found, f"no process {title}: {run.titles()}"
    found[0].kill()
    psutil.wait_procs(found[:1], timeout=10)


def epochs_committed(root: Path) -> int:
    return len(list(root.glob("work/trial/*/epochs/*/progress.json")))


def finish(root: Path, kills: list[tuple[str, Callable[[], bool]]]) -> None:
    """Run the whole study, ending a process of each title as soon as its condition holds."""
    with running_kp(root, "study", SMOKE) as run:
        for title, condition in kills:
            run.wait_until(condition)
            kill_one(run, title)
        assert run.wait() == 0, run.output()


def assert_as_uninterrupted(root: Path, finished: Path) -> None:
    expected, found = report_tables(finished), report_tables(root)
    assert found.keys() == expected.keys()
    for name, table in expected.items():
        assert found[name].equals(table), name


@pytest.mark.studies
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("title", [WORKER, TRIAL_DRIVER, GROUP_DRIVER])
def test_process_killed_in_training_changes_no_number(untrained: Path, finished_smoke: Path, title: str) -> None:
    finish(untrained, [(title, lambda: epochs_committed(untrained) >= 2)])
    assert_as_uninterrupted(untrained, finished_smoke)


@pytest.mark.studies
@pytest.mark.timeout(1200)
def test_study_with_one_more_seed_trains_that_one_alone(smoke_copy: Path) -> None:
    before = {path.parent.name for path in smoke_copy.glob("store/trial/*/record.json")}
    with running_kp(smoke_copy, "search", SMOKE, "search.seeds=[0,1]", "search.arms=[{}]") as run:
        assert run.wait() == 0, run.output()
        assert "search: 1 of 2 trials already done, not redone" in run.output()
    after = {path.parent.name for path in smoke_copy.glob("store/trial/*/record.json")}
    assert before < after
    assert len(after - before) == 1
    assert not list(smoke_copy.glob("work/trial/*"))  # of a finished trial nothing but its adapter and tables is kept
    kept = pl.concat([pl.read_parquet(smoke_copy / "store" / "trial" / name / "trial.parquet") for name in after])
    assert kept["adapter_digest"].n_unique() == len(after)
