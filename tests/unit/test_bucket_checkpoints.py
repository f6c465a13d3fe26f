"""Checkpoints and chunks in a bucket, on a real S3 API whose listings never show anything: what one node kept, another finds."""

from pathlib import Path

import pyarrow as pa
import pytest

from kp.inference.bucket_chunks import BucketChunks, keep_chunk
from kp.inference.chunk_files import ANSWERED_CHUNKS
from kp.store.bucket import Bucket
from kp.store.bucket_folder import BucketFolder
from kp.training.bucket_checkpoints import NEWEST, BucketCheckpoints
from kp.training.checkpoints import FAILURE, RUNNING
from kp.vocabulary import TrialStatus
from tests.object_storage import BUCKET, ObjectStorage

LIFE, OTHER = "life", "other"


@pytest.fixture
def work(storage: ObjectStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BucketFolder:
    """A folder of its own in the bucket, on a node of its own."""
    monkeypatch.setenv("KP_RESULTS_CACHE", str(tmp_path / "node"))
    return BucketFolder(Bucket(f"s3://{BUCKET}/{tmp_path.name}"), "work/trial/x")


def prefix(work: BucketFolder) -> str:
    return f"{work.bucket.url.removeprefix(f's3://{BUCKET}/')}/{work.key}"


def save(work: BucketFolder, epoch: int, life: str = LIFE, world: int = 1, content: str = "") -> None:
    """As the workers of a trial do after an epoch."""
    kept = BucketCheckpoints(work)
    kept.begin(epoch, life)
    for rank in range(world):
        folder = kept.unfinished(epoch, life, rank)
        (folder / "adapter").mkdir()
        (folder / "adapter" / f"weights-{rank}").write_text(content or f"epoch {epoch}")
        kept.saved(epoch, life, rank)
    kept.commit(epoch, life, world)


def text(folder: Path | None, name: str = "adapter/weights-0") -> str:
    assert folder is not None
    return (folder / name).read_text()


def test_newest_checkpoint_is_found_on_another_node(work: BucketFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert BucketCheckpoints(work).newest() is None
    for epoch in (1, 2, 3):
        save(work, epoch)
    monkeypatch.setenv("KP_RESULTS_CACHE", str(tmp_path / "other node"))
    newest = BucketCheckpoints(work).newest()
    assert text(newest) == "epoch 3"
    assert newest is not None
    assert newest.is_relative_to(tmp_path / "other node")


def test_files_of_all_workers_are_in_the_checkpoint(work: BucketFolder) -> None:
    save(work, 1, world=2)
    newest = BucketCheckpoints(work).newest()
    assert [text(newest, f"adapter/weights-{rank}") for rank in (0, 1)] == ["epoch 1"] * 2


def test_checkpoint_of_which_a_worker_has_not_saved_is_not_committed(work: BucketFolder) -> None:
    kept = BucketCheckpoints(work)
    (kept.unfinished(1, LIFE, 0) / "weights").write_text("half")
    kept.saved(1, LIFE, 0)
    with pytest.raises(FileNotFoundError, match=r"worker-1\.json is missing"):
        kept.commit(1, LIFE, 2)
    assert kept.newest() is None


def test_checkpoint_whose_workers_were_killed_before_its_commit_does_not_count(work: BucketFolder) -> None:
    save(work, 1)
    kept = BucketCheckpoints(work)
    (kept.unfinished(2, LIFE, 0) / "weights").write_text("epoch 2")
    kept.saved(2, LIFE, 0)
    assert text(kept.newest()) == "epoch 1"


def test_checkpoint_that_nobody_announced_is_found(work: BucketFolder) -> None:
    for epoch in (1, 2):
        save(work, epoch)
    work.write_json(NEWEST, {"epoch": 1})  # the worker was killed after it had committed the second
    assert text(BucketCheckpoints(work).newest()) == "epoch 2"


def test_workers_that_were_cut_off_cannot_publish_over_their_successors(work: BucketFolder) -> None:
    save(work, 1)
    save(work, 1, life=OTHER, content="late")
    assert text(BucketCheckpoints(work).newest()) == "epoch 1"


def test_workers_that_were_cut_off_long_ago_do_not_set_the_trial_back(work: BucketFolder) -> None:
    for epoch in (1, 2, 3, 4):
        save(work, epoch)
    save(work, 1, life=OTHER, content="late")  # the files of the first are deleted by now
    assert text(BucketCheckpoints(work).newest()) == "epoch 4"


def test_only_the_last_two_checkpoints_keep_their_files(work: BucketFolder, storage: ObjectStorage) -> None:
    for epoch in (1, 2, 3, 4):
        save(work, epoch)
    weights = [key.split("/")[-3] for key in storage.stored(prefix(work)) if "weights" in key]
    assert weights == [f"0003-{LIFE}", f"0004-{LIFE}"]


@pytest.mark.parametrize("content", [b"epoch 3", b"", None])
def test_damaged_checkpoint_is_passed_over_and_replaced_when_its_epoch_is_trained_again(
    work: BucketFolder, storage: ObjectStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    save(work, 1)
    save(work, 2)
    key = f"{prefix(work)}/epochs/0002-{LIFE}/adapter/weights-0"
    storage.client.delete_object(Bucket=BUCKET, Key=key) if content is None else storage.put(key, content)
    monkeypatch.setenv("KP_RESULTS_CACHE", str(tmp_path / "other node"))
    assert text(BucketCheckpoints(work).newest()) == "epoch 1"
    save(work, 2, life=OTHER)
    assert text(BucketCheckpoints(work).newest()) == "epoch 2"


def test_only_the_parts_that_are_read_are_brought(work: BucketFolder, storage: ObjectStorage) -> None:
    kept = BucketCheckpoints(work)
    for name in ("progress.json", "engine.pt"):
        (kept.unfinished(1, LIFE, 0) / name).write_text("content")
    kept.saved(1, LIFE, 0)
    kept.commit(1, LIFE, 1)
    assert text(kept.newest("progress.json"), "progress.json") == "content"
    assert storage.count("GET", f"{prefix(work)}/epochs/0001-{LIFE}/engine.pt") == 0


def test_failure_is_noted_until_workers_start_again(work: BucketFolder) -> None:
    kept = BucketCheckpoints(work)
    kept.note_running()
    kept.note_failure(TrialStatus.FAILED, "no room", "one\ntwo")
    assert work.read_json(FAILURE) == {"status": "failed", "cause": "no room", "stderr": ["one", "two"]}
    assert work.read_json(RUNNING) is None
    kept.note_running()
    assert work.read_json(FAILURE) is None


def chunk(chunk_id: str) -> pa.Table:
    row = {"chunk_id": chunk_id, "answers": b"answers", "hardware": "{}", "began": 0.0, "ended": 1.0, "load_began": 0.0, "load_ended": 0.0}
    return pa.Table.from_pylist([row], schema=ANSWERED_CHUNKS)


def test_chunks_of_an_earlier_run_are_found_by_their_names(work: BucketFolder) -> None:
    for chunk_id in ("a/1", "b"):
        keep_chunk(work, chunk(chunk_id))
    chunks = BucketChunks(work, ["a/1", "b", "c"])
    assert chunks.settle().damaged == 0
    assert chunks.committed_since() == {"a/1", "b"}
    keep_chunk(work, chunk("c"))
    chunks.note(["c"])
    assert chunks.committed_since() == {"c"}
    assert chunks.committed_since() == frozenset()
    assert chunks.read(["c", "a/1"])["chunk_id"].to_pylist() == ["c", "a/1"]
    assert chunks.read(["a/1"])["answers"].to_pylist() == [b"answers"]  # read once more


def test_chunk_that_was_not_kept_cannot_be_read(work: BucketFolder) -> None:
    with pytest.raises(RuntimeError, match="chunk a was committed and cannot be read"):
        BucketChunks(work, ["a"]).read(["a"])


@pytest.mark.parametrize("damage", ["emptied", "cut", "flipped", "another"])
def test_damaged_chunk_alone_is_made_again(work: BucketFolder, storage: ObjectStorage, damage: str) -> None:
    keep_chunk(work, chunk("good"))
    keep_chunk(work, chunk("bad"))
    before = set(storage.stored(prefix(work)))
    keep_chunk(work, chunk("third"))
    (of_third,) = set(storage.stored(prefix(work))) - before
    content = storage.read(of_third)
    middle = content.index(b"PAR1") + 60
    flipped = content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]
    other = storage.read(sorted(before)[0])
    storage.put(of_third, {"emptied": b"", "cut": content[:-20], "flipped": flipped, "another": other}[damage])
    chunks = BucketChunks(work, ["good", "bad", "third"])
    assert chunks.settle().damaged == 1
    assert chunks.committed_since() == {"good", "bad"}
