"""A trial's checkpoints: one folder per epoch, complete or absent.

Workers write into a temporary folder, which is renamed into place once all of them have written; if a worker is killed before that, readers
ignore what it left. A trial's folder does not depend on the workers that train it, so any workers can continue from there. Two checkpoints
are kept: the newest, and the one before it for the moment in which the newest is put in place.
"""

import json
import shutil
import time
from pathlib import Path
from typing import Any

from kp.store import files
from kp.training.job import PROGRESS
from kp.vocabulary import TrialStatus

EPOCHS_FOLDER = "epochs"
UNFINISHED = "unfinished"
KEPT = 2
RUNNING = "running.json"
FAILURE = "failure.json"


def newest(trial_folder: Path) -> Path | None:
    """The newest committed checkpoint of a trial, or None."""
    found = committed(trial_folder)
    return found[-1] if found else None


def committed(trial_folder: Path) -> list[Path]:
    """All committed checkpoints of a trial, oldest first."""
    epochs = trial_folder / EPOCHS_FOLDER
    return sorted(path for path in epochs.glob("[0-9]*") if (path / PROGRESS).is_file()) if epochs.is_dir() else []


def begin(trial_folder: Path, epoch: int) -> Path:
    """Make an empty folder for the checkpoint of this epoch, and remove what an earlier attempt left."""
    shutil.rmtree(trial_folder / UNFINISHED, ignore_errors=True)
    folder = unfinished(trial_folder, epoch)
    folder.mkdir(parents=True)
    return folder


def unfinished(trial_folder: Path, epoch: int) -> Path:
    """The folder that `begin` made, for the other workers of the trial.

    Its name contains the epoch, because a node of a network file system may for a while resolve an old name to the folder that had it.
    """
    return trial_folder / UNFINISHED / f"{epoch:04d}"


def commit(trial_folder: Path, epoch: int) -> Path:
    """Publish the folder that `begin` made as the checkpoint of this epoch, and delete all but the last two checkpoints."""
    final = trial_folder / EPOCHS_FOLDER / f"{epoch:04d}"
    final.parent.mkdir(exist_ok=True)
    shutil.rmtree(final, ignore_errors=True)  # one without progress, which readers ignore
    unfinished(trial_folder, epoch).rename(final)
    for old in committed(trial_folder)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def note_running(trial_folder: Path) -> None:
    """Record that workers have started the trial, and forget the failure of an earlier attempt."""
    trial_folder.mkdir(parents=True, exist_ok=True)
    (trial_folder / FAILURE).unlink(missing_ok=True)
    files.write_json(trial_folder / RUNNING, {"started": time.time()})


def note_failure(trial_folder: Path, status: TrialStatus, cause: str) -> None:
    """Record why the last attempt failed, for anyone who looks at the study before the next attempt."""
    trial_folder.mkdir(parents=True, exist_ok=True)
    files.write_json(trial_folder / FAILURE, {"status": status.value, "cause": cause})
    (trial_folder / RUNNING).unlink(missing_ok=True)


def failure(trial_folder: Path) -> dict[str, Any] | None:
    """What `note_failure` recorded: `status` and `cause`; None if there is nothing."""
    path = trial_folder / FAILURE
    found: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    return found
