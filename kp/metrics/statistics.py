"""Standard errors.

The ten answers to one question are not independent, so shares of answers have standard errors clustered over facts; treating the answers
as independent would make the errors about three times too small. If there is nothing to estimate from, the result is None, which tables
store as null.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from statsmodels.regression.linear_model import OLS

NORMAL_95 = 1.96
"""Standard errors to each side of a 95% interval."""


def binomial_standard_error(successes: float, n: int) -> float | None:
    """Standard error of the share successes/n of independent trials, sqrt(p(1-p)/n); None if n is 0."""
    if n == 0:
        return None
    share = successes / n
    return float(np.sqrt(share * (1 - share) / n))


def clustered_standard_error(values: npt.ArrayLike, clusters: Sequence[str]) -> float | None:
    """Standard error of the mean of `values` if those of one cluster may depend on each other; None for fewer than two clusters.

    The cluster-robust variance of a regression on a constant, with the factor G/(G-1) for G clusters.
    """
    labels = np.unique(np.asarray(clusters), return_inverse=True)[1]
    if labels.size == 0 or labels.max() < 1:
        return None
    sample = np.asarray(values, dtype=np.float64)
    return float(OLS(sample, np.ones_like(sample)).fit(cov_type="cluster", cov_kwds={"groups": labels}).bse[0])


def clustered_share_error(successes: npt.ArrayLike, sizes: npt.ArrayLike) -> float | None:
    """`clustered_standard_error` of a share, from each cluster's successes and size; None for fewer than two clusters.

    With G clusters and the share p = sum(s)/sum(n): sqrt(G/(G-1) * sum((s - p n)^2)) / sum(n). A cluster of size 0 does not count.
    """
    hits, counts = np.asarray(successes, dtype=np.float64), np.asarray(sizes, dtype=np.float64)
    hits, counts = hits[counts > 0], counts[counts > 0]
    if counts.size < 2:
        return None
    deviations = hits - counts * (hits.sum() / counts.sum())
    return float(np.sqrt(counts.size / (counts.size - 1) * np.square(deviations).sum()) / counts.sum())
