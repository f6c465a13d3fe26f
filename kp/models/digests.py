"""SHA-256 digests of files, remembered in the cache until a file changes, because weights are large."""

import hashlib
import json
from pathlib import Path

from kp.models.names import cache_root
from kp.store import files


def sha256_of(file: Path) -> str:
    """Digest of a file's bytes; cached, because weights are large, until the file's size or modification time changes."""
    if (known := remembered_sha256(file)) is not None:
        return known
    before = _stamp(file)
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    note = _note(file)
    note.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(note, before | {"sha256": digest})
    return digest


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
