"""Means, intervals and tests once more, from their formulas: no kp, no numpy, no scipy, so that no fault of theirs is repeated here.

Formulas: the cluster-robust error of a mean with the factor G/(G-1); Student's interval with Kish's degrees of freedom, N^2/sum(n^2) - 1;
Wilson's interval, and MOVER for a difference of two shares (Zou and Donner 2008); Holm's step-down; McNemar's and Bowker's tests.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

FEW = 10  # with fewer changed clusters than this, and with fewer changed items, small-count formulas apply
EXACT_BELOW = 25


@dataclass(frozen=True)
class Mean:
    """A mean over items in clusters; `above` and `below` are the means of its parts where few clusters have changed."""

    value: float
    n: int
    clusters: int
    error: float | None
    degrees: float | None
    few: bool
    above: float
    below: float
    least: float
    most: float

    def interval(self, confidence: float = 0.95) -> tuple[float, float] | None:
        """Student's, widened to Wilson's if few clusters have changed; not cut at what a mean can be."""
        if self.error is None or self.degrees is None:
            return None
        half = student_quantile(0.5 + confidence / 2, self.degrees) * self.error
        low, high = self.value - half, self.value + half
        if self.few:
            up_low, up_high = wilson(self.above * self.clusters, self.clusters, confidence)
            down_low, down_high = (0.0, 0.0) if self.least == 0 else wilson(self.below * self.clusters, self.clusters, confidence)
            low = min(low, self.value - math.hypot(self.above - up_low, down_high - self.below))
            high = max(high, self.value + math.hypot(up_high - self.above, self.below - down_low))
        return low, high

    def limits(self) -> tuple[float, float] | None:
        """The 95% interval within what the mean can be."""
        found = self.interval()
        return found and (max(found[0], self.least), min(found[1], self.most))

    def resolvable(self, confidence: float = 0.95) -> float | None:
        """The longer half of the interval, times 1 + t(80%) / t(confidence)."""
        found = self.interval(confidence)
        if found is None or self.degrees is None:
            return None
        half = max(found[1] - self.value, self.value - found[0])
        return half * (1 + student_quantile(0.8, self.degrees) / student_quantile(0.5 + confidence / 2, self.degrees))


def mean_in_clusters(values: Sequence[float], clusters: Sequence[object], least: float = -1.0) -> Mean:
    """The mean of values from `least` (-1 or 0) to 1, one label of a cluster for each."""
    sums: dict[object, float] = {}
    sizes: dict[object, int] = {}
    for value, cluster in zip(values, clusters, strict=True):
        sums[cluster] = sums.get(cluster, 0.0) + value
        sizes[cluster] = sizes.get(cluster, 0) + 1
    n, groups = len(values), len(sizes)
    mean = math.fsum(values) / n
    changed = {cluster for value, cluster in zip(values, clusters, strict=True) if value}
    square = sum((sums[cluster] - mean * sizes[cluster]) ** 2 for cluster in sizes)
    return Mean(
        value=mean,
        n=n,
        clusters=groups,
        error=math.sqrt(groups / (groups - 1) * square) / n if groups > 1 else None,
        degrees=n**2 / sum(size**2 for size in sizes.values()) - 1 if groups > 1 else None,
        few=len(changed) < FEW,
        above=math.fsum(max(value, 0) for value in values) / n,
        below=math.fsum(max(-value, 0) for value in values) / n,
        least=least,
        most=1.0,
    )


def cautious_error(values: Sequence[float], clusters: Sequence[object]) -> float | None:
    """The error of a share; if fewer than FEW clusters are not all 0 or not all 1, at least half of Wilson's interval over 1.96."""
    mean = mean_in_clusters(values, clusters, 0.0)
    with_one = {cluster for value, cluster in zip(values, clusters, strict=True) if value == 1}
    with_zero = {cluster for value, cluster in zip(values, clusters, strict=True) if value == 0}
    if min(len(with_one), len(with_zero)) >= FEW:
        return mean.error
    low, high = wilson(mean.value * mean.clusters, mean.clusters)
    return max(mean.error or 0.0, (high - low) / 2 / 1.96)


