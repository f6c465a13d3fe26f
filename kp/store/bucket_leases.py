"""The lease on unfinished work in a bucket, which can neither rename nor change an object under a condition that all stores know.

All of them can create an object that must not exist yet, so a lease is a chain of such objects: the first holder creates `first.json`, and
the one who ends the tenure of the holder with token T creates `after-T.json`, which only one can. The last one of the chain has the lease.
The holder puts its own object again and again, so that its age, by the store's clock, says whether it lives; it gives the lease back by
ending its own tenure, with an object that names nobody.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from kp.errors import UserError
from kp.store.bucket_folder import BucketFolder
from kp.store.leases import STALE_SECONDS, held_by, lives_here, lost_to, renewed, this_process

HEARTBEAT_SECONDS = 20.0  # each is a request for each lease
FIRST = "first.json"
FREE = "free"  # in an object that names nobody

Holder = dict[str, Any]


@dataclass(frozen=True)
class BucketLease:
    """A lease that this process took; `name` is that of its object."""

    folder: BucketFolder
    what: str
    mine: Holder
    name: str

    @property
    def _next(self) -> Holder | None:
        found: Holder | None = self.folder.read_json(_after(self.mine))
        return found

    @property
    def is_held(self) -> bool:
        """Whether it is still this process's."""
        return self._next is None

    def renew(self) -> None:
        """Show that its holder lives."""
        self.folder.write_json(self.name, self.mine)

    def check(self) -> None:
        """Raise UserError if another process has taken it over."""
        taken = self._next
        if taken is not None:
            raise lost_to(self.what, f"process {taken.get('pid')} on {taken.get('host')}")


@contextmanager
def lease(work: BucketFolder, what: str) -> Iterator[BucketLease]:
    """Hold a folder for this process; raises UserError naming the holder if a living one has it."""
    held = _take(work / "lease", what)
    try:
        with renewed(held, HEARTBEAT_SECONDS):
            yield held
    finally:
        with suppress(OSError):  # a store that does not answer has the lease go stale; what the block raised matters more
            held.folder.create_json(_after(held.mine), {FREE: True, "token": held.mine["token"] + "-ended"})


def _after(holder: Holder) -> str:
    return f"after-{holder['token']}.json"


def _take(folder: BucketFolder, what: str) -> BucketLease:
    mine, name = this_process(), FIRST
    while not folder.create_json(name, mine):
        holder = folder.read_json(name)
        if holder is None:
            if folder.read(name) is not None:
                raise UserError(f"{folder}/{name} is not what kp wrote there; delete it")
            continue  # its holder has just deleted all of it
        after = _after(holder)
        if folder.read_json(after) is None and _is_alive(folder, name, holder):
            raise held_by(what, holder)
        name = after
    return BucketLease(folder, what, mine, name)


def _is_alive(folder: BucketFolder, name: str, holder: Holder) -> bool:
    if FREE in holder:
        return False
    lives = lives_here(holder)
    if lives is not None:
        return lives
    written = folder.modified(name)
    return written is not None and folder.bucket.now(folder.key) - written < STALE_SECONDS
