"""Trials as a run leaves them on the way: checkpoints, records, trials in the hands of workers and of a driver."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from kp import schema
from kp.store import files, leases
from kp.store.filenames import EPOCHS_FILE, TRIAL_FILE
from kp.store.steps import Store
from kp.study.graph import Trial
from kp.study.results import trial_columns
from kp.training import checkpoints
from kp.training.job import Progress
from kp.training.spec import TRIALS
from kp.vocabulary import TrialStatus


def epochs(count: int, steps: int = 3) -> list[dict[str, Any]]:
    """So many epochs, each with ten times its number of correct answers in a hundred."""
    common = {"replay_kl": None, "learning_rate": 1e-3, "steps": steps, "rows": 10, "tokens": 400, "seconds": 2.0, "eval_seconds": 1.0}
    common["exposures"] = 1.0
    measured = [{"epoch": n, "train_loss": 1 / n, "unknown_accuracy": n / 10, "final_learning_rate": 1e-3 / n} for n in range(1, count + 1)]
    return [epoch | common for epoch in measured]


def checkpoint(store: Store, trial: Trial, measured: list[dict[str, Any]]) -> None:
    """A committed checkpoint after these epochs."""
    folder = store.work(trial.step)
    Progress(epochs=measured).save(checkpoints.begin(folder, len(measured), "life"))
    checkpoints.commit(folder, len(measured), "life")


def record(store: Store, trial: Trial, status: TrialStatus, measured: list[dict[str, Any]], cause: str = "") -> None:
    """The record of a trial that ended so."""
    row = {field.name: None for field in TRIALS} | trial_columns(trial) | {"status": status.value, "cause": cause}
    row |= {"epochs": len(measured), "steps": sum(epoch["steps"] for epoch in measured)}
    ended = [{"trial_id": trial.trial_id, **epoch} for epoch in measured]

    def fill(folder: Path) -> None:
        schema.write_table(pa.Table.from_pylist([row], schema=TRIALS), TRIALS, folder / TRIAL_FILE)
        schema.write_table(pa.Table.from_pylist(ended, schema=schema.EPOCHS), schema.EPOCHS, folder / EPOCHS_FILE)

    store.commit(trial.step, fill, seconds=1.0)


def taken(store: Store, trial: Trial, started: float) -> None:
    """Workers took the trial then."""
    files.write_json(store.work(trial.step) / checkpoints.RUNNING, {"started": started})


@contextmanager
def driver(store: Store, *trials: Trial) -> Iterator[None]:
    """A live process, this one, that has these trials in hand."""
    with ExitStack() as stack:
        for trial in trials:
            stack.enter_context(leases.lease(store.work(trial.step), "trial"))
        yield
