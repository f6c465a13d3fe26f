"""The error of a mean over questions."""

import math
import statistics
from collections.abc import Sequence


def share_error(scores: Sequence[float]) -> float | None:
    """The standard error of a mean of scores: that of a share if all are 0 or 1; None for one score that is neither."""
    n = len(scores)
    if set(scores) <= {0.0, 1.0}:
        mean = statistics.fmean(scores)
        return math.sqrt(mean * (1 - mean) / n)
    return statistics.stdev(scores) / math.sqrt(n) if n > 1 else None
