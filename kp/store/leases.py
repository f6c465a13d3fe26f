"""The lease that keeps two drivers from doing the same work.

A lease is a file in the folder of the work. Its holder renews it; when the holder dies, another may take it: on the same host as soon as
the process is gone, on another host once the file has not been renewed for a while. Ages are told by the file system's own clock, so hosts
whose clocks differ by an hour do not rob each other.

A driver that stalled for longer than that, on a network file system that did not answer, has lost its lease when it wakes. It renews only a
lease that is still its own, and must not publish anything more: `Lease.check` says so, before every commit.
"""

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from kp.errors import UserError
from kp.store.files import read_json

HEARTBEAT_SECONDS = 10.0
STALE_SECONDS = 60.0  # a lease on another host whose heartbeat is older than this is taken over

LEASE = "lease.json"


@dataclass(frozen=True)
class Lease:
    """A lease that this process took."""

    folder: Path
    what: str
    token: str

    @property
    def is_held(self) -> bool:
        """Whether it is still this process's."""
        return (read_json(self.folder / LEASE) or {}).get("token") == self.token

    def renew(self) -> None:
        """Show that its holder lives."""
        os.utime(self.folder / LEASE)  # without a time: the file system's own

    def check(self) -> None:
        """Raise UserError if another process has taken it over."""
        if not self.is_held:
            holder = read_json(self.folder / LEASE) or {}
            by = f"process {holder['pid']} on {holder['host']}" if holder else "another process"
            raise lost_to(self.what, by)


@contextlib.contextmanager
def lease(folder: Path, what: str) -> Iterator[Lease]:
    """Hold `folder` for this process; raises UserError naming the holder if a living one has it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LEASE
    mine = this_process()
    _take(path, mine, what)
    held = Lease(folder, what, mine["token"])
    try:
        with renewed(held, HEARTBEAT_SECONDS):
            yield held
    finally:
        if held.is_held:
            path.unlink(missing_ok=True)


class Renewable(Protocol):
    """A lease that its holder renews."""

    @property
    def is_held(self) -> bool:
        """Whether it is still this process's."""
        ...

    def renew(self) -> None:
        """Show that its holder lives; raises OSError if the store does not answer."""
        ...


@contextlib.contextmanager
def renewed(held: Renewable, seconds: float) -> Iterator[None]:
    """Renew a lease every so many seconds within the block, until it is lost."""
    stop = threading.Event()
    beat = threading.Thread(target=_renew, args=(held, seconds, stop), daemon=True)
    beat.start()
    try:
        yield
    finally:
        stop.set()
        beat.join()


def this_process() -> dict[str, Any]:
    """A holder: `host`, `pid` and `started` of this process, and a `token` that no other has."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": _process_started(os.getpid()), "token": uuid.uuid4().hex}


def lives_here(holder: Mapping[str, Any]) -> bool | None:
    """Whether a holder's process is alive; None if it is one of another host."""
    return _process_started(holder["pid"]) == holder["started"] if holder["host"] == socket.gethostname() else None


def held_by(what: str, holder: Mapping[str, Any]) -> UserError:
    """What a second driver is told."""
    return UserError(f"{what} is being worked on by process {holder.get('pid')} on {holder.get('host')}; wait for it, or stop it first")


def lost_to(what: str, by: str) -> UserError:
    """What a driver is told whose lease was taken over."""
    return UserError(f"{what} was taken over by {by} while this one did not respond, so it writes nothing more; wait for that one")


def lease_holder(folder: Path) -> dict[str, Any] | None:
    """The living holder of the folder's lease (`host`, `pid`, `started`), or None; changes nothing that stays."""
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
                raise held_by(what, holder) from None
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
    if holder and (lives := lives_here(holder)) is not None:
        return lives
    try:  # also one that was just made and is not written yet, or is damaged
        return _now(path.parent) - path.stat().st_mtime < STALE_SECONDS
    except FileNotFoundError:
        return False


def _now(folder: Path) -> float:
    """What time it is for the file system that has this folder; for this host, if it takes no file."""
    probe = folder / f".{LEASE}.now.{uuid.uuid4().hex}"
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError:
        return time.time()
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)


def _process_started(pid: int) -> float | None:
    """When a process of this host started, or None if it is dead; distinguishes a reused id from the old holder."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.NoSuchProcess:
        return None


def _renew(held: Renewable, seconds: float, stop: threading.Event) -> None:
    """Until it is given back or lost."""
    while not stop.wait(seconds):
        with contextlib.suppress(OSError):  # the store does not answer now; it may in a while
            if not held.is_held:
                return
            held.renew()
