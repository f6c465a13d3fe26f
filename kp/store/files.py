"""Atomic files and folders, and the lease that prevents two drivers from doing the same work.

A folder is staged next to its final place and renamed, so a reader never sees an incomplete one. The results root must therefore be on a
file system that renames atomically: a local disk, or NFS shared by the nodes of a cluster.
"""

import contextlib
import hashlib
import json
import os
import shutil
import socket
import stat
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kp.errors import UserError

HEARTBEAT_SECONDS = 10.0
STALE_SECONDS = 60.0  # a lease on another host whose heartbeat is older than this is taken over

LEASE = "lease.json"
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


@contextlib.contextmanager
def lease(folder: Path, what: str) -> Iterator[None]:
    """Hold `folder` for this process; raises UserError naming the holder if a living one has it.

    A killed holder leaves its lease: on this host its process id shows that it is dead, on another host the age of its heartbeat.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LEASE
    mine = {"host": socket.gethostname(), "pid": os.getpid(), "started": _process_started(os.getpid()), "token": uuid.uuid4().hex}
    _take(path, mine, what)
    stop = threading.Event()
    beat = threading.Thread(target=_heartbeat, args=(path, stop), daemon=True)
    beat.start()
    try:
        yield
    finally:
        stop.set()
        beat.join()
        if (read_json(path) or {}).get("token") == mine["token"]:
            path.unlink(missing_ok=True)


def lease_holder(folder: Path) -> dict[str, Any] | None:
    """The living holder of the folder's lease (`host`, `pid`, `started`), or None; changes nothing."""
    path = folder / LEASE
    holder: dict[str, Any] = read_json(path) or {}
    return holder if holder and _is_alive(path, holder) else None


def _take(path: Path, mine: dict[str, Any], what: str) -> None:
    while True:
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            holder = read_json(path) or {}
            if _is_alive(path, holder):
                raise UserError(
                    f"{what} is being worked on by process {holder.get('pid')} on {holder.get('host')}; wait for it, or stop it first"
                ) from None
            # Renaming first makes sure that only one of several drivers that see a dead lease removes it.
            trash = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
            with contextlib.suppress(FileNotFoundError):
                path.rename(trash)
                trash.unlink()
            continue
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(mine, file)
        except OSError:  # on a full disk an empty lease would keep the next run out for a while
            path.unlink(missing_ok=True)
            raise
        return


def _is_alive(path: Path, holder: dict[str, Any]) -> bool:
    try:
        age = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return False
    if not holder:  # just made and not yet written, or damaged
        return age < STALE_SECONDS
    if holder["host"] == socket.gethostname():
        return _process_started(holder["pid"]) == holder["started"]
    return age < STALE_SECONDS


def _process_started(pid: int) -> float | None:
    """When a process of this host started, or None if it is dead; distinguishes a reused id from the old holder."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.NoSuchProcess:
        return None


def _heartbeat(path: Path, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_SECONDS):
        with contextlib.suppress(FileNotFoundError):
            os.utime(path)