def wilson(count: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a share."""
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = count / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return middle - half, middle + half


def holm(count: int, passes: Callable[[int, int], bool]) -> set[int]:
    """The tests of `count` that Holm's correction lets pass; `passes(test, k)` says whether one passes at its level divided by k."""
    found: set[int] = set()
    while len(found) < count:
        more = {test for test in range(count) if passes(test, count - len(found))}
        if more == found:
            break
        found = more
    return found


def holm_adjusted(p_values: Sequence[float]) -> list[float]:
    """The p-values adjusted."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, p_values[place] * (len(p_values) - rank)))
        adjusted[place] = highest
    return adjusted


def mcnemar(lost: int, won: int) -> float:
    """Two-sided p of McNemar's test: binomial below 25 changes, else chi-squared with continuity correction."""
    changed = lost + won
    if changed >= EXACT_BELOW:
        return chi_squared_tail(max(abs(lost - won) - 1, 0) ** 2 / changed, 1)
    return min(1.0, 2 * sum(math.comb(changed, count) for count in range(min(lost, won) + 1)) / 2**changed)


def bowker(moves: Sequence[tuple[int, int]]) -> float:
    """p of Bowker's test, from the counts of moves there and back between each two categories; exact below 25 moves."""
    pairs = [(there, there + back) for there, back in moves if there + back]
    statistic = sum((2 * there - both) ** 2 / both for there, both in pairs)
    if sum(both for _, both in pairs) >= EXACT_BELOW:
        return chi_squared_tail(statistic, len(pairs))
    total = 0
    for ways in itertools.product(*(range(both + 1) for _, both in pairs)):
        if sum((2 * way - both) ** 2 / both for way, (_, both) in zip(ways, pairs, strict=True)) >= statistic - 1e-9:
            total += math.prod(math.comb(both, way) for way, (_, both) in zip(ways, pairs, strict=True))
    return total / 2 ** sum(both for _, both in pairs)


def chi_squared_tail(statistic: float, degrees: int) -> float:
    """The chance of a larger value, for 1, 2 or 3 degrees of freedom."""
    if degrees == 2:
        return math.exp(-statistic / 2)
    tail = math.erfc(math.sqrt(statistic / 2))
    return tail if degrees == 1 else tail + math.sqrt(2 * statistic / math.pi) * math.exp(-statistic / 2)


@cache
def student_quantile(probability: float, degrees: float) -> float:
    """Student's quantile for a probability of at least one half, by bisection of log x: P(|t| > q) = I(x; d/2, 1/2), x = d / (d + q^2)."""
    if probability == 0.5:
        return 0.0
    low, high = -700.0, 0.0
    for _ in range(200):
        middle = (low + high) / 2
        if incomplete_beta(math.exp(middle), degrees / 2, 0.5) < 2 * (1 - probability):
            low = middle
        else:
            high = middle
    return math.sqrt(degrees * -math.expm1(low) / math.exp(low))


def incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function, by its continued fraction (Lentz's method)."""
    if x in (0.0, 1.0):
        return x
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(1 - x, b, a)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    numerator, denominator = 1.0, 0.0
    fraction = 1.0
    for step in range(500):
        half = step // 2
        if step == 0:
            term = 1.0
        elif step % 2:
            term = -(a + half) * (a + b + half) * x / ((a + 2 * half) * (a + 2 * half + 1))
        else:
            term = half * (b - half) * x / ((a + 2 * half - 1) * (a + 2 * half))
        denominator = 1 / (1 + term * denominator)
        numerator = 1 + term / numerator
        fraction *= numerator * denominator
        if step and abs(numerator * denominator - 1) < 1e-15:
            break
    return front * (fraction - 1)
