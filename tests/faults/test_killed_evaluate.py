"""`kp evaluate` hit in mid-run, whatever hits it, ends with the files of a run that nothing disturbed, and does nothing twice."""

import re
import shutil
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from tests.conftest import Kp
from tests.killing import running_kp

KINDS = ("answers", "generality", "benchmarks", "surprisal", "drift")  # the steps that the evaluation of the study commits
# Three adapters on two shot sets in quarters; the paraphrase of two facts for the two that leave one; lm-eval's task and the surprisal of
# all facts for each and the base; the drift of each.
CHUNKS = 3 * 2 * 4 + 2 * 2 + 4 + 4 + 3

pytestmark = pytest.mark.studies


def committed(root: Path) -> dict[str, tuple[str, int]]:
    """The chunks that Ray Data's checkpoint holds: the file of each and when it was written; fails where a chunk was committed twice."""
    files = [path for path in root.glob("work/evaluate/*/committed/*.parquet") if ".pending" not in path.name]
    chunks = [(chunk, (path.name, path.stat().st_mtime_ns)) for path in files for chunk in pq.read_table(path)["chunk_id"].to_pylist()]
    assert len({chunk for chunk, _ in chunks}) == len(chunks)
    return dict(chunks)


def measured(root: Path) -> dict[str, bytes]:
    """The tables of all measurements, but not their records."""
    paths = [path for kind in KINDS for path in sorted(root.glob(f"store/{kind}/*/*.parquet"))]
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


@pytest.fixture
def unmeasured(tiny_copy: Path) -> Path:
    """The results root of a study whose trials are done, and of which nothing is measured."""
    for kind in KINDS:
        shutil.rmtree(tiny_copy / "store" / kind)
    return tiny_copy


@pytest.fixture(scope="module")
def undisturbed(finished_tiny: Path) -> dict[str, bytes]:
    """The tables of an evaluation that nothing disturbed."""
    return measured(finished_tiny)


def test_evaluate_with_its_actors_killed_ends_as_if_undisturbed(undisturbed: dict[str, bytes], tiny_study: Path, unmeasured: Path) -> None:
    with running_kp(unmeasured, "evaluate", tiny_study) as run:
        run.wait_until(lambda: len(committed(unmeasured)) >= 1)
        for actor in run.generators():  # from here on those that Ray starts in their places do all the work
            actor.kill()
        at_kill = len(committed(unmeasured))
        assert run.wait() == 0, run.output()

    assert at_kill < CHUNKS
    assert measured(unmeasured) == undisturbed
    assert not (unmeasured / "work" / "evaluate" / "tiny").exists()


def test_evaluate_with_its_driver_killed_twice_goes_on_without_what_was_committed(
    undisturbed: dict[str, bytes], tiny_study: Path, unmeasured: Path, kp_on_ray: Kp
) -> None:
    before = kill_after(2, unmeasured, tiny_study)
    after = kill_after(len(before) + 2, unmeasured, tiny_study)
    assert before.items() <= after.items()
    assert measured(unmeasured).keys() < undisturbed.keys()

    done = kp_on_ray("evaluate", tiny_study, "--results", unmeasured)

    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"evaluate: [1-9]\d* of \d+ prompts already done, not redone", done.stdout)
    assert measured(unmeasured) == undisturbed


def kill_after(chunks: int, root: Path, study: Path) -> dict[str, tuple[str, int]]:
    """Kill the driver once as many chunks are committed; returns what is committed once all its processes have ended."""
    with running_kp(root, "evaluate", study) as run:
        run.wait_until(lambda: len(committed(root)) >= chunks)
        processes = run.driver.children(recursive=True)
        run.driver.kill()
        psutil.wait_procs(processes, timeout=120)
    found = committed(root)
    assert len(found) < CHUNKS
    return found


def test_evaluate_with_its_driver_killed_keeps_the_measurements_that_were_complete(
    undisturbed: dict[str, bytes], tiny_study: Path, unmeasured: Path, kp_on_ray: Kp
) -> None:
    with running_kp(unmeasured, "evaluate", tiny_study) as run:
        run.wait_until(lambda: bool(list(unmeasured.glob("store/answers/*/record.json"))))
        run.driver.kill()
    records = {path: path.read_bytes() for kind in KINDS for path in unmeasured.glob(f"store/{kind}/*/record.json")}
    assert measured(unmeasured).keys() < undisturbed.keys()

    done = kp_on_ray("evaluate", tiny_study, "--results", unmeasured)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "measurements already done, not redone" in done.stdout
    assert all(path.read_bytes() == record for path, record in records.items())
    assert measured(unmeasured) == undisturbed
