"""Means over facts with intervals: what a study can say about an effect, and the smallest effect that it could have seen.

Facts that share relation and object depend on each other, so they form a cluster. Values of one run have a cluster-robust (sandwich)
interval; it is about this run's adapter, because one run cannot show how much another seed would change. Values of several runs have a
two-level bootstrap over runs and clusters. Quantiles are Student's, with the degrees of freedom that clusters of unequal size and few runs
leave: with normal ones, intervals of three runs would be far too short. Two runs say little about how much runs differ: where they differ
by as much as half of the effect itself, 95% intervals of two cover it only 88 to 89% of the time (of three: 93%).

Where fewer than ten clusters have changed at all, these formulas fail (no change at all would be "0 +- 0"), and the interval is widened to
Wilson's, in which every cluster counts as one observation: nothing is known there about how alike the facts of a cluster are. It is
cautious, and covers 97 to 100% of the time.
"""

import math
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from kp.metrics.statistics import clustered_share_error

CONFIDENCE = 0.95
POWER = 0.80
SMALL_COUNT = 10
"""With fewer clusters than this that have a value other than 0, intervals are at least Wilson's."""
DRAWS = 2000
_SURE = 1 - 1e-12  # confidence beyond which no interval is computed

Labels = npt.ArrayLike
"""One label per value, of any type that sorts."""


class Support(StrEnum):
    """The values that one fact can have."""

    COUNT = "count"  # from 0 to 1
    SIGNED = "signed"  # from -1 to 1
    UNBOUNDED = "unbounded"  # anything: no interval for small counts exists

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest value."""
        if self is Support.UNBOUNDED:
            return -math.inf, math.inf
        return (0.0, 1.0) if self is Support.COUNT else (-1.0, 1.0)


@dataclass(frozen=True)
class SmallCounts:
    """What Wilson's interval of a mean in [-1, 1] needs: its parts above and below 0, as shares of `size` observations."""

    above: float | None  # None if no value can be above 0
    below: float | None  # None if no value can be below 0
    size: float

    def limits(self, confidence: float) -> tuple[float, float]:
        """Wilson's interval for shares; for differences, those of both parts joined by MOVER (Zou and Donner 2008; Newcombe 1998)."""
        above, lower, upper = self._wilson(self.above, confidence)
        below, least, most = self._wilson(self.below, confidence)
        return above - below - math.hypot(above - lower, most - below), above - below + math.hypot(upper - above, below - least)

    def _wilson(self, share: float | None, confidence: float) -> tuple[float, float, float]:
        """The share and its limits."""
        if share is None:
            return 0.0, 0.0, 0.0
        return share, *_wilson_limits(share * self.size / self.size, self.size, confidence)


@dataclass(frozen=True)
class Estimate:
    """A mean with everything that its interval needs at any confidence."""

    value: float
    n: int  # values: facts, times runs if there are several
    clusters: int
    runs: int
    standard_error: float | None  # None below two clusters: there is no interval then
    degrees: float | None  # of freedom, of Student's t
    small: SmallCounts | None = None  # where few clusters have changed
    bounds: tuple[float, float] = (-math.inf, math.inf)  # what the mean can be

    def limits(self, confidence: float = CONFIDENCE) -> tuple[float, float] | None:
        """The interval, two-sided, within `bounds`; None below two clusters."""
        limits = self._limits(confidence)
        return limits and (max(limits[0], self.bounds[0]), min(limits[1], self.bounds[1]))

    def _limits(self, confidence: float) -> tuple[float, float] | None:
        if self.standard_error is None:
            return None
        margin = self._quantile(0.5 + confidence / 2) * self.standard_error
        lower, upper = self.value - margin, self.value + margin
        if self.small is not None:
            least, most = self.small.limits(confidence)
            lower, upper = min(lower, least), max(upper, most)
        return lower, upper

    def p_above(self, bound: float = 0.0) -> float:
        """One-sided p-value of the hypothesis that the true mean is at most `bound`; 1 without an interval.

        It inverts the interval: the lower limit at confidence 1 - 2p is `bound`.
        """
        if self.standard_error is None:
            return 1.0
        if self.small is None and self.standard_error > 0:  # the interval is Student's alone, whose inverse has a closed form
            return float(special.stdtr(self.degrees, (bound - self.value) / self.standard_error))
        excluded = self._confidence_reaching(bound)
        return (1 - excluded) / 2 if self.value >= bound else (1 + excluded) / 2

    def p_value(self) -> float:
        """Two-sided p-value of the hypothesis that the true mean is 0; 1 without an interval."""
        return min(1.0, 2 * min(self.p_above(), self.p_below(0.0)))

    def p_below(self, bound: float) -> float:
        """One-sided p-value of the hypothesis that the true mean is at least `bound`; 1 without an interval."""
        return self.negated().p_above(-bound)

    def _confidence_reaching(self, bound: float) -> float:
        """The confidence at which a limit of the interval is `bound`."""
        side = 0 if self.value >= bound else 1

        def distance(confidence: float) -> float:
            limits = self._limits(confidence)
            assert limits is not None
            return limits[side] - bound

        if self.value == bound:
            return 0.0
        return _SURE if distance(0.0) * distance(_SURE) > 0 else float(optimize.brentq(distance, 0.0, _SURE, xtol=1e-14))

    def resolvable(self, power: float = POWER, confidence: float = CONFIDENCE) -> float | None:
        """The smallest true effect whose interval would leave 0 out with this power, at the standard error found.

        (t(1 - a/2) + t(power)) x standard error with a = 1 - confidence: 2.80 standard errors for 80% and many clusters. Where small counts
        widen the interval, the longer half of the interval stands for t(1 - a/2) standard errors: the other one vanishes where all facts
        have changed. None without an interval.
        """
        limits = self._limits(confidence)
        if limits is None:
            return None
        longer = max(limits[1] - self.value, self.value - limits[0])
        return longer * (1 + self._quantile(power) / self._quantile(0.5 + confidence / 2))

    def negated(self) -> "Estimate":
        """The estimate of the mean with the opposite sign, such as a loss from a change."""
        small = self.small and SmallCounts(self.small.below, self.small.above, self.small.size)
        return replace(self, value=0.0 - self.value, small=small, bounds=(0.0 - self.bounds[1], 0.0 - self.bounds[0]))

    def columns(self) -> dict[str, float | int | None]:
        """The columns that tables of estimates share: value, n, clusters, standard_error, 95% interval and what could be resolved."""
        lower, upper = self.limits() or (None, None)
        return {
            "value": self.value,
            "n": self.n,
            "clusters": self.clusters,
            "standard_error": self.standard_error,
            "lower": lower,
            "upper": upper,
            "resolvable": self.resolvable(),
        }

    def _quantile(self, probability: float) -> float:
        return float(special.stdtrit(self.degrees, probability))


