"""Where the time of optimiser steps goes."""

import time
from dataclasses import dataclass, field
from enum import StrEnum


class Lap(StrEnum):
    """The parts of a step, in their order."""

    DATA = "data"
    FORWARD = "forward"
    BACKWARD = "backward"
    OPTIMIZER = "optimizer"  # DeepSpeed's step: norm and clipping of gradients, master weights, AdamW


@dataclass
class Laps:
    """Seconds by part; on a GPU, whose calls return before they have computed, those until the calls return."""

    seconds: dict[Lap, float] = field(default_factory=lambda: dict.fromkeys(Lap, 0.0))
    _last: float = 0.0

    def start(self) -> None:
        """The first part begins."""
        self._last = time.perf_counter()

    def end(self, part: Lap) -> None:
        """This part ends, and the next one begins."""
        now = time.perf_counter()
        self.seconds[part] += now - self._last
        self._last = now
