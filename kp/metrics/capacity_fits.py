"""Curves through the capacities of a study's trials: recall against load, and the bits that an adapter of a rank can hold.

Two curves, each with as few parameters as show saturation:

    recall = 1 / (1 + (load / half)^steepness)        load in bits per parameter; `half` is the load at which half is recalled
    M = C (1 - exp(-h N / C)), C = a rank^b           h are the bits of a fact while there is room, C the most bits at this rank

Intervals are percentiles of a bootstrap over trials. A fit always gives numbers, so each is followed by the question whether the data
determine them: a curve counts as identified only if the trials reach the bend that it describes and the intervals leave no other story.
Otherwise the fit says why not, and no number is reported.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy import optimize

LEAST_LOADS = 4
"""Distinct loads below which no curve is fitted."""
LEAST_RANKS = 2
"""Ranks that must come near their capacity, for a power of the rank."""
LEAST_SIZES = 3
"""Different N of a rank, for it to come near its capacity."""
BENT = 0.8
"""A rank has come near its capacity if a fact of its largest N has at most this share of the bits of one of its smallest N, and the two
intervals do not meet. The curve alone would take slow learning at a low rank for a small capacity."""
WIDEST = 4.0
"""The upper end of an interval of a load or a capacity over its lower end, above which it is not determined."""
DRAWS = 200

Residuals = Callable[[np.ndarray, np.ndarray], np.ndarray]  # of parameters and trials [trials, columns]


@dataclass(frozen=True)
class Parameter:
    """A fitted number and its 95% interval."""

    value: float
    lower: float
    upper: float

    @property
    def spread(self) -> float:
        """The upper end over the lower end, for positive numbers."""
        return self.upper / self.lower if self.lower > 0 else float("inf")


@dataclass(frozen=True)
class NoFit:
    """Why no curve is reported."""

    reason: str


@dataclass(frozen=True)
class RecallFit:
    """Recall against load."""

    half: Parameter  # bits per parameter
    steepness: Parameter


@dataclass(frozen=True)
class CapacityFit:
    """The most bits that adapters hold, by rank."""

    at_rank_one: Parameter  # a
    power: Parameter  # b
    bits_per_fact: Parameter  # h


def fit_recall(capacity: pl.DataFrame, seed: int = 0) -> RecallFit | NoFit:
    """The curve of recall against load through trials with `load` and `recall`."""
    trials = capacity.drop_nulls(["load", "recall"])
    if (few := _too_few(trials)) is not None:
        return few
    middle = float(np.log(trials["load"].to_numpy()).mean())
    sample = trials.select("load", "recall").to_numpy()
    found = _fitted(sample, _recall_residuals, [[middle, 0.0], [middle, 1.0]], ([-20.0, -2.0], [20.0, 3.0]), seed)
    half, steepness = found.parameter(0, np.exp), found.parameter(1, np.exp)
    lowest, highest = (float(end) for end in (trials["load"].min(), trials["load"].max()))  # type: ignore[arg-type]
    if not lowest <= half.value <= highest:
        return NoFit(f"recall does not pass one half between the loads of {lowest:.2g} and {highest:.2g} bits per parameter")
    if half.spread > WIDEST or steepness.lower < 0.2:
        return NoFit("trials do not determine the load at which half of the facts are recalled")
    return RecallFit(half, steepness)


def fit_capacity(capacity: pl.DataFrame, seed: int = 0) -> CapacityFit | NoFit:
    """The curve of memorised bits through trials with `rank`, `facts`, `load`, `per_fact`, and `lower` and `upper` of M."""
    trials = capacity.drop_nulls(["rank", "facts", "per_fact", "lower", "upper"])
    if (few := _too_few(trials)) is not None:
        return few
    ranks = [of_rank for _, of_rank in trials.group_by("rank")]
    if (near := sum(map(_is_bent, ranks))) < LEAST_RANKS:
        return NoFit(f"{near} of {len(ranks)} ranks hold fewer bits of a fact as N grows, and a power of the rank needs {LEAST_RANKS}")
    most = max(float((trials["per_fact"] * trials["facts"]).max()), 1e-3)  # type: ignore[arg-type]
    each = max(float(trials["per_fact"].max()), 1e-3)  # type: ignore[arg-type]
    starts = [[np.log(most / ratio), power, np.log(each)] for ratio in (1.0, 4.0) for power in (0.5, 1.0)]
    sample = trials.select("rank", "facts", "per_fact").to_numpy().astype(np.float64)
    found = _fitted(sample, _bits_residuals, starts, ([-10.0, -1.0, -10.0], [25.0, 3.0, 6.0]), seed)
    fit = CapacityFit(found.parameter(0, np.exp), found.parameter(1, float), found.parameter(2, np.exp))
    if fit.at_rank_one.spread > WIDEST or fit.bits_per_fact.spread > WIDEST:
        return NoFit("trials do not determine how many bits a rank holds")
    return fit


def _is_bent(of_rank: pl.DataFrame) -> bool:
    """Whether the trials of a rank show that it comes near its capacity."""
    if of_rank["facts"].n_unique() < LEAST_SIZES:
        return False
    few, many = (of_rank.filter(pl.col("facts") == end) for end in (of_rank["facts"].min(), of_rank["facts"].max()))
    least, most = (few["lower"] / few["facts"]).to_numpy().min(), (many["upper"] / many["facts"]).to_numpy().max()
    return bool(most < least and many["per_fact"].to_numpy().mean() <= BENT * few["per_fact"].to_numpy().mean())


@dataclass(frozen=True)
class _Fitted:
    """The least-squares parameters, and those of each bootstrap draw [draws, parameters]."""

    best: np.ndarray
    drawn: np.ndarray

    def parameter(self, place: int, scale: Callable[[float], float]) -> Parameter:
        lower, upper = np.percentile(self.drawn[:, place], [2.5, 97.5])
        return Parameter(*(float(scale(end)) for end in (self.best[place], lower, upper)))


def _too_few(trials: pl.DataFrame) -> NoFit | None:
    loads = trials["load"].n_unique()
    return NoFit(f"{loads} different loads, and a curve needs {LEAST_LOADS}") if loads < LEAST_LOADS else None


def _fitted(
    trials: np.ndarray, residuals: Residuals, starts: list[list[float]], bounds: tuple[list[float], list[float]], seed: int
) -> _Fitted:
    """Least squares from the best of several starts; draws of trials start where all trials ended."""

    def solved(sample: np.ndarray, start: np.ndarray) -> optimize.OptimizeResult:
        return optimize.least_squares(residuals, np.clip(start, *bounds), bounds=bounds, args=(sample,), max_nfev=100)

    best = min((solved(trials, np.array(start)) for start in starts), key=lambda found: found.cost).x
    random = np.random.default_rng(seed)
    samples = (trials[random.integers(0, len(trials), len(trials))] for _ in range(DRAWS))
    return _Fitted(best, np.array([solved(sample, best).x for sample in samples]))


def _recall_residuals(parameters: np.ndarray, trials: np.ndarray) -> np.ndarray:
    """Of log half and log steepness, for trials with load and recall."""
    load, recall = trials.T
    half, steepness = np.exp(parameters)
    return np.asarray(recall_at(load, half, steepness) - recall)


def recall_at(load: np.ndarray, half: float, steepness: float) -> np.ndarray:
    """The share recalled at these loads."""
    return np.asarray(1 / (1 + np.exp(np.clip(steepness * np.log(load / half), -500, 500))))


def _bits_residuals(parameters: np.ndarray, trials: np.ndarray) -> np.ndarray:
    """Of log a, b and log h, in bits per fact, for trials with rank, facts and bits per fact."""
    rank, facts, bits = trials.T
    first, power, each = parameters
    return np.asarray(bits_at(facts, np.exp(first) * rank**power, np.exp(each)) / facts - bits)


def bits_at(facts: np.ndarray, most: np.ndarray, each: float) -> np.ndarray:
    """The bits memorised of so many facts by adapters that hold at most `most`, if a fact has `each` bits while there is room."""
    return np.asarray(-most * np.expm1(-each * facts / most))
