"""The events that a tracker receives of the trials of a study."""

from collections.abc import Mapping
from typing import Any, Protocol

import pyarrow as pa

from kp.schema import EPOCHS

MEASURES = tuple(column.name for column in EPOCHS if not pa.types.is_string(column.type))
"""The columns of EPOCHS that are numbers."""


class Tracker(Protocol):
    """The events of a trial, in this order; `started` comes again if it resumes after a kill. Trials run concurrently."""

    def started(self, trial_id: str, knobs: Mapping[str, Any]) -> None:
        """Workers are about to start or resume the trial with these knobs."""

    def epoch(self, trial_id: str, measured: Mapping[str, float]) -> None:
        """An epoch was committed; `measured` has the numbers of its EPOCHS row, including `epoch`."""

    def ended(self, trial_id: str, status: str, cause: str | None) -> None:
        """The trial has ended with this TrialStatus."""

    def close(self) -> None:
        """No more events follow; trials that have not ended were interrupted."""
