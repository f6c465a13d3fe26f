"""Trials as runs of W&B, grouped by study.

Trials run beside each other and all are told of in the driver's process, so each has a run object of its own and W&B's notion of *the* run
of a process is left alone. Nothing is read off that process either: its console and its load are not the trial's.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import wandb

from kp.trackers.knobs import failed, plain

INIT_SECONDS = 30.0  # W&B's own 90 would hold up every trial of a study where there is no network
FINISH_SECONDS = 60.0  # W&B would wait for ever; what is not uploaded by then stays on disk for `wandb sync`


class WandbRuns:
    """One run a trial, its id the trial's; offline they lie in `home`/wandb."""

    def __init__(self, project: str, study: str, home: Path, mode: Literal["online", "offline"]) -> None:
        if mode == "online" and not wandb.login(verify=False, prompt=False):  # it would otherwise ask for a key, and wait
            raise RuntimeError("no API key; set WANDB_API_KEY, or trackers.wandb_mode = 'offline'")
        home.mkdir(parents=True, exist_ok=True)
        self._project, self._study, self._home, self._mode = project, study, home, mode
        self._runs: dict[str, wandb.Run] = {}

    def started(self, trial_id: str, knobs: Mapping[str, Any]) -> None:
        """Begin the trial's run, or go on with it."""
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
        """Log at step = epoch; W&B drops steps that a resumed run has already."""
        self._runs[trial_id].log(dict(measured), step=int(measured["epoch"]))

    def ended(self, trial_id: str, status: str, cause: str | None) -> None:
        """Put status and cause into the summary and finish the run."""
        run = self._runs.pop(trial_id)
        run.summary.update({"status": status, "cause": cause})
        run.finish(exit_code=1 if failed(status) else 0)

    def close(self) -> None:
        """Finish the runs of interrupted trials as failed ones; they can be gone on with all the same."""
        while self._runs:
            self._runs.popitem()[1].finish(exit_code=1)
