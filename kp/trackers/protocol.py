"""What a tracker hears of the trials of a study."""

from collections.abc import Mapping
from typing import Any, Protocol

from kp.schema import EPOCHS

MEASURES = tuple(name for name in EPOCHS.names if name != "trial_id")


class Tracker(Protocol):
    """What a trial goes through, in this order, `started` again where it goes on after a kill; trials run beside each other."""

    def started(self, trial_id: str, knobs: Mapping[str, Any]) -> None:
        """Workers are about to begin the trial of these knobs, or to go on with it."""

    def epoch(self, trial_id: str, measured: Mapping[str, float]) -> None:
        """An epoch was committed; `measured` has the numbers of its EPOCHS row, `epoch` among them."""

    def ended(self, trial_id: str, status: str, cause: str | None) -> None:
        """The trial has ended as the TrialStatus says."""

    def close(self) -> None:
        """Nothing more comes; trials that have not ended were interrupted."""
