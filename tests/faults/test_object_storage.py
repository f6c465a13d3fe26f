"""Studies whose results are in a bucket, on a real S3 API whose listings never show anything; nodes share no folder for results."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.test_killed_training import WORKER
from tests.killing import running_kp
from tests.nodes import STORE, running_nodes
from tests.object_storage import BUCKET, ObjectStorage, object_storage
from tests.tables import bucket_tables, report_tables
from tests.tiny_study import NAME

URL = f"s3://{BUCKET}/kp"
ONE_TRIAL = ("search.arms=[{}]", "resources.concurrent_trials=1", "resources.generators=1")

pytestmark = pytest.mark.studies


@pytest.fixture
def storage() -> Iterator[ObjectStorage]:
    with object_storage() as running:
        yield running


def epochs(storage: ObjectStorage) -> list[str]:
    """The keys of the lists of committed epochs."""
    return [key for key in storage.stored("kp/work/trial") if key.split("/")[-2] == "epochs"]


def cache(folder: Path) -> dict[str, str]:
    """The setting of a node that has this folder for itself."""
    return {"KP_RESULTS_CACHE": str(folder)}


def test_study_in_a_bucket_killed_and_continued_on_another_node_ends_as_uninterrupted(
    tiny_study: Path, finished_tiny: Path, storage: ObjectStorage, tmp_path: Path
) -> None:
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    for folder in (first, second, third):
        folder.mkdir()
    with running_kp(first, "study", tiny_study, results=URL, settings=cache(first)) as run:
        run.wait_until(lambda: len(epochs(storage)) >= 2)
        for process in run.processes(WORKER):
            process.suspend()  # so that the search has not ended when the other comes
        with running_kp(second, "search", tiny_study, results=URL, settings=cache(second)) as other:
            assert other.wait() == 2, other.output()
            assert f"is being worked on by process {run.driver.pid} on " in other.output()
        run.driver.kill()
    before = epochs(storage)
    shutil.rmtree(first)
    with running_kp(third, "study", tiny_study, results=URL, settings=cache(third)) as run:
        assert run.wait() == 0, run.output()
        assert "categorise: already done" in run.output()
        assert f"report: {URL}/{NAME}/report/report.html" in run.output()
    assert [storage.count("PUT", key) for key in before] == [1] * len(before)  # no epoch was trained again
    expected, found = report_tables(finished_tiny, NAME), bucket_tables(storage, "kp", NAME)
    assert found.keys() == expected.keys()
    for name, table in expected.items():
        assert found[name].equals(table), name


def test_study_in_a_bucket_trains_and_measures_on_nodes_that_share_no_folder(
    tiny_study: Path, storage: ObjectStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, head, *others = (tmp_path / name for name in ("driver", "head", "one", "other"))
    monkeypatch.setenv(*next(iter(cache(head).items())))
    with running_nodes(head_cpus=1) as nodes:
        for folder in others:
            nodes.add_node(num_cpus=1, object_store_memory=STORE, env_vars=cache(folder))
        nodes.wait_for_nodes()
        overrides = (*ONE_TRIAL, "resources.workers_per_trial=2")
        with running_kp(tmp_path, "study", tiny_study, *overrides, results=URL, ray=nodes.address, settings=cache(driver)) as run:
            run.wait_until(lambda: len(epochs(storage)) >= 1)
            assert len(run.nodes_of(WORKER)) == 2
            assert run.wait() == 0, run.output()
    assert bucket_tables(storage, "kp", NAME)["trials.parquet"]["status"].to_list() == ["completed"]
    saved = [folder for folder in (driver, head, *others) if list(folder.rglob("unfinished"))]
    assert len(saved) == 2  # each worker on its own node
    assert driver not in saved


def test_trial_is_resumed_on_another_node_from_the_bucket(tiny_study: Path, storage: ObjectStorage, tmp_path: Path) -> None:
    driver, lost, found = (tmp_path / name for name in ("driver", "lost", "found"))
    node = {"num_cpus": 4, "object_store_memory": STORE}
    with running_nodes(head_cpus=0) as nodes:
        first = nodes.add_node(**node, env_vars=cache(lost))
        nodes.wait_for_nodes()
        with running_kp(tmp_path, "study", tiny_study, *ONE_TRIAL, results=URL, ray=nodes.address, settings=cache(driver)) as run:
            run.wait_until(lambda: len(epochs(storage)) >= 2)
            nodes.add_node(**node, env_vars=cache(found))
            nodes.wait_for_nodes()
            before = epochs(storage)
            nodes.remove_node(first, allow_graceful=False)
            shutil.rmtree(lost)
            assert run.wait() == 0, run.output()
    assert [storage.count("PUT", key) for key in before] == [1] * len(before)
    assert bucket_tables(storage, "kp", NAME)["trials.parquet"]["status"].to_list() == ["completed"]
