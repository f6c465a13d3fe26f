"""A trial's checkpoints in a bucket, so that it is resumed on whatever node comes next.

A worker saves on its own node, puts its files below a key that no other workers use (`epochs/EPOCH-LIFE/`), and lists them there. Once all
have, one of them creates `epochs/EPOCH.json`, which lists the files of all with their digests and names that key. It is created once: of
workers that were cut off and their successors, one alone publishes an epoch. Nothing is listed by the store: `newest.json` says where to
begin, and the lists of later epochs are asked for one by one.
"""

import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from kp.store.bucket_folder import BucketFolder, Bundle, DamagedBundleError, WorkFolder
from kp.training.checkpoints import EPOCHS_FOLDER, FAILURE, KEPT, RUNNING, UNFINISHED, FolderCheckpoints
from kp.vocabulary import TrialStatus

NEWEST = "newest.json"


class BucketCheckpoints:
    """As `FolderCheckpoints`."""

    def __init__(self, folder: BucketFolder) -> None:
        self._folder = folder
        self._epochs = folder / EPOCHS_FOLDER

    def newest(self, *parts: str) -> Path | None:
        """This node's copy of the newest checkpoint of which these parts, by default all, are whole."""
        last = self._last()
        for epoch in range(last, max(0, last - KEPT), -1):
            bundle = self._bundle(epoch)
            with suppress(DamagedBundleError):
                if bundle is not None:
                    return bundle.fetched(*parts)
        return None

    def begin(self, epoch: int, life: str) -> None:
        """Called by one worker before any of them saves."""

    def unfinished(self, epoch: int, life: str, rank: int) -> Path:
        """Where the worker of this rank saves its files: on its own node."""
        folder = self._folder.path / UNFINISHED / life / f"{epoch:04d}-{rank}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def saved(self, epoch: int, life: str, rank: int) -> None:
        """Called by each worker once it has saved: put its files into the bucket."""
        folder = self.unfinished(epoch, life, rank)
        listed = self._epochs.upload(_name(epoch, life), folder)
        self._epochs.write_json(_part(epoch, life, rank), listed)
        shutil.rmtree(folder, ignore_errors=True)

    def commit(self, epoch: int, life: str, world: int) -> None:
        """Called by one worker once all of them have saved; what other workers committed as this epoch stays if it is whole."""
        listed: dict[str, Any] = {}
        for rank in range(world):
            of_worker = self._epochs.read_json(_part(epoch, life, rank))
            if of_worker is None:
                raise FileNotFoundError(f"{self._epochs}/{_part(epoch, life, rank)} is missing, though all workers have saved")
            listed |= of_worker
        made = {"name": _name(epoch, life), "files": listed}
        if not self._epochs.create_json(_list(epoch), made):
            if self._is_whole(epoch):
                self._delete(self._epochs.bundle(_name(epoch, life), listed))
                return
            self._epochs.write_json(_list(epoch), made)
        self._folder.write_json(NEWEST, {"epoch": epoch})
        old = self._bundle(epoch - KEPT)
        if old is not None:
            self._delete(old)

    def note_running(self) -> None:
        """Record that workers have started the trial, and forget the failure of an earlier attempt."""
        self._folder.delete([FAILURE])
        self._folder.write_json(RUNNING, {"started": time.time()})

    def note_failure(self, status: TrialStatus, cause: str, stderr: str = "") -> None:
        """Record why the last attempt failed; `stderr` is what its workers wrote."""
        self._folder.write_json(FAILURE, {"status": status.value, "cause": cause, "stderr": stderr.splitlines()})
        self._folder.delete([RUNNING])

    def _last(self) -> int:
        """The last epoch that has a list; 0 if none has."""
        hint = self._folder.read_json(NEWEST)
        epoch = int(hint["epoch"]) if isinstance(hint, Mapping) else 0
        while self._epochs.read_json(_list(epoch + 1)) is not None:  # workers that ended between the two say nothing of the later one
            epoch += 1
        return epoch

    def _bundle(self, epoch: int) -> Bundle | None:
        found = self._epochs.read_json(_list(epoch))
        return self._epochs.bundle(str(found["name"]), found["files"]) if isinstance(found, Mapping) else None

    def _is_whole(self, epoch: int) -> bool:
        bundle = self._bundle(epoch)
        with suppress(DamagedBundleError):
            return bundle is not None and bundle.fetched().is_dir()
        return False

    def _delete(self, bundle: Bundle) -> None:
        """Its files; the list stays, so that the epoch is not published again."""
        bundle.bucket.delete(f"{bundle.key}/{name}" for name in bundle.files)
        shutil.rmtree(bundle.bucket.cache / bundle.key, ignore_errors=True)


Checkpoints = FolderCheckpoints | BucketCheckpoints


def checkpoints_in(work: WorkFolder) -> Checkpoints:
    """The checkpoints of a trial whose unfinished work is kept there."""
    return BucketCheckpoints(work) if isinstance(work, BucketFolder) else FolderCheckpoints(work)


def _name(epoch: int, life: str) -> str:
    return f"{epoch:04d}-{life}"


def _part(epoch: int, life: str, rank: int) -> str:
    return f"{_name(epoch, life)}/worker-{rank}.json"


def _list(epoch: int) -> str:
    return f"{epoch:04d}.json"
