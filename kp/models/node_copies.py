"""One copy of a model on each node's own disk, for models whose files lie on storage that all nodes share.

Every actor and worker loads the whole model: 64 of them that read 16 GB from one file server are a terabyte. Where `$KP_MODEL_CACHE` names
a folder of the node's own disk, the first process that needs the model copies its files there, and all processes of the node load the copy.
Only a folder that the user has named is used: which of a node's disks is its own, and has room, cannot be told from outside.

A process copies under a lock, which ends with it, into a folder of another name, and writes `record.json` last; so a copy that was broken
off is not taken for one, and the next process begins anew. The digest of what was read is compared with what the files are known to have.
A copy whose files no longer have the sizes and times of its record is made again.
"""

import contextlib
import errno
import hashlib
import logging
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from kp.errors import UserError
from kp.models.digests import remembered_sha256
from kp.models.folders import model_files
from kp.models.names import NAME_FIELD, ResolvedModel
from kp.store import files
from kp.store.file_locks import locked

VARIABLE = "KP_MODEL_CACHE"
SPARE = 1 << 30
"""Bytes that a copy leaves free on the node's disk."""

_RECORD = "record.json"
_PIECE = 1 << 24  # bytes that are read at once
_SHARED = re.compile(
    r"nfs4?|cifs|smb3|lustre|gpfs|beegfs\w*|ceph|glusterfs|wekafs|panfs|fuse\.(ceph\S*|glusterfs|gcsfuse|juicefs|s3fs|sshfs)"
)

_log = logging.getLogger(__name__)


def copies_root() -> Path | None:
    """This node's folder for copies of models: `$KP_MODEL_CACHE`; None where it is not set. Raises UserError for a relative path."""
    named = os.environ.get(VARIABLE)
    if not named:
        return None
    root = Path(named).expanduser()
    if not root.is_absolute():
        raise UserError(f"{named}: processes of a node run in different folders; give an absolute path", field=VARIABLE)
    return root


def copy_name(model: ResolvedModel) -> str:
    """The name of a model's copy: a revision stands for content, so copies of other content have other names."""
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', Path(model.name).name)}-{model.revision}"


def on_this_node(model: ResolvedModel, field: str = NAME_FIELD) -> ResolvedModel:
    """The model in this node's copy, which is made if it is not there; the model as it is if the node keeps no copies.

    Waits for another process that makes the copy. Raises UserError naming $KP_MODEL_CACHE if there is no room or no permission for it, and
    one for `field`, the config field of the model, if its files cannot be read or are damaged.
    """
    root = copies_root()
    if root is None:
        return model
    copy = root / copy_name(model)
    if not is_whole(copy):
        with _alone(root, copy, model):
            if not is_whole(copy):  # the process that had the lock before has made it
                _remove_rests(copy)
                _make(model, copy, field)
    return replace(model, path=str(copy))


def room_fault(name: str, size: int) -> str | None:
    """What this node lacks for a copy of `size` bytes with this `copy_name`, as the end of a sentence; None if nothing."""
    root = copies_root()
    if root is None or is_whole(root / name):
        return None
    there = next(folder for folder in (root, *root.parents) if folder.is_dir())
    if not os.access(there, os.W_OK | os.X_OK):
        return f"is to be copied to {root} ({VARIABLE}), which this user cannot write there"
    free = shutil.disk_usage(there).free
    return None if free >= size + SPARE else f"is to be copied to {root} ({VARIABLE}): {_room(size, free)}"


def is_whole(copy: Path) -> bool:
    """Whether it is a copy whose files are as they were written."""
    record: Any = files.read_json(copy / _RECORD)
    try:
        return record is not None and all(_stamp(copy / name) == [one["bytes"], one["mtime_ns"]] for name, one in record["files"].items())
    except (OSError, LookupError, TypeError, AttributeError):  # a file is not there, or it is no record
        return False