def estimate_mean(
    values: npt.ArrayLike,
    clusters: Labels,
    runs: Labels | None = None,
    support: Support = Support.SIGNED,
    draws: int = DRAWS,
    seed: int = 0,
) -> Estimate:
    """The mean of `values` with the interval that fits: sandwich for values of one run, two-level bootstrap for those of several.

    `clusters` and `runs` have a label per value; without `runs` all values are of one. `seed` and `draws` are of the bootstrap, whose
    result is the same every time. Raises ValueError if there are no values, or if one is outside the support.
    """
    sample = np.asarray(values, dtype=np.float64)
    groups = _codes(clusters)
    levels = np.zeros(sample.size, dtype=np.int64) if runs is None else _codes(runs)
    _validate(sample, groups, levels, support)
    sums, counts = (_cells(levels, groups, weights) for weights in (sample, np.ones_like(sample)))
    value = float(sample.mean())
    error, degrees = _one_run(sums[0], counts[0]) if len(sums) == 1 else _several_runs(sums, counts, draws, seed)
    changed = int(np.any(_cells(levels, groups, np.abs(sample)) > 0, axis=0).sum())
    small = None
    if support is not Support.UNBOUNDED and changed < SMALL_COUNT:
        above, below = float(np.clip(sample, 0, None).mean()), float(np.clip(-sample, 0, None).mean())
        small = SmallCounts(above, below if support is Support.SIGNED else None, groups.max() + 1.0)
    return Estimate(value, sample.size, int(groups.max()) + 1, len(sums), error, degrees, small, support.bounds)


def estimate_ratio(sums: npt.ArrayLike, sizes: npt.ArrayLike, bounds: tuple[float, float] = (-math.inf, math.inf)) -> Estimate:
    """The mean over items that come in clusters, such as the tokens of texts, from each cluster's sum and its number of items.

    `bounds` are what the mean can be. Raises ValueError if there are no items.
    """
    totals, counts = np.asarray(sums, dtype=np.float64), np.asarray(sizes, dtype=np.float64)
    totals, counts = totals[counts > 0], counts[counts > 0]
    if not counts.size:
        raise ValueError("no items to take a mean of")
    error, degrees = _one_run(totals, counts)
    return Estimate(float(totals.sum() / counts.sum()), int(counts.sum()), counts.size, 1, error, degrees, None, bounds)


def estimate_difference(first: npt.ArrayLike, second: npt.ArrayLike, clusters: Labels | None = None) -> Estimate:
    """The mean of `first` - `second` for scores from 0 to 1 of the same items, item by item, such as a benchmark's of adapter and base.

    `clusters` has a label per item, such as its subject; without it, items are independent. Raises ValueError if the lengths differ.
    """
    ones, others = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if ones.shape != others.shape:
        raise ValueError(f"{ones.size} and {others.size} scores: expected two for each item")
    return estimate_mean(ones - others, np.arange(ones.size) if clusters is None else clusters)


