"""Trials as runs of W&B, grouped by study.

Trials run concurrently and are all reported from the driver's process, so each has its own run object, and W&B's notion of *the* run of a
process is not used. Nor is that process monitored: its console and its load are not the trial's.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import wandb

from kp.trackers.knobs import failed, plain

INIT_SECONDS = 30.0  # W&B's default of 90 would delay every trial of a study if there is no network
FINISH_SECONDS = 60.0  # W&B would wait for ever; what is not uploaded by then stays on disk for `wandb sync`


class WandbRuns:
    """One run per trial, with the trial's id; offline runs are in `home`/wandb."""

    def __init__(self, project: str, study: str, home: Path, mode: Literal["online", "offline"]) -> None:
        if mode == "online" and not wandb.login(verify=False, prompt=False):  # otherwise it would prompt for a key, and wait
            raise RuntimeError("no API key; set WANDB_API_KEY, or trackers.wandb_mode = 'offline'")
        home.mkdir(parents=True, exist_ok=True)
        self._project, self._study, self._home, self._mode = project, study, home, mode
        self._runs: dict[str, wandb.Run] = {}

    def started(self, trial_id: str, knobs: Mapping[str, Any]) -> None:
        """Start or resume the trial's run."""
        if trial_id not in self._runs:
            self._runs[trial_id] = self._begin(trial_id, knobs)

    def _begin(self, trial_id: str, knobs: Mapping[str, Any]) -> wandb.Run:
        return wandb.init(
            project=self._project,
            group=self._study,
            id=trial_id,
            name=trial_id[:8],
            resume="allow",
            reinit="create_new",
            config={name: plain(value) for name, value in knobs.items()},
            allow_val_change=True,
            dir=str(self._home),
            mode=self._mode,
            settings=wandb.Settings(
                console="off",
                silent=True,
                x_disable_stats=True,
                init_timeout=INIT_SECONDS,
                finish_timeout=FINISH_SECONDS,
                finish_timeout_raises=True,
            ),
        )

    def epoch(self, trial_id: str, measured: Mapping[str, float]) -> None:
        """Log at step = epoch; W&B drops steps that a resumed run already has."""
        self._runs[trial_id].log(dict(measured), step=int(measured["epoch"]))

    def ended(self, trial_id: str, status: str, cause: str | None) -> None:
        """Write status and cause into the summary and finish the run."""
        run = self._runs.pop(trial_id)
        run.summary.update({"status": status, "cause": cause})
        run.finish(exit_code=1 if failed(status) else 0)

    def close(self) -> None:
        """Finish the runs of interrupted trials as failed; they can still be resumed."""
        while self._runs:
            self._runs.popitem()[1].finish(exit_code=1)
