"""`kp trials`: the state of a study's trials, read from the results folder.

It takes no lease, starts nothing and writes nothing there, so it works from any shell or node that sees the folder, whoever runs the study.
A trial's progress is in its checkpoints, its end in its record. Whether a driver is running it is known from the lease on its working
folder, which a killed driver does not renew.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from kp import schema
from kp.config.study import StudyConfig
from kp.errors import UserError
from kp.store import files, leases, roots
from kp.store.bucket_folder import local_path
from kp.store.filenames import EPOCHS_FILE, TRIAL_FILE
from kp.store.steps import Store
from kp.study.building import ProposedGraph, proposed_graph
from kp.study.graph import Trial
from kp.study.identities import identities_here
from kp.study.probing import probed
from kp.training import checkpoints
from kp.training.job import Progress
from kp.training.spec import TRIAL_END
from kp.vocabulary import TrialStatus

LINES_A_TRIAL = 2  # of a terminal, because the description of a trial does not fit into one
LINES_BESIDE = 6  # title, head, counts and what is left out


class Standing(StrEnum):
    """The state of a trial that has not ended; one that has ended has a TrialStatus."""

    WAITING = "waiting"
    RUNNING = "running"
    INTERRUPTED = "interrupted"  # started, but no driver is running it: a run of the study continues from its last checkpoint


FAILED = (TrialStatus.FAILED.value, TrialStatus.OUT_OF_MEMORY.value)
UNFINISHED = tuple(standing.value for standing in Standing)


@dataclass(frozen=True)
class TrialRow:
    """The state of one trial; values are None while they are unknown."""

    trial_id: str
    label: str
    unknown: int
    highly_known: int
    maybe_known: int
    paraphrases: int
    rank: int
    learning_rate: float
    lora_scale: float
    seed: int
    status: str  # a Standing or a TrialStatus
    epochs: int  # committed
    max_epochs: int
    steps: int  # optimiser steps in these epochs
    max_steps: int
    unknown_accuracy: float | None  # after the last of them
    best_unknown_accuracy: float | None
    train_loss: float | None
    final_learning_rate: float | None  # of the last step of these epochs
    exposures: float  # mean number of times that an Unknown fact was trained on, paraphrases included
    tokens_per_second: float | None
    seconds_left: float | None  # if it runs to its end at the speed so far; 0 once it has ended, None while that is unknown
    cause: str | None  # why it ended

    @property
    def ended(self) -> bool:
        """Whether it will not change any more in this run of the study."""
        return self.status not in UNFINISHED


# The columns of an export; all are present, whatever is known so far.
COLUMNS: dict[str, Any] = {
    "trial_id": pl.String,
    "label": pl.String,
    "unknown": pl.Int64,
    "highly_known": pl.Int64,
    "maybe_known": pl.Int64,
    "paraphrases": pl.Int64,
    "rank": pl.Int64,
    "learning_rate": pl.Float64,
    "lora_scale": pl.Float64,
    "seed": pl.Int64,
    "status": pl.String,
    "epochs": pl.Int64,
    "max_epochs": pl.Int64,
    "steps": pl.Int64,
    "max_steps": pl.Int64,
    "unknown_accuracy": pl.Float64,
    "best_unknown_accuracy": pl.Float64,
    "train_loss": pl.Float64,
    "final_learning_rate": pl.Float64,
    "exposures": pl.Float64,
    "tokens_per_second": pl.Float64,
    "seconds_left": pl.Float64,
    "cause": pl.String,
}


@dataclass(frozen=True)
class _Driver:
    """The process that runs a trial."""

    started: float  # Unix seconds


def trial_row(trial: Trial, store: Store) -> TrialRow:
    """The current state of a trial."""
    # A trial's record is written before its working folder is removed, so reading the folder first misses nothing.
    folder = local_path(store.work(trial.step))
    progress, driver, failure = _progress(folder), _driver(folder), files.read_json(folder / checkpoints.FAILURE)
    if store.is_done(trial.step):
        return _ended(trial, store)
    if failure is not None and (driver is None or _changed(folder / checkpoints.FAILURE) > driver.started):
        return _row(trial, failure["status"], progress, seconds_left=0.0, cause=failure["cause"])
    return _row(trial, _standing(folder, driver, progress).value, progress, seconds_left=_seconds_left(trial, progress))


def _row(trial: Trial, status: str, progress: Progress, *, seconds_left: float | None, cause: str | None = None) -> TrialRow:
    epochs, spec = progress.epochs, trial.spec
    accuracies = [epoch["unknown_accuracy"] for epoch in epochs if epoch["unknown_accuracy"] is not None]
    seconds = sum(epoch["seconds"] for epoch in epochs)
    return TrialRow(
        trial_id=trial.trial_id,
        label=spec.label(),
        unknown=spec.unknown,
        highly_known=spec.arm.highly_known,
        maybe_known=spec.arm.maybe_known,
        paraphrases=spec.arm.paraphrases,
        rank=spec.rank,
        learning_rate=spec.learning_rate,
        lora_scale=spec.lora_scale,
        seed=spec.seed,
        status=status,
        epochs=len(epochs),
        max_epochs=spec.max_epochs,
        steps=progress.steps,
        max_steps=spec.max_steps,
        unknown_accuracy=epochs[-1]["unknown_accuracy"] if epochs else None,
        best_unknown_accuracy=max(accuracies, default=None),
        train_loss=epochs[-1]["train_loss"] if epochs else None,
        final_learning_rate=epochs[-1]["final_learning_rate"] if epochs else None,
        exposures=sum(epoch["exposures"] for epoch in epochs),
        tokens_per_second=sum(epoch["tokens"] for epoch in epochs) / seconds if seconds else None,
        seconds_left=seconds_left,
        cause=cause,
    )


def _ended(trial: Trial, store: Store) -> TrialRow:
    row = store.read(trial.step, TRIAL_FILE, TRIAL_END).to_pylist()[0]
    epochs = store.read(trial.step, EPOCHS_FILE, schema.EPOCHS).to_pylist()
    return _row(trial, row["status"], Progress(epochs=epochs), seconds_left=0.0, cause=row["cause"] or None)


def _progress(folder: Path) -> Progress:
    """Of the newest checkpoint that can be read; whether it is whole is not checked, which would read all of it."""
    found: list[Path] = []
    while (committed := checkpoints.committed(folder)) != found:  # some may be replaced by newer ones meanwhile
        found = committed
        for checkpoint in reversed(found):
            with suppress(OSError, ValueError):
                return Progress.load(checkpoint)
    return Progress()


def _standing(folder: Path, driver: _Driver | None, progress: Progress) -> Standing:
    """The state of a trial without a record that has not failed."""
    taken = files.read_json(folder / checkpoints.RUNNING)
    if driver is not None:
        # A trial started by an earlier driver's workers waits until this driver's workers take it.
        return Standing.RUNNING if taken is not None and taken["started"] > driver.started else Standing.WAITING
    return Standing.INTERRUPTED if taken is not None or progress.epochs else Standing.WAITING


def _driver(folder: Path) -> _Driver | None:
    """The living process with the lease on the trial's folder."""
    holder = leases.lease_holder(folder)
    return _Driver(holder["started"]) if holder else None


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # the trial has just been resumed
        return 0.0


