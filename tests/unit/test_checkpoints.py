"""Only a checkpoint that is what its workers wrote counts, and the files of two lives of workers never mix."""

from pathlib import Path

import pytest

from kp.store import files
from kp.training import checkpoints
from kp.training.job import PROGRESS, Progress

LIFE, OTHER = "life", "other"


def written(trial: Path, epoch: int, life: str = LIFE) -> Path:
    """A checkpoint of this epoch, before it is committed."""
    folder = checkpoints.begin(trial, epoch, life)
    Progress(epochs=[{"epoch": n} for n in range(1, epoch + 1)]).save(folder)
    (folder / "engine").mkdir()
    (folder / "engine" / "state.pt").write_bytes(bytes(range(200)))
    return folder


def commit(trial: Path, *epochs: int) -> None:
    for epoch in epochs:
        written(trial, epoch)
        checkpoints.commit(trial, epoch, LIFE)


def test_newest_of_committed_checkpoints_is_the_last_and_two_are_kept(tmp_path: Path) -> None:
    assert checkpoints.newest(tmp_path) is None
    commit(tmp_path, 1, 2, 3)
    newest = checkpoints.newest(tmp_path)
    assert newest is not None
    assert [path.name for path in checkpoints.committed(tmp_path)] == ["0002", "0003"]
    assert (newest.name, len(Progress.load(newest).epochs)) == ("0003", 3)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [empty, cut, flip, Path.unlink])
@pytest.mark.parametrize("name", [PROGRESS, "engine/state.pt", checkpoints.CONTENTS])
def test_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path: Path, damage: object, name: str) -> None:
    commit(tmp_path, 1, 2)
    assert callable(damage)
    damage(tmp_path / checkpoints.EPOCHS_FOLDER / "0002" / name)
    newest = checkpoints.newest(tmp_path)
    assert newest is not None
    assert newest.name == "0001"


def test_damaged_checkpoint_is_replaced_when_its_epoch_is_trained_again(tmp_path: Path) -> None:
    commit(tmp_path, 1, 2)
    empty(tmp_path / checkpoints.EPOCHS_FOLDER / "0002" / PROGRESS)
    commit(tmp_path, 2)
    newest = checkpoints.newest(tmp_path)
    assert newest is not None
    assert (newest.name, len(Progress.load(newest).epochs)) == ("0002", 2)


def test_unfinished_checkpoint_does_not_count(tmp_path: Path) -> None:
    commit(tmp_path, 1)
    written(tmp_path, 2)
    newest = checkpoints.newest(tmp_path)
    assert newest is not None
    assert newest.name == "0001"


def test_workers_that_were_cut_off_cannot_publish_over_their_successors(tmp_path: Path) -> None:
    stale = written(tmp_path, 1, OTHER)
    ours = written(tmp_path, 1)  # workers of another life begin the same epoch
    assert not stale.exists()
    checkpoints.commit(tmp_path, 1, LIFE)
    assert not ours.exists()
    with pytest.raises(FileNotFoundError):
        checkpoints.commit(tmp_path, 1, OTHER)
    (tmp_path / checkpoints.UNFINISHED / f"0001-{OTHER}").mkdir(parents=True)  # or they make it again and go on
    (checkpoints.unfinished(tmp_path, 1, OTHER) / "half.pt").write_bytes(b"half")
    final = checkpoints.commit(tmp_path, 1, OTHER)
    assert sorted(files.described(final)) == [checkpoints.CONTENTS, "engine/state.pt", PROGRESS]
    assert checkpoints.is_whole(final)
