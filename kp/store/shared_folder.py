"""Is a folder one and the same on every node, and does its file system do what the store builds on?

The driver writes a meeting place into it, every node looks for what the driver wrote and leaves something of its own, and the driver looks
for that. A node on which the file system is not mounted has another folder of the same name, or none.
"""

import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kp.errors import UserError
from kp.store.bucket_folder import BucketFolder, WorkFolder

DRIVER = "driver"
LISTING_SECONDS = 10.0  # for which a network file system may show an old listing


@contextmanager
def meeting_place(root: WorkFolder) -> Iterator[WorkFolder]:
    """A folder below the root with a file of the driver's, until the end of the block."""
    place = root / f".meeting-{uuid.uuid4().hex}"
    if isinstance(place, BucketFolder):
        place.write_json(DRIVER, place.key)
    else:
        place.mkdir(parents=True)
        (place / DRIVER).write_text(place.name, encoding="utf-8")
    try:
        yield place
    finally:
        if isinstance(place, BucketFolder):
            place.forget()
        else:
            shutil.rmtree(place, ignore_errors=True)


def met(place: WorkFolder, name: str) -> str | None:
    """Called on a node: leave a file of this name; returns what is wrong with the folder as this node sees it, None if nothing is."""
    return _met_in_bucket(place, name) if isinstance(place, BucketFolder) else _met(place, name)


def _met_in_bucket(place: BucketFolder, name: str) -> str | None:
    try:
        if place.read_json(DRIVER) != place.key:
            return "has not there what was put where the study was started: it is another bucket, or another region's copy"
        place.write_json(name, name)
    except UserError as error:
        return error.message
    except OSError as error:
        return f"cannot be used there: {error.strerror}; check the credentials in that node's environment"
    return None


def _met(place: Path, name: str) -> str | None:
    try:
        found = (place / DRIVER).read_text(encoding="utf-8")
    except FileNotFoundError:
        return "is another folder there than where the study was started: mount the same file system on every node"
    except OSError as error:
        return f"cannot be read there: {error.strerror}"
    if found != place.name:
        return "shows other content there than where the study was started"
    try:
        return _fault_of_file_system(place, name)
    except OSError as error:
        return f"cannot be written there: {error.strerror}"


def _fault_of_file_system(place: Path, name: str) -> str | None:
    staged, left, linked = place / f".{name}", place / name, place / f"{name}.link"
    staged.write_text(name, encoding="utf-8")
    staged.replace(left)
    if left.read_text(encoding="utf-8") != name or staged.exists():
        return "is on a file system that does not rename atomically"
    linked.symlink_to(left.name)
    if linked.resolve().name != left.name:
        return "is on a file system without symbolic links"
    with suppress(FileExistsError):
        os.close(os.open(left, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        return "is on a file system that makes the same file twice, so two runs would not notice each other"
    return None


def unmet(place: WorkFolder, names: Iterable[str]) -> set[str]:
    """Called where the study was started: the names of nodes whose files do not appear here."""
    if isinstance(place, BucketFolder):
        return {name for name in names if place.read_json(name) != name}
    missing, deadline = set(names), time.monotonic() + LISTING_SECONDS
    while True:
        missing -= {path.name for path in place.iterdir()}
        if not missing or time.monotonic() > deadline:
            return missing
        time.sleep(0.2)
