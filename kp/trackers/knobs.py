"""Words of kp as trackers take them."""

from enum import Enum
from typing import Any

from kp.vocabulary import TrialStatus


def plain(value: Any) -> Any:
    """A knob as plain JSON."""
    if isinstance(value, Enum):
        return value.value
    return [plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def failed(status: str) -> bool:
    """Whether a trial that ended so is a failed run to a tracker, which tells no more apart."""
    return status not in (TrialStatus.COMPLETED, TrialStatus.STOPPED)
