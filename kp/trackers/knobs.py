"""kp's values in the form that trackers accept."""

from enum import Enum
from typing import Any

from kp.vocabulary import TrialStatus


def plain(value: Any) -> Any:
    """A knob as plain JSON."""
    if isinstance(value, Enum):
        return value.value
    return [plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def failed(status: str) -> bool:
    """Whether a trial with this status is a failed run to a tracker, which knows no finer distinction."""
    return status not in (TrialStatus.COMPLETED, TrialStatus.STOPPED)
