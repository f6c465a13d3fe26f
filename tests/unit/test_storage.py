"""Files appear whole or not at all."""

import errno
import os
import stat
import tempfile
from pathlib import Path

import pytest

from kp.errors import UserError
from kp.store import files


def test_digest_json_same_value_in_another_key_order_is_the_same() -> None:
    assert files.digest_json({"a": 1, "b": [1, 2]}) == files.digest_json({"b": [1, 2], "a": 1})


def test_digest_json_a_value_that_json_cannot_say_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        files.digest_json(float("nan"))


def test_read_json_half_a_file_is_none(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text('{"fingerprint": "ab')
    assert files.read_json(path) is None


def test_staging_an_error_on_the_way_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with files.staging(tmp_path / "final") as staged:
            (staged / "half").write_text("1")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_link_replaces_an_older_link(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        files.link(tmp_path / "latest", tmp_path / name)
    assert (tmp_path / "latest").resolve() == tmp_path / "new"


def test_results_root_an_object_store_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="--results: s3:/"):
        files.results_root(Path("s3://bucket/kp"))


def test_results_root_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be made"):
        files.results_root(tmp_path / "file" / "runs")


def test_results_root_on_a_file_is_refused_as_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--results: .*file: is a file; name a folder"):
        files.results_root(tmp_path / "file")


def test_results_root_where_nothing_can_be_written_is_refused(tmp_path: Path) -> None:
    # A folder that exists and in which even root can make no file.
    with pytest.raises(UserError, match=r"--results: /proc/self/task: cannot be written: .*; name a folder that this user can write"):
        files.results_root(Path("/proc/self/task"))


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_results_root_on_a_disk_that_takes_nothing_is_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(**options: object) -> None:
        raise OSError(number, os.strerror(number), str(tmp_path))

    monkeypatch.setattr(files.tempfile, "TemporaryFile", refuse)
    with pytest.raises(UserError, match=f"--results: {tmp_path}: cannot be written: {os.strerror(number)}"):
        files.results_root(tmp_path)


def test_results_root_with_a_question_mark_is_refused_before_it_is_made(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--results: .*which Ray takes for the end of it"):
        files.results_root(tmp_path / "k?v")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a b", "k#v", "k%20v", "k&v", "é"])
def test_results_root_with_other_marks_in_its_name_is_made(tmp_path: Path, name: str) -> None:
    assert files.results_root(tmp_path / name) == tmp_path / name
    assert list((tmp_path / name).iterdir()) == []


@pytest.mark.parametrize(("umask", "file_mode", "folder_mode"), [(0o022, 0o644, 0o755), (0o027, 0o640, 0o750), (0o077, 0o600, 0o700)])
def test_follow_umask_opens_what_libraries_made_for_their_owner_alone(tmp_path: Path, umask: int, file_mode: int, folder_mode: int) -> None:
    before = os.umask(umask)
    try:
        folder = tmp_path / "step"
        folder.mkdir()
        inner = Path(tempfile.mkdtemp(dir=folder))
        descriptor, name = tempfile.mkstemp(dir=inner)
        os.close(descriptor)
        (folder / "open.txt").write_text("")
        (folder / "link").symlink_to("/etc/hostname")
    finally:
        os.umask(before)
    files.follow_umask(folder)
    modes = {path: stat.S_IMODE(path.lstat().st_mode) for path in (inner, Path(name), folder / "open.txt")}
    assert modes == {inner: folder_mode, Path(name): file_mode, folder / "open.txt": file_mode}
