"""OUTCOMES tables of made-up models, from counts of right answers, and simulated models whose true effect is known."""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from scipy import stats

from kp import schema
from kp.vocabulary import BASE, Category

ASKED = 10
Counts = Mapping[str, Sequence[int] | np.ndarray]
"""Right answers out of ten by shot set, fact by fact."""

CLUSTER_SIZES = (14, 9, 8, 8, 8, 7, 6, 5, 4, 4, 4, 4, 3, 3, 3, *[2] * 15, *[1] * 80)
"""200 facts in 110 clusters: how objects repeat in a study over five relations."""


def facts_in(clusters: Sequence[int] | np.ndarray) -> pl.DataFrame:
    """FACTS f0, f1, ... as far as effects need them, with relation and object by cluster."""
    return pl.DataFrame(
        {
            "fact_id": [f"f{fact}" for fact in range(len(clusters))],
            "relation": [f"r{int(cluster) % 3}" for cluster in clusters],
            "object": [f"o{int(cluster)}" for cluster in clusters],
        }
    )


def outcomes(base: Counts, trials: Mapping[str, Counts], roles: Sequence[str] | str = "control_test") -> pl.DataFrame:
    """OUTCOMES of facts f0, f1, ...: the base and each trial, with one role for all facts or one for each."""
    tables = [_of_model(BASE, base, "control_test"), *(_of_model(trial_id, counts, roles) for trial_id, counts in trials.items())]
    return pl.concat(tables).select(schema.OUTCOMES.names)


def simulate_knowledge(random: np.random.Generator, simulations: int, clusters: np.ndarray, correlation: float = 0.3) -> np.ndarray:
    """Each fact's chance of a right answer, Beta(0.6, 0.6) and correlated within clusters; shape (simulations, facts)."""
    shared = random.standard_normal((simulations, clusters.max() + 1))[:, clusters]
    score = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * random.standard_normal(shared.shape)
    return stats.beta.ppf(stats.norm.cdf(score), 0.6, 0.6)


def simulate_harm(random: np.random.Generator, known: np.ndarray, clusters: np.ndarray, mean: float, run_spread: float = 0.0) -> np.ndarray:
    """Chances after a harm of `mean` on average: proportional to what is known, different by cluster, and by run with this deviation."""
    by_cluster = random.gamma(2.0, 0.5, (len(known), clusters.max() + 1))[:, clusters]
    by_run = mean + run_spread * random.standard_normal((len(known), 1))
    return np.clip(known * (1 - by_run / 0.5 * by_cluster), 0, 1)  # 0.5 is the mean of the Beta


def _of_model(trial_id: str, counts: Counts, roles: Sequence[str] | str) -> pl.DataFrame:
    tables = []
    for shot_set, given in counts.items():
        correct = np.asarray(given)
        names = {0: Category.UNKNOWN.value, ASKED: Category.HIGHLY_KNOWN.value}
        kinds = np.full(correct.size, Category.MAYBE_KNOWN.value, dtype=object)
        for count, name in names.items():
            kinds[correct == count] = name
        table = pl.DataFrame(
            {
                "fact_id": [f"f{fact}" for fact in range(correct.size)],
                "correct": pl.Series(correct, dtype=pl.Int32),
                "category": pl.Series(kinds.tolist(), dtype=pl.String),
                "role": [roles] * correct.size if isinstance(roles, str) else list(roles),
            }
        )
        tables.append(
            table.with_columns(
                pl.lit(trial_id).alias("trial_id"),
                pl.lit(shot_set).alias("shot_set"),
                pl.lit(ASKED, dtype=pl.Int32).alias("asked"),
                pl.lit(0, dtype=pl.Int32).alias("refused"),
            )
        )
    return pl.concat(tables)
