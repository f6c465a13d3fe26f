"""Tests on paired tables, the same facts or items before and after, and Holm's correction for many of them.

The tests take each fact as independent of the others. Where facts form clusters, the intervals of kp.metrics.intervals are wider for it,
and they decide a verdict, not these tests.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

EXACT_BELOW = 25
"""Tests are exact if fewer facts than this have changed."""


def mcnemar_p(lost: int, won: int) -> float:
    """Two-sided p-value of McNemar's test that `lost` of the changed facts were right before and `won` are right now; 1 if none changed.

    Exact (binomial) below EXACT_BELOW changes, else chi-squared with continuity correction.
    """
    if lost + won == 0:
        return 1.0
    return float(mcnemar([[0, lost], [won, 0]], exact=lost + won < EXACT_BELOW, correction=True).pvalue)


def bowker_p(table: npt.ArrayLike) -> float:
    """p-value of Bowker's test that a square table of counts (before x after) is symmetric; 1 if nothing changed.

    Exact below EXACT_BELOW changes: the chance, given how many facts moved between each two categories, that the statistic is at least as
    large if both ways are equally likely. Else chi-squared, with a degree of freedom for every two categories between which a fact moved.
    Raises ValueError if the table is not square.
    """
    counts = np.asarray(table, dtype=np.int64)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise ValueError(f"a table of shape {counts.shape}: expected a square one")
    pairs = [(int(counts[low, high]), int(counts[high, low])) for low, high in itertools.combinations(range(len(counts)), 2)]
    moved = [pair for pair in pairs if sum(pair)]
    if not moved:
        return 1.0
    statistic = sum(_asymmetry(one, one + other) for one, other in moved)
    totals = [one + other for one, other in moved]
    return _exact_p(statistic, totals) if sum(totals) < EXACT_BELOW else float(stats.chi2.sf(statistic, len(totals)))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted so that a grid of tests errs once or more with the chance of a single one, in the order given.

    The k-th smallest of m is multiplied by m - k + 1, and is no smaller than those before it. statsmodels has the same, but runs Python's
    garbage collector at every call, which takes a tenth of a second.
    """
    ordered = np.sort(np.asarray(p_values, dtype=np.float64))
    adjusted = np.maximum.accumulate(np.minimum(ordered * np.arange(ordered.size, 0, -1), 1.0))
    return [float(adjusted[rank]) for rank in np.searchsorted(ordered, p_values)]


def _asymmetry(one: int, total: int) -> float:
    return (2 * one - total) ** 2 / total


def _exact_p(statistic: float, totals: Sequence[int]) -> float:
    """The chance of a statistic at least this large."""
    at_least = 0
    for ways in itertools.product(*(range(total + 1) for total in totals)):
        if sum(_asymmetry(one, total) for one, total in zip(ways, totals, strict=True)) >= statistic - 1e-9:
            at_least += math.prod(math.comb(total, one) for one, total in zip(ways, totals, strict=True))
    return at_least / 2 ** sum(totals)
