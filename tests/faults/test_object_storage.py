"""Studies whose results are in a bucket, on a real S3 API whose listings never show anything; nodes share no folder for results."""

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from tests.faults.test_killed_training import WORKER
from tests.killing import running_kp
from tests.nodes import STORE, running_nodes
from tests.object_storage import BUCKET, ObjectStorage, object_storage
from tests.tables import TIMES, report_tables
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


def tables(storage: ObjectStorage) -> dict[str, pl.DataFrame]:
    """Those of the report, as a user finds them below the study's name."""
    top = f"kp/{NAME}/report/tables/"
    found = {
        key.removeprefix(top): pl.read_parquet(io.BytesIO(storage.read(key))) for key in storage.stored(top) if key.endswith(".parquet")
    }
    return {name: table.drop(TIMES & set(table.columns)) for name, table in found.items()}


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
    expected, found = report_tables(finished_tiny, NAME), tables(storage)
    assert found.keys() == expected.keys()
    for name, table in expected.items():
        assert found[name].equals(table), name


def test_study_in_a_bucket_trains_and_measures_on_nodes_that_share_no_folder(
    tiny_study: Path, storage: ObjectStorage, tmp_path: Path
) -> None:
    own = [tmp_path / name for name in ("driver", "one", "other")]
    with running_nodes(head_cpus=1) as nodes:
        for folder in own[1:]:
            nodes.add_node(num_cpus=1, object_store_memory=STORE, env_vars=cache(folder))
        nodes.wait_for_nodes()
        overrides = (*ONE_TRIAL, "resources.workers_per_trial=2")
        with running_kp(tmp_path, "study", tiny_study, *overrides, results=URL, ray=nodes.address, settings=cache(own[0])) as run:
            run.wait_until(lambda: len(epochs(storage)) >= 1)
            assert len(run.nodes_of(WORKER)) == 2
            assert run.wait() == 0, run.output()
    assert tables(storage)["trials.parquet"]["status"].to_list() == ["completed"]
    assert all(list(folder.rglob("unfinished")) for folder in own[1:])  # each worker saved on its own node
    assert not list(own[0].rglob("unfinished"))


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
    assert tables(storage)["trials.parquet"]["status"].to_list() == ["completed"]
