"""A folder in a bucket, as processes on several nodes share it: small JSON objects, and bundles of files that are read by their digests.

Both classes can be sent to other nodes. A path is only made where it is used: each node has its own copies, in its own cache.
"""

import json
import shutil
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from kp.store import files
from kp.store.bucket import Bucket

Listed = Mapping[str, Mapping[str, Any]]
"""Sizes and digests of files by their path, as `files.described` returns them."""


class DamagedBundleError(Exception):
    """A file of a bundle is missing in the bucket, or is not what was written there."""


@dataclass(frozen=True)
class Bundle:
    """Files below a key of a bucket, which never change once they are listed."""

    bucket: Bucket
    key: str
    files: Listed

    def below(self, name: str) -> "Bundle":
        """The files of a folder of it."""
        return Bundle(self.bucket, f"{self.key}/{name}", {path[len(name) + 1 :]: self.files[path] for path in _part(self.files, name)})

    def fetched(self, *parts: str) -> Path:
        """The folder of this node's copy of these files and folders, by default of all; raises DamagedBundleError."""
        folder = self.bucket.cache / self.key
        wanted = [name for part in parts for name in _part(self.files, part)] if parts else list(self.files)
        if any(not _is_inside(name) for name in wanted):
            raise DamagedBundleError(f"{self.bucket.address(self.key)} lists a file outside of it")
        missing = {name: self.files[name] for name in wanted if not _is_proven(folder / name, self.files[name])}
        try:
            self.bucket.download((f"{self.key}/{name}", folder / name) for name in missing)
        except FileNotFoundError as error:
            raise DamagedBundleError(f"{error.filename} is missing") from error
        for name, listed in missing.items():
            if not _is_proven(folder / name, listed):
                (folder / name).unlink(missing_ok=True)
                raise DamagedBundleError(f"{self.bucket.address(self.key)}/{name} is not what was written there")
        folder.mkdir(parents=True, exist_ok=True)
        return folder


@dataclass(frozen=True)
class BucketFolder:
    """What lies below a key of a bucket."""

    bucket: Bucket
    key: str

    def __truediv__(self, name: str) -> "BucketFolder":
        return BucketFolder(self.bucket, f"{self.key}/{name}" if self.key else name)

    def __str__(self) -> str:
        return self.bucket.address(self.key)

    @property
    def path(self) -> Path:
        """The folder of this node for it, made if it is missing."""
        folder = self.bucket.cache / self.key
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def read(self, name: str) -> bytes | None:
        """An object's content; None if there is no such object."""
        return self.bucket.read(f"{self.key}/{name}")

    def write(self, name: str, data: bytes) -> None:
        """Put an object, whether or not there is one."""
        self.bucket.write(f"{self.key}/{name}", data)

    def modified(self, name: str) -> float | None:
        """As `Bucket.modified`."""
        return self.bucket.modified(f"{self.key}/{name}")

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects; those that are not there are none."""
        self.bucket.delete(f"{self.key}/{name}" for name in names)

    def read_json(self, name: str) -> Any | None:
        """The value of a JSON object; None if it is missing or cannot be parsed."""
        content = self.read(name)
        try:
            return None if content is None else json.loads(content)
        except ValueError:
            return None

    def write_json(self, name: str, value: object) -> None:
        """Put a JSON object, whether or not there is one."""
        self.write(name, _json(value))

    def create_json(self, name: str, value: object) -> bool:
        """Put a JSON object unless there is one; see `Bucket.create`."""
        return self.bucket.create(f"{self.key}/{name}", _json(value))

    def upload(self, name: str, folder: Path) -> dict[str, dict[str, Any]]:
        """Put all files of a folder of this node below `name`; returns them as `files.described` does."""
        listed = files.described(folder)
        self.bucket.upload((folder / path, f"{self.key}/{name}/{path}") for path in listed)
        return listed

    def bundle(self, name: str, listed: Listed) -> Bundle:
        """The files that were uploaded below `name`."""
        return Bundle(self.bucket, f"{self.key}/{name}", listed)

    def forget(self) -> None:
        """Delete all of it that a listing shows, and what this node has of it."""
        with suppress(OSError):  # nobody reads it again
            self.bucket.delete_below(self.key)
        shutil.rmtree(self.bucket.cache / self.key, ignore_errors=True)


WorkFolder = Path | BucketFolder
"""Where unfinished work is kept to be resumed: a folder that every node mounts, or one in a bucket."""

Fetchable = Path | Bundle
"""Files of a finished step that another node reads: a path that every node has, or what it fetches."""


def here(files_of: Fetchable) -> Path:
    """The path of these files on this node, which fetches them if they are in a bucket."""
    return files_of if isinstance(files_of, Path) else files_of.fetched()


def local_path(folder: WorkFolder) -> Path:
    """The folder, or this node's own for one in a bucket."""
    return folder if isinstance(folder, Path) else folder.path


def new_name() -> str:
    """One that nobody has."""
    return uuid.uuid4().hex


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _part(listed: Listed, name: str) -> list[str]:
    """Of these files the one with this name, or those of the folder with this name."""
    return [path for path in listed if path == name or path.startswith(f"{name}/")]


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


_proven: set[tuple[Path, str]] = set()  # files of this node, and the digests that they were found to have


def _is_proven(path: Path, listed: Mapping[str, Any]) -> bool:
    known = path, str(listed["sha256"])
    if known in _proven and path.is_file():
        return True
    if not files.is_intact(path.parent, {path.name: listed}):
        return False
    _proven.add(known)
    return True
