"""Trials as TensorBoard runs: one folder of event files each.

A resumed trial starts another file with the epoch at which it resumes, and TensorBoard hides what earlier files have from that epoch on, so
that epochs which are reported again count once. For this reason the writer is made at the first epoch and not before.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from kp.trackers.knobs import plain

OBJECTIVE = "unknown_accuracy"


class TensorboardEvents:
    """Event files in `folder`/TRIAL_ID."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._knobs: dict[str, dict[str, Any]] = {}  # of trials that have not ended
        self._writers: dict[str, SummaryWriter] = {}
        self._last: dict[str, Mapping[str, float]] = {}

    def started(self, trial_id: str, knobs: Mapping[str, Any]) -> None:
        """Keep the knobs until the first epoch."""
        self._knobs[trial_id] = {name: _scalar(plain(value)) for name, value in knobs.items() if value is not None}

    def epoch(self, trial_id: str, measured: Mapping[str, float]) -> None:
        """Write scalars at step = epoch."""
        epoch = int(measured["epoch"])
        writer = self._writers.get(trial_id) or self._open(trial_id, epoch)
        for name, value in measured.items():
            if name != "epoch":
                writer.add_scalar(name, value, epoch)
        writer.flush()
        self._last[trial_id] = measured

    def _open(self, trial_id: str, epoch: int | None) -> SummaryWriter:
        writer = SummaryWriter(str(self._folder / trial_id), purge_step=epoch)
        rows = "".join(f"| {name} | {value} |\n" for name, value in self._knobs[trial_id].items())
        writer.add_text("knobs", f"| knob | value |\n|---|---|\n{rows}", epoch or 0)
        self._writers[trial_id] = writer
        return writer

    def ended(self, trial_id: str, status: str, cause: str | None) -> None:
        """Write how it ended, and the knobs with its result for the page of hyperparameters."""
        last = self._last.pop(trial_id, {})
        epoch = int(last.get("epoch", 0))
        writer = self._writers.get(trial_id) or self._open(trial_id, None)
        writer.add_text("ended", f"{status}: {cause}" if cause else status, epoch)
        knobs = {**self._knobs.pop(trial_id), "status": status}
        if OBJECTIVE in last:
            writer.add_hparams(knobs, {OBJECTIVE: last[OBJECTIVE]}, run_name=".", global_step=epoch)
        self._writers.pop(trial_id).close()

    def close(self) -> None:
        """Close the files of interrupted trials."""
        while self._writers:
            self._writers.popitem()[1].close()


def _scalar(knob: Any) -> bool | int | float | str:
    """TensorBoard's hyperparameters are single values."""
    return " ".join(map(str, knob)) if isinstance(knob, list) else knob
