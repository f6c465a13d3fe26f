"""A trial's checkpoints: one folder per epoch, whole or not counted.

Workers write into a folder of their own, whose contents are listed with sizes and digests when all of them have written, and which is then
renamed into place; if a worker is killed before that, readers ignore what it left. A checkpoint counts only if its files are still those:
one that a full disk cut short or a bad block changed is passed over, and the trial goes on from the one before it. That is why two are
kept. A trial's folder does not depend on the workers that train it, so any workers can continue from there. Workers that were cut off from
the others and live on write into another folder than their successors, so the files of two never mix.
"""

import json
import shutil
import time
from pathlib import Path
from typing import Any

from kp.store import files
from kp.vocabulary import TrialStatus

EPOCHS_FOLDER = "epochs"
UNFINISHED = "unfinished"
CONTENTS = "contents.json"
KEPT = 2
RUNNING = "running.json"
FAILURE = "failure.json"


def newest(trial_folder: Path) -> Path | None:
    """The newest checkpoint of a trial that is whole, or None; reads all of its files."""
    return next((folder for folder in reversed(committed(trial_folder)) if is_whole(folder)), None)


def committed(trial_folder: Path) -> list[Path]:
    """All committed checkpoints of a trial, oldest first, damaged ones among them."""
    epochs = trial_folder / EPOCHS_FOLDER
    return sorted(path for path in epochs.glob("[0-9]*") if path.is_dir()) if epochs.is_dir() else []


def is_whole(checkpoint: Path) -> bool:
    """Whether every file of a checkpoint is what its workers wrote."""
    listed = files.read_json(checkpoint / CONTENTS)
    return isinstance(listed, dict) and files.is_intact(checkpoint, listed)


def begin(trial_folder: Path, epoch: int, life: str) -> Path:
    """Make an empty folder for the checkpoint of this epoch by workers with this `life`, and remove what others left."""
    shutil.rmtree(trial_folder / UNFINISHED, ignore_errors=True)
    folder = unfinished(trial_folder, epoch, life)
    folder.mkdir(parents=True)
    return folder


def unfinished(trial_folder: Path, epoch: int, life: str) -> Path:
    """The folder that `begin` made, for the other workers of the trial.

    Its name contains the epoch, because a node of a network file system may for a while resolve an old name to the folder that had it.
    """
    return trial_folder / UNFINISHED / f"{epoch:04d}-{life}"


def commit(trial_folder: Path, epoch: int, life: str) -> Path:
    """Publish the folder that `begin` made as the checkpoint of this epoch, and delete all but the last two checkpoints.

    If workers of another life were first, theirs stays: it is the same by definition.
    """
    made, final = unfinished(trial_folder, epoch, life), trial_folder / EPOCHS_FOLDER / f"{epoch:04d}"
    files.write_json(made / CONTENTS, files.described(made))
    final.parent.mkdir(exist_ok=True)
    if final.exists():
        if is_whole(final):
            shutil.rmtree(made, ignore_errors=True)
            return final
        shutil.rmtree(final, ignore_errors=True)
    made.rename(final)
    for old in committed(trial_folder)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return final


class FolderCheckpoints:
    """Those of a trial in a folder that all of its workers share; as kp.training.bucket_checkpoints has them for a bucket."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def newest(self, *parts: str) -> Path | None:
        """The folder of the newest whole checkpoint; `parts` name what the caller reads of it, by default all."""
        return newest(self._folder)

    def begin(self, epoch: int, life: str) -> None:
        """Called by one worker before any of them saves."""
        begin(self._folder, epoch, life)

    def unfinished(self, epoch: int, life: str, rank: int) -> Path:
        """Where the worker of this rank saves its files."""
        return unfinished(self._folder, epoch, life)

    def saved(self, epoch: int, life: str, rank: int) -> None:
        """Called by each worker once it has saved."""

    def commit(self, epoch: int, life: str, world: int) -> None:
        """Called by one worker once all of them have saved."""
        commit(self._folder, epoch, life)

    def note_running(self) -> None:
        """See `note_running`."""
        note_running(self._folder)

    def note_failure(self, status: TrialStatus, cause: str, stderr: str = "") -> None:
        """See `note_failure`."""
        note_failure(self._folder, status, cause, stderr)


def note_running(trial_folder: Path) -> None:
    """Record that workers have started the trial, and forget the failure of an earlier attempt."""
    trial_folder.mkdir(parents=True, exist_ok=True)
    (trial_folder / FAILURE).unlink(missing_ok=True)
    files.write_json(trial_folder / RUNNING, {"started": time.time()})


def note_failure(trial_folder: Path, status: TrialStatus, cause: str, stderr: str = "") -> None:
    """Record why the last attempt failed, for anyone who looks at the study before the next attempt; `stderr` is what its workers wrote."""
    trial_folder.mkdir(parents=True, exist_ok=True)
    files.write_json(trial_folder / FAILURE, {"status": status.value, "cause": cause, "stderr": stderr.splitlines()})
    (trial_folder / RUNNING).unlink(missing_ok=True)


def failure(trial_folder: Path) -> dict[str, Any] | None:
    """What `note_failure` recorded: `status`, `cause` and `stderr` (lines); None if there is nothing."""
    path = trial_folder / FAILURE
    found: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    return found