def _seconds_left(trial: Trial, progress: Progress) -> float | None:
    """From the mean time per step so far, evaluation included; None before the first epoch."""
    if not progress.steps:
        return None
    spent = sum(epoch["seconds"] + epoch["eval_seconds"] for epoch in progress.epochs)
    return spent / progress.steps * max(0, trial.spec.max_steps - progress.steps)


def trial_rows(proposal: ProposedGraph, store: Store) -> list[TrialRow]:
    """The states of all trials known so far, in the study's order."""
    return [trial_row(trial, store) for trial in proposal.graph.trials]


def export_rows(rows: Sequence[TrialRow], path: Path) -> None:
    """Write the rows in the format of the file's ending; UserError if it cannot be written."""
    write = _writer(path)
    try:
        write(pl.DataFrame([asdict(row) for row in rows], schema=COLUMNS), path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}", field="--export") from error


def _writer(path: Path) -> Callable[[pl.DataFrame, Path], object]:
    writers: dict[str, Callable[[pl.DataFrame, Path], object]] = {
        ".csv": pl.DataFrame.write_csv,
        ".parquet": pl.DataFrame.write_parquet,
        ".json": pl.DataFrame.write_json,
        ".jsonl": pl.DataFrame.write_ndjson,
    }
    if path.suffix not in writers:
        raise UserError(f"{path}: ends in none of {', '.join(writers)}", field="--export")
    return writers[path.suffix]


