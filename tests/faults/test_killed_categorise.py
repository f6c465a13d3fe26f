"""`kp categorise` hit in mid-run, whatever hits it, ends with the files of a run that nothing disturbed."""

import json
import os
import shutil
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kp.store.filenames import ANSWERS_FILE, CATEGORIES_FILE
from tests.conftest import Kp
from tests.killing import running_kp
from tests.tiny_study import FACTS

CHUNKS = 12  # three shot sets in quarters
PROMPTS = FACTS * 30  # under 10 prompts of three shot sets

pytestmark = pytest.mark.studies


def committed(root: Path) -> dict[str, tuple[str, int]]:
    """The chunks that Ray Data's checkpoint holds: the file of each and when it was written; fails where a chunk was committed twice."""
    files = [path for path in root.glob("work/categorise/*/committed/*.parquet") if ".pending" not in path.name]
    chunks = [(chunk, (path.name, path.stat().st_mtime_ns)) for path in files for chunk in pq.read_table(path)["chunk_id"].to_pylist()]
    assert len({chunk for chunk, _ in chunks}) == len(chunks)
    return dict(chunks)


def outcome(root: Path) -> dict[str, bytes]:
    """The files of the finished stage, but for its record."""
    [record] = root.glob("store/categorise/*/record.json")
    names = json.loads(record.read_text(encoding="utf-8"))["files"]
    assert set(names) >= {ANSWERS_FILE, CATEGORIES_FILE}
    return {name: (record.parent / name).read_bytes() for name in names}


def is_unfinished(root: Path) -> bool:
    return not list(root.glob("store/categorise/*/record.json"))


@pytest.fixture(scope="module")
def undisturbed(finished_tiny: Path) -> dict[str, bytes]:
    """The files of a categorisation that nothing disturbed."""
    return outcome(finished_tiny)


@pytest.fixture(scope="module")
def killed_root(tiny_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results root of a run whose driver was killed after its first commits; read it, do not write into it."""
    root = tmp_path_factory.mktemp("killed")
    with running_kp(root, "categorise", tiny_study) as run:
        run.wait_until(lambda: len(committed(root)) >= 2)
        processes = run.driver.children(recursive=True)
        run.driver.kill()
        psutil.wait_procs(processes, timeout=120)  # what they had begun to write is written, or is not, before anybody looks
    assert is_unfinished(root)
    assert 2 <= len(committed(root)) < CHUNKS
    return root


@pytest.fixture
def killed(killed_root: Path, tmp_path: Path) -> Path:
    """A copy of the killed run's results root, free to be changed."""
    root = tmp_path / "killed"
    shutil.copytree(killed_root, root, symlinks=True)
    return root


def test_categorise_with_its_generators_killed_ends_as_if_undisturbed(
    undisturbed: dict[str, bytes], tiny_study: Path, tmp_path: Path
) -> None:
    with running_kp(tmp_path, "categorise", tiny_study) as run:
        run.wait_until(lambda: len(committed(tmp_path)) >= 1)
        first = run.generators()
        first[0].kill()

        at_first_kill = len(committed(tmp_path))
        run.wait_until(lambda: len(committed(tmp_path)) > at_first_kill)
        for generator in run.generators():  # from here on those that Ray starts in their places do all the work
            generator.kill()
        at_last_kill = len(committed(tmp_path))
        assert run.wait() == 0, run.output()

    assert at_last_kill < CHUNKS
    assert outcome(tmp_path) == undisturbed


def test_categorise_with_its_driver_killed_goes_on_without_what_was_committed(
    undisturbed: dict[str, bytes], killed: Path, tiny_study: Path, kp_on_ray: Kp
) -> None:
    before = committed(killed)

    with running_kp(killed, "categorise", tiny_study) as run:
        run.wait_until(lambda: len(committed(killed)) > len(before))
    after = committed(killed)
    assert is_unfinished(killed)
    assert f"categorise: {len(before) * PROMPTS // CHUNKS} of {PROMPTS} prompts already done, not redone" in run.output()

    done = kp_on_ray("categorise", tiny_study, "--results", killed)

    assert done.returncode == 0, done.stdout + done.stderr
    assert before.items() <= after.items()
    assert outcome(killed) == undisturbed


def test_categorise_killed_in_the_midst_of_a_write_takes_nothing_half_written_for_done(
    undisturbed: dict[str, bytes], killed: Path, tiny_study: Path, kp_on_ray: Kp
) -> None:
    [work] = killed.glob("work/categorise/*")
    chunks = pq.read_table(work / "chunks" / "chunks.parquet")["chunk_id"].to_pylist()
    whole = next(work.glob("answers/*.parquet")).read_bytes()
    missing = sorted(set(chunks) - committed(killed).keys())
    # Ray Data's order of writing: the pending checkpoint, the answers, then the checkpoint gets its final name.
    in_checkpoint, in_answers, before_naming = "a" * 32, "b" * 32, "c" * 32
    for write, chunk in zip((in_checkpoint, in_answers, before_naming), missing, strict=False):
        pq.write_table(pa.table({"chunk_id": [chunk]}), work / "committed" / f"{write}_000000.pending.parquet")
    os.truncate(work / "committed" / f"{in_checkpoint}_000000.pending.parquet", 100)
    (work / "answers" / f"{in_answers}_000000_000000-0.parquet").write_bytes(whole[: len(whole) // 2])
    (work / "answers" / f"{before_naming}_000000_000000-0.parquet").write_bytes(whole)

    done = kp_on_ray("categorise", tiny_study, "--results", killed)

    assert done.returncode == 0, done.stdout + done.stderr
    assert outcome(killed) == undisturbed


def test_categorise_with_committed_files_that_lost_their_contents_makes_those_chunks_again(
    undisturbed: dict[str, bytes], killed: Path, tiny_study: Path, kp_on_ray: Kp
) -> None:
    [work] = killed.glob("work/categorise/*")
    (first, _), (second, _), *_ = committed(killed).values()
    os.truncate(work / "committed" / first, 0)
    os.truncate(work / "answers" / f"{Path(second).stem}-0.parquet", 1000)

    done = kp_on_ray("categorise", tiny_study, "--results", killed)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "what an earlier run left of 2 chunks is damaged, and they are made again" in done.stdout
    assert outcome(killed) == undisturbed
