"""What an interrupted run left behind counts as far as it is whole."""

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kp.inference.chunk_files import ANSWERED_CHUNKS, ChunkFiles, packed, settle_chunks, unpacked

CHUNKS = ("S0-00000000", "S0-00000003", "S1-00000000")


LOAD = {"load_began": 0.0, "load_ended": 1.0}


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Three chunks as Ray Data leaves them, named x0, x1 and x2."""
    for folder in ("committed", "answers"):
        (tmp_path / folder).mkdir()
    for number, chunk in enumerate(CHUNKS):
        pq.write_table(pa.table({"chunk_id": [chunk]}), checkpoint(tmp_path, number))
        pq.write_table(answered(chunk), answers(tmp_path, number))
    return tmp_path


def table(chunk: str) -> pa.Table:
    return pa.table({"answer": [f"answer {n} to {chunk}" for n in range(100)]})


def answered(chunk: str) -> pa.Table:
    row = {"chunk_id": chunk, "answers": packed(table(chunk)), "hardware": "{}", "began": 1.0, "ended": 2.0, **LOAD}
    return pa.Table.from_pylist([row], schema=ANSWERED_CHUNKS)


def checkpoint(work: Path, number: int) -> Path:
    return work / "committed" / f"x{number}.parquet"


def answers(work: Path, number: int) -> Path:
    return work / "answers" / f"x{number}-0.parquet"


def settle(work: Path) -> tuple[set[str], int]:
    found = settle_chunks(work / "committed", work / "answers")
    return set(found.ids), found.damaged


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def overwrite(path: Path) -> None:
    """As a file looks whose footer reached the disk and whose pages did not."""
    data = bytearray(path.read_bytes())
    data[4 : len(data) // 3] = bytes(len(data) // 3 - 4)
    path.write_bytes(data)


def remove(path: Path) -> None:
    path.unlink()


def test_settle_chunks_of_whole_files_keeps_them_all(work: Path) -> None:
    before = sorted(work.rglob("*.parquet"))
    assert settle(work) == (set(CHUNKS), 0)
    assert sorted(work.rglob("*.parquet")) == before


def test_settle_chunks_before_anything_was_written_finds_none(tmp_path: Path) -> None:
    assert settle(tmp_path) == (set(), 0)


@pytest.mark.parametrize("damage", [truncate, empty, overwrite, remove])
def test_settle_chunks_with_damaged_answers_drops_that_chunk_alone(work: Path, damage: Callable[[Path], None]) -> None:
    damage(answers(work, 1))
    assert settle(work) == ({CHUNKS[0], CHUNKS[2]}, 1)
    assert not checkpoint(work, 1).exists()
    assert not answers(work, 1).exists()
    assert settle(work) == ({CHUNKS[0], CHUNKS[2]}, 0)


@pytest.mark.parametrize("damage", [truncate, empty, overwrite])
def test_settle_chunks_with_a_damaged_checkpoint_drops_its_answers_too(work: Path, damage: Callable[[Path], None]) -> None:
    damage(checkpoint(work, 1))
    assert settle(work) == ({CHUNKS[0], CHUNKS[2]}, 1)
    assert not answers(work, 1).exists()


def test_settle_chunks_whose_answers_are_of_another_chunk_drops_them(work: Path) -> None:
    answers(work, 0).write_bytes(answers(work, 1).read_bytes())
    assert settle(work) == ({CHUNKS[1], CHUNKS[2]}, 1)


def test_settle_chunks_leaves_pending_checkpoints_to_ray_data(work: Path) -> None:
    pending = work / "committed" / "x9.pending.parquet"
    pending.write_bytes(b"PAR1")
    assert settle(work) == (set(CHUNKS), 0)
    assert pending.exists()


def test_settle_chunks_that_the_system_does_not_let_it_read_raises_and_deletes_nothing(work: Path) -> None:
    answers(work, 0).unlink()
    answers(work, 0).symlink_to(answers(work, 0))
    with pytest.raises(OSError, match="symbolic links"):
        settle(work)
    assert checkpoint(work, 0).exists()
    assert answers(work, 0).is_symlink()


def test_settle_chunks_whose_answers_have_other_columns_drops_them(work: Path) -> None:
    pq.write_table(pa.table({"chunk_id": [CHUNKS[0]], "answers": [["as another version wrote it"]]}), answers(work, 0))
    assert settle(work) == ({CHUNKS[1], CHUNKS[2]}, 1)


def test_committed_since_reports_each_chunk_once_and_none_that_is_pending(work: Path) -> None:
    files = ChunkFiles(work)
    hidden = checkpoint(work, 2).rename(work / "committed" / "x2.pending.parquet")
    assert files.committed_since() == {CHUNKS[0], CHUNKS[1]}
    assert files.committed_since() == frozenset()
    hidden.rename(checkpoint(work, 2))
    assert files.committed_since() == {CHUNKS[2]}


def test_read_returns_the_chunks_that_are_asked_for_with_their_tables(work: Path) -> None:
    files = ChunkFiles(work)
    files.committed_since()
    found = {row["chunk_id"]: row for row in files.read([CHUNKS[2], CHUNKS[0]]).to_pylist()}
    assert set(found) == {CHUNKS[0], CHUNKS[2]}
    assert all(unpacked(row["answers"]).equals(table(chunk)) for chunk, row in found.items())
    assert len(files.read([])) == 0


def test_read_of_a_chunk_whose_file_has_another_one_is_refused(work: Path) -> None:
    files = ChunkFiles(work)
    files.committed_since()
    answers(work, 0).write_bytes(answers(work, 1).read_bytes())
    with pytest.raises(RuntimeError, match="1 chunks were asked for, 0 came back"):
        files.read([CHUNKS[0]])