def wilson(successes: float, n: float, confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """Wilson's interval for a share of independent trials; None if n is 0."""
    return SmallCounts(successes / n, None, n).limits(confidence) if n else None


def _wilson_limits(share: float, size: float, confidence: float) -> tuple[float, float]:
    """As statsmodels' proportion_confint has them, which is eighty times slower; a p-value of small counts needs dozens of intervals."""
    z = -float(special.ndtri((1 - confidence) / 2))
    scale = 1 + z**2 / size
    centre = (share + z**2 / (2 * size)) / scale
    margin = z * math.sqrt(share * (1 - share) / size + z**2 / (4 * size**2)) / scale
    return min(max(centre - margin, 0.0), 1.0), min(max(centre + margin, 0.0), 1.0)


def _one_run(sums: np.ndarray, counts: np.ndarray) -> tuple[float | None, float | None]:
    """Standard error (`clustered_share_error`) and degrees of freedom from each cluster's sum and count; shape (clusters,).

    The degrees are the number of clusters of equal size that would be worth as much (Kish), minus 1: N^2 / sum(n^2) - 1.
    """
    return clustered_share_error(sums, counts), _cluster_degrees(counts)


def _several_runs(sums: np.ndarray, counts: np.ndarray, draws: int, seed: int) -> tuple[float | None, float | None]:
    """The same for several runs, from sums and counts of shape (runs, clusters).

    Clusters are drawn with all runs, and runs with all clusters; the two add up. What both share, the noise of single cells, is taken off
    the runs' part, and both parts are stretched by sqrt(k / (k - 1)), because k draws with replacement spread less than a sample of k. The
    degrees of freedom are Satterthwaite's for the sum.
    """
    if sums.shape[1] < 2:
        return None, None
    of_runs, of_clusters, of_cells = _components(sums, counts)
    between = max(of_runs - of_cells, 0.0)
    random = np.random.default_rng(seed)
    facts = _drawn_facts(sums, counts, random, draws)
    total = facts + (math.sqrt(between / of_runs) * _drawn_runs(sums, counts, random, draws) if between else 0.0)
    degrees = _cluster_degrees(counts.sum(axis=0))
    if between and degrees:
        spread = of_clusters**2 / degrees + (of_runs**2 + of_cells**2 / degrees) / (len(sums) - 1)
        degrees = (of_clusters + between) ** 2 / spread
    return float(total.std(ddof=1)), degrees


def _components(sums: np.ndarray, counts: np.ndarray) -> tuple[float, float, float]:
    """Variances of the mean from runs, from clusters and from single cells, each with all that lies within it (two-way clustering)."""
    n_runs, n_clusters = sums.shape
    off = sums - counts * (sums.sum() / counts.sum())
    by_run, by_cluster = off.sum(axis=1, keepdims=True), off.sum(axis=0, keepdims=True)
    rest = off - counts / counts.sum(axis=1, keepdims=True) * by_run - counts / counts.sum(axis=0, keepdims=True) * by_cluster
    run_factor, cluster_factor = n_runs / (n_runs - 1), n_clusters / (n_clusters - 1)
    factors = (run_factor, cluster_factor, run_factor * cluster_factor)
    return tuple(  # type: ignore[return-value]
        float(factor * np.square(part).sum() / counts.sum() ** 2) for factor, part in zip(factors, (by_run, by_cluster, rest), strict=True)
    )


def _drawn_facts(sums: np.ndarray, counts: np.ndarray, random: np.random.Generator, draws: int) -> np.ndarray:
    """The mean's deviations when clusters are drawn with replacement; shape (draws,)."""
    clusters = sums.shape[1]
    times = random.multinomial(clusters, np.full(clusters, 1 / clusters), size=draws)
    means = (times @ sums.sum(axis=0)) / (times @ counts.sum(axis=0))
    return (means - sums.sum() / counts.sum()) * math.sqrt(clusters / (clusters - 1))


def _drawn_runs(sums: np.ndarray, counts: np.ndarray, random: np.random.Generator, draws: int) -> np.ndarray:
    """The same when runs are drawn."""
    runs = len(sums)
    times = random.multinomial(runs, np.full(runs, 1 / runs), size=draws)
    means = (times @ sums.sum(axis=1)) / (times @ counts.sum(axis=1))
    return (means - sums.sum() / counts.sum()) * math.sqrt(runs / (runs - 1))


def _cluster_degrees(counts: np.ndarray) -> float | None:
    return float(counts.sum() ** 2 / np.square(counts).sum() - 1) if counts.size > 1 else None


def _cells(rows: np.ndarray, columns: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sums of the weights by row and column; shape (rows, columns)."""
    shape = (rows.max() + 1, columns.max() + 1)
    return np.bincount(rows * shape[1] + columns, weights=weights, minlength=shape[0] * shape[1]).reshape(shape)


def _codes(labels: Labels) -> np.ndarray:
    return np.unique(np.asarray(labels), return_inverse=True)[1]


def _validate(sample: np.ndarray, groups: np.ndarray, levels: np.ndarray, support: Support) -> None:
    if not sample.size:
        raise ValueError("no values to take a mean of")
    if not sample.size == groups.size == levels.size:
        raise ValueError(f"{sample.size} values, {groups.size} clusters, {levels.size} runs: expected one of each per value")
    least, most = support.bounds
    if not np.all((sample >= least) & (sample <= most)):
        raise ValueError(f"a value is outside {least:g} to {most:g}")
