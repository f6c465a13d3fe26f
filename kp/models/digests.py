"""SHA-256 digests of files, remembered in the cache until a file changes, because weights are large."""

import errno
import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from kp.models.names import cache_root
from kp.store import files
from kp.store.file_locks import locked

_log = logging.getLogger(__name__)


def sha256_of(file: Path) -> str:
    """Digest of a file's bytes; cached, because weights are large, until the file's size or modification time changes.

    Of several processes that need it at once, one reads the file.
    """
    if (known := remembered_sha256(file)) is not None:
        return known
    note = _note(file)
    with _alone(note.with_suffix(".lock"), file):
        if (known := remembered_sha256(file)) is not None:  # by the process that had the lock before
            return known
        before = _stamp(file)
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        files.write_json(note, before | {"sha256": digest})
    return digest


@contextmanager
def _alone(lock: Path, file: Path) -> Iterator[None]:
    """Hold a lock; without one where the cache is on a file system that has none, where each process reads the file for itself."""
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(lock, lambda: _log.warning("waiting for another process, which reads %s", file)))
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            _log.warning("%s is on a file system without locks", lock.parent)
        yield


def remembered_sha256(file: Path) -> str | None:
    """The digest if it is known and the file has not changed since; None otherwise."""
    try:
        note = json.loads(_note(file).read_text(encoding="utf-8"))
        return str(note["sha256"]) if {key: note.get(key) for key in ("path", "size", "mtime_ns")} == _stamp(file) else None
    except (OSError, ValueError, KeyError):
        return None


def _stamp(file: Path) -> dict[str, str | int]:
    status = file.stat()
    return {"path": str(file.resolve()), "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _note(file: Path) -> Path:
    return cache_root() / "digests" / f"{hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:32]}.json"
