"""How the categories of the base agree with those that the authors of a data set published.

Both are of the same facts, so they form a square table. Published WeaklyKnown facts have no right greedy answer, which kp calls Unknown.
Agreement alone flatters: where 68% of the facts are Unknown, two models that know nothing of each other agree on half of them. So Cohen's
kappa stands beside it, which is 0 for what chance would give and 1 for equal categories.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from statsmodels.stats.inter_rater import cohens_kappa

from kp.metrics.intervals import wilson
from kp.metrics.result_schema import PUBLISHED_AGREEMENT
from kp.vocabulary import GREEDY_CATEGORIES, Category, Matcher, ShotSet


@dataclass(frozen=True)
class PublishedAgreement:
    """`equal` of `n` facts have the published category: shares from 0 to 1 with their 95% intervals; kappa from -1 to 1."""

    n: int
    equal: int
    interval: tuple[float, float]  # Wilson's
    kappa: float | None  # None if both put all facts into one category, where chance agrees too
    kappa_interval: tuple[float, float] | None  # by kappa's asymptotic standard error

    @property
    def share(self) -> float:
        """Facts with the published category over all facts."""
        return self.equal / self.n

    def sentence(self) -> str:
        """In words."""
        low, high = self.interval
        told = f"{self.equal:,} of {self.n:,} facts have their published category: {self.share:.1%} ({low:.1%} to {high:.1%})"
        if self.kappa is None or self.kappa_interval is None:
            return f"{told}; kappa is not defined"
        return f"{told}, kappa {self.kappa:.2f} ({self.kappa_interval[0]:.2f} to {self.kappa_interval[1]:.2f})"


def published_agreement(categories: pl.DataFrame, published: pl.DataFrame, matcher: Matcher) -> pl.DataFrame:
    """The table PUBLISHED_AGREEMENT, from CATEGORIES of the base and PUBLISHED_CATEGORIES; only pairs that some fact has."""
    ours = categories.filter(matcher=matcher.value, shot_set=ShotSet.S0.value).select("fact_id", "category")
    both = published.rename({"category": "published"}).join(ours, on="fact_id", validate="1:1")
    counts = both.group_by("published", "category").agg(facts=pl.len().cast(pl.Int64))
    return counts.sort("published", "category").select(PUBLISHED_AGREEMENT.names)


def summarise(table: pl.DataFrame) -> PublishedAgreement | None:
    """Agreement and kappa of a table PUBLISHED_AGREEMENT; None if it has no facts."""
    counts = confusion(table)
    n, equal = int(counts.sum()), int(np.trace(counts))
    interval = wilson(equal, n)
    if interval is None:
        return None
    expected = float(counts.sum(axis=0) @ counts.sum(axis=1)) / n**2
    if expected == 1:
        return PublishedAgreement(n, equal, interval, None, None)
    found = cohens_kappa(counts)
    return PublishedAgreement(n, equal, interval, float(found.kappa), (float(found.kappa_low), float(found.kappa_upp)))


def confusion(table: pl.DataFrame) -> np.ndarray:
    """Facts by published category (rows) and category of the base (columns), in the order of GREEDY_CATEGORIES."""
    counts = np.zeros((len(GREEDY_CATEGORIES), len(GREEDY_CATEGORIES)), dtype=np.int64)
    for published, category, facts in table.select(PUBLISHED_AGREEMENT.names).iter_rows():
        counts[GREEDY_CATEGORIES.index(greedy(Category(published))), GREEDY_CATEGORIES.index(Category(category))] += facts
    return counts


def greedy(category: Category) -> Category:
    """What greedy answers alone would have shown."""
    return Category.UNKNOWN if category is Category.WEAKLY_KNOWN else category
