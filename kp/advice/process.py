"""A Gaussian process over the settings of trials, for one target.

    y = m + f(x) + b(study) + e,    f ~ GP(0, s^2 exp(-1/2 sum_j (d_j / l_j)^2)),    b ~ N(0, t^2),    e ~ N(0, u^2 + error^2)

with x on logarithmic scales, d_j the distance of two settings in knob j, and error the known standard error of the row. The mean m has a
flat prior, so its own uncertainty is part of every prediction (Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006,
sections 2.2, 2.7 and 5.4). Deviations and lengths maximise the marginal likelihood times broad log-normal priors, without which a few
studies would let a length run away. Without f this is the mean alone, with the spread between studies: the reference of every claim.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import linalg, optimize

Array = npt.NDArray[np.float64]
LENGTHS: dict[str, float] = {
    "facts": 4.0,
    "rank": 3.0,
    "learning_rate": 2.0,
    "exposures": 2.0,
    "replayed": 1.0,
    "parameters": 6.0,
}
"""Columns of x and the doublings over which an effect is expected to change: medians of the priors of the lengths l."""
PRIOR_SD = 1.0  # of the logarithm of every parameter
SHARES = (0.7, 0.4, 0.4)  # medians of s, t, u over the standard deviation of y
SMALLEST = 1e-3  # standard deviation of y below which its scale is not known


@dataclass(frozen=True)
class Observed:
    """Rows of one target: settings [n, knobs], values [n], their standard errors [n], and the number of each row's study [n]."""

    x: Array
    y: Array
    error: Array
    study: npt.NDArray[np.int64]

    def only(self, chosen: npt.NDArray[np.bool_]) -> "Observed":
        """The chosen rows."""
        return Observed(self.x[chosen], self.y[chosen], self.error[chosen], self.study[chosen])


@dataclass(frozen=True)
class Process:
    """A fitted process; without `signal` it is the mean alone."""

    seen: Observed
    signal: float
    between: float
    noise: float
    lengths: Array
    log_likelihood: float  # marginal, without the priors

    def predict(self, x: Array) -> tuple[Array, Array]:
        """Mean [n] and standard deviation [n] of the true values of new trials in a new study, at settings [n, knobs]."""
        mean, covariance = self.joint(x)
        return mean, np.sqrt(np.diag(covariance) + self.between**2 + self.noise**2)

    def joint(self, x: Array) -> tuple[Array, Array]:
        """Mean [n] and covariance [n, n] of m + f at settings [n, knobs]; without the new study's deviation and a trial's own."""
        factor = linalg.cho_factor(self._covariance(), lower=True)
        ones = np.ones(len(self.seen.y))
        weights = linalg.cho_solve(factor, ones)
        level = float(weights @ self.seen.y / (weights @ ones))
        cross = self.signal**2 * likeness(x, self.seen.x, self.lengths)
        solved = linalg.cho_solve(factor, cross.T)
        mean = level + cross @ linalg.cho_solve(factor, self.seen.y - level)
        left = 1.0 - solved.T @ ones  # of the uncertain level
        covariance = self.signal**2 * likeness(x, x, self.lengths) - cross @ solved + np.outer(left, left) / (weights @ ones)
        return mean, covariance

    def _covariance(self) -> Array:
        return _covariance(self.seen, self.signal, self.between, self.noise, self.lengths)


def fit_process(seen: Observed, with_signal: bool) -> Process:
    """The process that maximises the posterior of its parameters; `seen` needs one row."""
    knobs = seen.x.shape[1]
    scale = max(float(np.std(seen.y)), SMALLEST)
    medians = np.log([*(share * scale for share in SHARES), *list(LENGTHS.values())[:knobs]])
    free = np.arange(len(medians)) if with_signal else np.array([1, 2])

    def parameters(values: Array) -> Array:
        full = medians.copy()
        full[free] = values
        return np.asarray(np.exp(full))

    def cost(values: Array) -> float:
        signal, between, noise, *lengths = parameters(values)
        prior = 0.5 * float(np.sum(((values - medians[free]) / PRIOR_SD) ** 2))
        return prior - _log_likelihood(seen, signal if with_signal else 0.0, between, noise, np.array(lengths))

    found = optimize.minimize(cost, medians[free], method="L-BFGS-B", bounds=[(m - 4, m + 4) for m in medians[free]])
    signal, between, noise, *lengths = parameters(found.x)
    signal = signal if with_signal else 0.0
    likelihood = _log_likelihood(seen, signal, between, noise, np.array(lengths))
    return Process(seen, float(signal), float(between), float(noise), np.array(lengths), likelihood)


def likeness(one: Array, other: Array, lengths: Array) -> Array:
    """exp(-1/2 sum_j (d_j / l_j)^2) for settings [n, knobs] and [m, knobs]: [n, m]."""
    distance = (one[:, None, :] - other[None, :, :]) / lengths
    return np.asarray(np.exp(-0.5 * np.sum(distance**2, axis=2)))


def _covariance(seen: Observed, signal: float, between: float, noise: float, lengths: Array) -> Array:
    same = seen.study[:, None] == seen.study[None, :]
    own = np.diag(noise**2 + seen.error**2 + 1e-10)
    return np.asarray(signal**2 * likeness(seen.x, seen.x, lengths) + between**2 * same + own)


def _log_likelihood(seen: Observed, signal: float, between: float, noise: float, lengths: Array) -> float:
    """Of the rows, with the level integrated over its flat prior."""
    factor, lower = linalg.cho_factor(_covariance(seen, signal, between, noise, lengths), lower=True)
    ones = np.ones(len(seen.y))
    weights = linalg.cho_solve((factor, lower), ones)
    total = float(weights @ ones)
    rest = seen.y - float(weights @ seen.y) / total
    fit = float(rest @ linalg.cho_solve((factor, lower), rest))
    return -0.5 * fit - float(np.sum(np.log(np.diag(factor)))) - 0.5 * float(np.log(total))