def shared_file_system(path: Path, mounts: Path = Path("/proc/mounts")) -> str | None:
    """The kind of the file system with this path if other machines mount it as well (nfs4, lustre, ...); otherwise, or not known, None."""
    try:
        lines = [line.split() for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return None
    above = {str(folder) for folder in (path.resolve(), *path.resolve().parents)}
    found = [(len(line[1]), number, line[2]) for number, line in enumerate(lines) if len(line) > 2 and line[1] in above]
    kind = max(found, default=(0, 0, ""))[2]  # the innermost mount, and of several at one place the last
    return kind if _SHARED.fullmatch(kind) else None


@contextlib.contextmanager
def _alone(root: Path, copy: Path, model: ResolvedModel) -> Iterator[None]:
    def waits() -> None:
        _log.warning("waiting for another process of this node, which copies '%s' to %s", model.name, copy)

    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(root / f"{copy.name}.lock", waits))
        except OSError as error:
            raise UserError(
                f"{root}: cannot be used for copies of models: {error.strerror}; name a local folder", field=VARIABLE
            ) from error
        yield


def _remove_rests(copy: Path) -> None:
    """Remove what processes left that were killed, and a copy that is damaged; processes that have it open keep reading their files."""
    if copy.exists():
        copy.rename(copy.with_name(f".{copy.name}.{uuid.uuid4().hex}"))
    for rest in copy.parent.glob(f".{copy.name}.*"):
        shutil.rmtree(rest)


def _make(model: ResolvedModel, copy: Path, field: str) -> None:
    sources = model_files(Path(model.path))
    size = sum(file.stat().st_size for file in sources)
    free = shutil.disk_usage(copy.parent).free
    if free < size + SPARE:
        raise UserError(f"{copy.parent}: no room for a copy of '{model.name}': {_room(size, free)}", field=VARIABLE)
    _log.warning("copying '%s', %.1f GB, from %s to %s", model.name, size / 1e9, model.path, copy)
    with files.staging(copy) as staged:
        listed = {}
        for file in sources:
            listed[file.name] = _copied(file, staged / file.name, field)
            known = _known_digest(file)
            if known is not None and known != listed[file.name]["sha256"]:
                raise UserError(f"'{model.name}': {file.name} is not what it was when it was fetched: fetch it again", field=field)
        files.write_json(staged / _RECORD, {"name": model.name, "revision": model.revision, "files": listed})
        staged.rename(copy)


def _copied(source: Path, target: Path, field: str) -> dict[str, Any]:
    """Copy a file onto the disk; returns its size, time of change, and the digest of what was read."""
    digest = hashlib.sha256()
    with _opened(source, field) as reading, target.open("wb") as writing:
        while piece := _read(reading, source, field):
            digest.update(piece)
            try:
                writing.write(piece)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                told = f"{target.parent.parent}: is full: make room, or unset {VARIABLE} to have models read from where they lie"
                raise UserError(told, field=VARIABLE) from error
        writing.flush()
        os.fsync(writing.fileno())
    size, changed = _stamp(target)
    return {"bytes": size, "mtime_ns": changed, "sha256": digest.hexdigest()}


def _opened(source: Path, field: str) -> Any:
    try:
        return source.open("rb", buffering=0)
    except OSError as error:
        raise UserError(f"{source}: cannot be read: {error.strerror}", field=field) from error


def _read(reading: Any, source: Path, field: str) -> bytes:
    try:
        piece: bytes = reading.read(_PIECE)
    except OSError as error:
        raise UserError(f"{source}: cannot be read: {error.strerror}", field=field) from error
    return piece


def _known_digest(file: Path) -> str | None:
    """The SHA-256 that a model's file must have: it was hashed, or the Hub's cache has named it by that; None if it is not known."""
    stored = file.resolve().name
    return stored if re.fullmatch(r"[0-9a-f]{64}", stored) else remembered_sha256(file)


def _stamp(file: Path) -> list[int]:
    status = file.stat()
    return [status.st_size, status.st_mtime_ns]


def _room(size: int, free: int) -> str:
    return (
        f"it has {size / 2**30:.1f} GiB and leaves 1 GiB free, and {free / 2**30:.1f} GiB are free there; make room, name another folder, "
        f"or unset {VARIABLE} to have models read from where they lie"
    )
