"""Training that loses a worker, the driver of a trial, or the process that holds a worker group ends as if nothing had happened."""

from pathlib import Path

import polars as pl
import psutil
import pytest

from tests.conftest import Kp
from tests.killing import RunningKp, running_kp
from tests.tables import report_tables
from tests.tiny_study import NAME

WORKER, TRIAL_DRIVER, GROUP_DRIVER, QUEUE = "RayTrainWorker", "ImplicitFunc", "_GroupDriver", "TrialQueue"


def kill_one(run: RunningKp, title: str) -> None:
    """End one process of this title; there must be one."""
    found = run.processes(title)
    assert found, f"no process {title}: {run.titles()}"
    found[0].kill()
    psutil.wait_procs(found[:1], timeout=10)


def is_training(root: Path, trials_before: int) -> bool:
    """So many trials are done, and the one in training has committed two epochs."""
    done = len(list(root.glob("store/trial/*/record.json")))
    return done >= trials_before and len(list(root.glob("work/trial/*/epochs/*/progress.json"))) >= 2


def assert_as_uninterrupted(root: Path, finished: Path) -> None:
    expected, found = report_tables(finished, NAME), report_tables(root, NAME)
    assert found.keys() == expected.keys()
    for name, table in expected.items():
        assert found[name].equals(table), name


@pytest.mark.studies
def test_process_killed_in_each_trial_changes_no_number(untrained: Path, finished_tiny: Path, tiny_study: Path, shared_ray: str) -> None:
    with running_kp(untrained, "study", tiny_study, ray=shared_ray) as run:
        for trials_before, title in enumerate((WORKER, TRIAL_DRIVER, GROUP_DRIVER)):
            run.wait_until(lambda before=trials_before: is_training(untrained, before))  # type: ignore[misc]
            kill_one(run, title)
        assert run.wait() == 0, run.output()
    assert_as_uninterrupted(untrained, finished_tiny)


@pytest.mark.studies
def test_search_whose_queue_is_killed_begins_again_and_resumes_its_trial(
    untrained: Path, finished_tiny: Path, tiny_study: Path, shared_ray: str
) -> None:
    with running_kp(untrained, "study", tiny_study, ray=shared_ray) as run:
        run.wait_until(lambda: is_training(untrained, 1))
        kill_one(run, QUEUE)
        assert run.wait() == 0, run.output()
        left = [
            title for title in run.titles() if any(name in title for name in (WORKER, TRIAL_DRIVER, GROUP_DRIVER, QUEUE, "TrainController"))
        ]
    assert "search: the process that hands out trials died" in run.output()
    assert left == []
    assert_as_uninterrupted(untrained, finished_tiny)


@pytest.mark.studies
def test_study_with_one_more_seed_trains_that_one_alone(tiny_study: Path, tiny_copy: Path, kp_on_ray: Kp) -> None:
    before = {path.parent.name for path in tiny_copy.glob("store/trial/*/record.json")}
    done = kp_on_ray("search", tiny_study, "search.seeds=[0,1]", "search.arms=[{}]", "--results", tiny_copy)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "search: 1 of 2 trials already done, not redone" in done.stdout
    after = {path.parent.name for path in tiny_copy.glob("store/trial/*/record.json")}
    assert before < after
    assert len(after - before) == 1
    assert not list(tiny_copy.glob("work/trial/*"))  # of a finished trial nothing but its adapter and tables is kept
    kept = pl.concat([pl.read_parquet(tiny_copy / "store" / "trial" / name / "trial.parquet") for name in after])
    assert kept["adapter_digest"].n_unique() == len(after)