def show_trials(config: StudyConfig, root: Path, watch: float | None = None, export: Path | None = None) -> int:
    """Print the state of a study's trials, every `watch` seconds until all have ended, and write it to `export`; returns the exit code."""
    if watch is not None and watch <= 0:
        raise UserError(f"{watch:g}: give seconds, above 0", field="--watch")
    if export is not None:
        _writer(export)  # raises for an unsupported format before anything is shown
    store = Store(roots.existing_results_root(root))
    study = probed(config, root, note=lambda line: None, fetch=False, trains=False)
    config, identities = study.config, identities_here(study)
    if not store.has_study(config.name):
        raise UserError(f"{root}: holds no study '{config.name}'; name the folder with which it was run", field=files.ROOT_FIELD)

    def look() -> tuple[list[TrialRow], bool]:
        proposal = proposed_graph(config, identities, store, failed_trials(store))
        rows = trial_rows(proposal, store)
        return rows, proposal.complete and all(row.ended for row in rows)

    console = Console(highlight=False, markup=False, emoji=False)
    if watch is None:
        rows, _ = look()
        console.print(trials_table(config, rows))
    else:
        rows = _watch(config, console, watch, look)
    if export is not None:
        export_rows(rows, export)
        console.print(f"written: {export}", markup=False, soft_wrap=True)
    return 0


def _watch(config: StudyConfig, console: Console, seconds: float, look: Callable[[], tuple[list[TrialRow], bool]]) -> list[TrialRow]:
    """Redraw until all trials have ended or the user interrupts; returns the last rows."""
    rows, ended = look()
    with suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(trials_table(config, rows, console.height if console.is_terminal and not ended else None), refresh=True)
            if ended:
                break
            time.sleep(seconds)
            rows, ended = look()
    return rows


def failed_trials(store: Store) -> set[str]:
    """Ids of trials whose last attempt failed: a search that proposes more trials continues without them."""
    return {trial_id for trial_id, folder in store.works("trial").items() if (folder / checkpoints.FAILURE).is_file()}


def trials_table(config: StudyConfig, rows: Sequence[TrialRow], lines: int | None = None) -> RenderableType:
    """The rows as a table of at most 80 columns; if a terminal of `lines` lines is too short for all, the most important ones."""
    table = Table(title=f"trials of {config.name}", title_justify="left", box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("trial", no_wrap=True)
    table.add_column("what", overflow="fold")
    table.add_column("status", no_wrap=True)
    for name in ("epoch", "unknown\naccuracy", "loss", "tokens\na second", "time\nleft"):
        table.add_column(name, no_wrap=True, justify="right")
    shown = _foremost(rows, len(rows) if lines is None else max(1, (lines - LINES_BESIDE) // LINES_A_TRIAL))
    for row in shown:
        table.add_row(*_cells(row))
    below = [_counts(rows)]
    if len(shown) < len(rows):
        below.append(f"{len(rows) - len(shown)} of them are not shown, because the terminal is too short")
    below += [f"{row.trial_id[:8]} {row.status}: {row.cause}" for row in shown if row.status in FAILED]
    return Group(table, *map(Text, below))  # as Text, because a cause may contain what looks like markup


def _foremost(rows: Sequence[TrialRow], most: int) -> list[TrialRow]:
    """Those in training first, then those that went wrong, those that wait, those that ended well; in the study's order."""
    ranks = {Standing.RUNNING.value: 0, Standing.INTERRUPTED.value: 1, **dict.fromkeys(FAILED, 1), Standing.WAITING.value: 2}
    kept = sorted(range(len(rows)), key=lambda place: ranks.get(rows[place].status, 3))[:most]
    return [rows[place] for place in sorted(kept)]


def _cells(row: TrialRow) -> tuple[str, ...]:
    def number(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    left = "" if row.ended or row.seconds_left is None else str(timedelta(seconds=round(row.seconds_left)))
    measured = (number(row.unknown_accuracy, ".2f"), number(row.train_loss, ".3g"), number(row.tokens_per_second, ",.0f"))
    return (row.trial_id[:8], row.label, row.status, f"{row.epochs}/{row.max_epochs}", *measured, left)


def _counts(rows: Sequence[TrialRow]) -> str:
    order = [*UNFINISHED, *(status.value for status in TrialStatus)]
    counts = {status: sum(row.status == status for row in rows) for status in order}
    said = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    return f"{len(rows)} trials: {said}"
