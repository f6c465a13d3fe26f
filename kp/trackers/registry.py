"""Experiment trackers that receive a trial's epochs: W&B, MLflow, TensorBoard.

kp's own tables have everything that is reported here, so nothing depends on a tracker: its failure costs a line on the screen and not the
study. A tracker that raises anything (an unreachable server, a full disk, a deleted run) is reported once and then left out. Only a missing
package is an error, before anything is trained, because it is a mistake in the study file.

A tracker has one run per trial, identified by its trial_id, and continues it when a study is resumed. Workers report a resumed trial's
epochs from the first one again; each tracker makes sure that they do not count twice.
"""

import importlib.util
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from kp.config.study import TrackersConfig
from kp.errors import UserError
from kp.store.code_version import DISTRIBUTION
from kp.trackers.protocol import MEASURES, Tracker
from kp.vocabulary import Tracker as TrackerName


def validate_installed(config: TrackersConfig) -> None:
    """Raise UserError if a tracker of the study is not installed."""
    for name in config.use:
        found = importlib.util.find_spec(name.value)
        # W&B and MLflow leave folders with their names where they ran, which Python takes for empty packages.
        if found is None or found.origin is None:
            raise UserError(f"'{name}' is not installed; pip install '{DISTRIBUTION}[{name}]' has it", field="trackers.use")


def open_trackers(config: TrackersConfig, study: str, home: Path, say: Callable[[str], None]) -> "Trackers":
    """The study's trackers; `home` is the study's folder, in which they keep their files, and `say` reports a failed one to the user.

    Raises UserError if one is not installed.
    """
    validate_installed(config)
    trackers = Trackers(say)
    for name in config.use:
        trackers.open(name.value, partial(_tracker, name, config, study, home))
    return trackers


def _tracker(name: TrackerName, config: TrackersConfig, study: str, home: Path) -> Tracker:
    if name is TrackerName.WANDB:
        from kp.trackers.wandb_runs import WandbRuns

        return WandbRuns(config.project or study, study, home, config.wandb_mode)
    if name is TrackerName.MLFLOW:
        from kp.trackers.mlflow_runs import MlflowRuns

        return MlflowRuns(config.project or study, study, config.mlflow_uri)
    from kp.trackers.tensorboard_events import TensorboardEvents

    return TensorboardEvents(home / "tensorboard")


class Trackers:
    """All trackers, combined into one that never raises."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._listening: dict[str, Tracker] = {}
        self._begun: set[str] = set()

    def open(self, name: str, make: Callable[[], Tracker]) -> None:
        """Add a tracker."""
        self._guard(name, lambda: self._listening.__setitem__(name, make()))

    def started(self, trial_id: str, knobs: Mapping[str, Any]) -> None:
        """See Tracker; a knob is a number, a string, a bool, a list of these, or None."""
        self._begun.add(trial_id)
        self._notify(lambda tracker: tracker.started(trial_id, knobs))

    def epoch(self, trial_id: str, measured: Mapping[str, Any]) -> None:
        """See Tracker; only the MEASURES are passed on from `measured`, without None."""
        numbers = {name: measured[name] for name in MEASURES if measured.get(name) is not None}
        self._notify(lambda tracker: tracker.epoch(trial_id, numbers))

    def ended(self, trial_id: str, status: str, cause: str | None) -> None:
        """See Tracker; a trial that no workers started has no run, so its end is not passed on."""
        if trial_id in self._begun:
            self._notify(lambda tracker: tracker.ended(trial_id, str(status), cause))

    def close(self) -> None:
        """See Tracker; later events are not passed on."""
        self._notify(lambda tracker: tracker.close())
        self._listening.clear()

    def _notify(self, event: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._listening.items()):
            self._guard(name, partial(event, tracker))

    def _guard(self, name: str, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # anything that three libraries, their servers and the network may raise
            self._listening.pop(name, None)
            first = str(error).strip().partition("\n")[0]
            self._say(f"tracker {name}: failed and is left out of the rest of this run: {type(error).__name__}: {first}")
