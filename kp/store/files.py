"""Atomic files and folders.

A folder is staged next to its final place and renamed, so a reader never sees an incomplete one. A results root that is a folder must
therefore be on a file system that renames atomically: a local disk, or NFS shared by the nodes of a cluster.
"""

import contextlib
import hashlib
import json
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kp.errors import UserError

JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # Ray sets it for the entry point of a submitted job
ROOT_FIELD = "--results"  # the option that names the results root, in messages


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_json(value: object) -> str:
    """SHA-256 of a value's canonical JSON; raises TypeError for anything that JSON cannot represent."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def files_below(folder: Path) -> list[Path]:
    """All files below a folder, sorted by path."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def described(folder: Path) -> dict[str, dict[str, Any]]:
    """Size (`bytes`) and digest (`sha256`) of every file below a folder, by its path from there."""
    return {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": digest_file(path)} for path in files_below(folder)
    }


def is_intact(folder: Path, listed: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether every file that `described` listed is still there and the same; others may have come."""
    return all(_is_intact(folder / name, one) for name, one in listed.items())


def _is_intact(path: Path, listed: Mapping[str, Any]) -> bool:
    try:
        return path.stat().st_size == listed["bytes"] and digest_file(path) == listed["sha256"]
    except OSError:  # it is not there, no longer there, or not a file
        return False


def write_json(path: Path, value: object) -> None:
    """Replace a JSON file atomically; it is on disk when this returns."""
    staged = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with staged.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, sort_keys=True, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    staged.replace(path)


def read_json(path: Path) -> Any | None:
    """The value of a JSON file, or None if it is missing or cannot be parsed."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError, UnicodeDecodeError):
        return None


def results_root(root: Path) -> Path:
    """Make the results root; raises UserError if that is not possible, or if nothing can be written there."""
    if "://" in str(root) or ":/" in str(root):
        raise UserError(f"{root}: must be a folder on a local or shared file system that renames atomically", field=ROOT_FIELD)
    if "?" in str(root.absolute()):
        raise UserError(f"{root}: has a '?' in its path, which Ray takes for the end of it; name a folder without", field=ROOT_FIELD)
    if not root.is_absolute() and JOB_VARIABLE in os.environ:
        raise UserError(
            f"{root}: is relative, and a submitted job runs in a temporary folder of one node; name a folder that every node mounts",
            field=ROOT_FIELD,
        )
    if root.exists() and not root.is_dir():
        raise UserError(f"{root}: is a file; name a folder, which is made if it is missing", field=ROOT_FIELD)
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{root}: cannot be made: {error.strerror}; name a folder that this user can write", field=ROOT_FIELD) from error
    try:
        with tempfile.TemporaryFile(dir=root):
            pass
    except OSError as error:
        raise UserError(f"{root}: cannot be written: {error.strerror}; name a folder that this user can write", field=ROOT_FIELD) from error
    return root.resolve()


def confined(path: Path, root: Path) -> Path:
    """The path, if it lies inside the results root whatever links are on the way; UserError if one of them leads out of it."""
    if not path.resolve().is_relative_to(root.resolve()):
        raise UserError(f"{path}: a link leads out of the results root, to {path.resolve()}; remove it", field=ROOT_FIELD)
    return path


def existing_results_root(root: Path) -> Path:
    """The results root, which is only read; raises UserError if there is none."""
    if not root.is_dir():
        raise UserError(f"{root}: there is no such folder; name the one with which the study was run", field=ROOT_FIELD)
    return root.resolve()


def follow_umask(folder: Path) -> None:
    """Give everything below a folder the permissions that the umask says, as the folder has, whoever made it.

    Libraries write a file under another name first and rename it, and such temporary files are only for their owner (safetensors,
    Python's tempfile). The folder's own mode is the umask's, because it was made by mkdir.
    """
    mode = stat.S_IMODE(folder.stat().st_mode)
    for path in folder.rglob("*"):
        if not path.is_symlink():
            path.chmod(mode if path.is_dir() else mode & 0o666)


@contextlib.contextmanager
def staging(final: Path) -> Iterator[Path]:
    """An empty folder next to `final` to fill; removed at the end of the context unless it was renamed."""
    final.parent.mkdir(parents=True, exist_ok=True)
    staged = final.parent / f".{final.name}.{uuid.uuid4().hex}"
    staged.mkdir()
    try:
        yield staged
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def link(path: Path, target: Path) -> None:
    """Point the symbolic link `path` at `target` with a relative path, replacing an older link atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    staged.symlink_to(os.path.relpath(target, path.parent), target_is_directory=True)
    staged.replace(path)
