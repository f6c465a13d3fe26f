"""Table 4 of arXiv 2502.14502 on matched facts: refusals and the diversity of answers, of adapter and base over the same facts and prompts.

Which answers are unique, and how often an answer occurs, are properties of all answers together, so the difference has no value per fact.
Its standard error is a jackknife's, leaving out one fact after the other from both models at once. A bootstrap does not work for unique
answers: a resample leaves out a third of the facts, and with them most answers that occur once. The jackknife's variance is too large
rather than too small (Efron and Stein 1981). Shares of refusals do have a value per fact, and the intervals of kp.metrics.intervals.

The paper counts refusals among the first answers to each fact, by the word "information" (see kp.metrics.reasons): `released_refusals`. It
calls variance what its code computes as standard deviation; here both have their own names.
"""

from typing import Any

import numpy as np
import polars as pl

from kp.metrics.compared_answers import ComparedAnswers
from kp.metrics.effect_summary import fact_clusters
from kp.metrics.intervals import estimate_mean
from kp.metrics.reasons import RELEASED_REFUSAL
from kp.metrics.result_schema import ANSWER_CHANGES
from kp.metrics.scores import Measure
from kp.vocabulary import ShotSet

RELEASED_REFUSALS = "released_refusals"
DIVERSITY = (Measure.UNIQUE_ANSWERS, Measure.MEAN_COUNT, Measure.STD_COUNT, Measure.VARIANCE_COUNT, Measure.TOP_ANSWER_SHARE)
_NORMAL_95 = 1.959964


def answer_changes(compared: ComparedAnswers) -> pl.DataFrame:
    """The ANSWER_CHANGES of one adapter on S1; `n` counts facts. Exactly 0 for an adapter that changes no answer."""
    rows = [_refusals(compared, Measure.REFUSAL_RATE.value), _refusals(compared, RELEASED_REFUSALS)]
    adapter, base = (_Diversity(compared.paired.select("fact_id", pl.col(name).alias("text"))) for name in ("text", "base_text"))
    without = adapter.without_each() - base.without_each()
    count = len(without)
    errors = np.sqrt((count - 1) / count * np.square(without - without.mean(axis=0)).sum(axis=0))
    for measure, mine, theirs, error in zip(DIVERSITY, adapter.values(), base.values(), errors, strict=True):
        margin = _NORMAL_95 * float(error)
        limits = (None, None) if count < 2 else (float(mine - theirs) - margin, float(mine - theirs) + margin)
        rows.append(_row(compared, measure.value, float(mine), float(theirs), count, limits))
    return pl.DataFrame(rows, schema=pl.DataFrame(pl.from_arrow(ANSWER_CHANGES.empty_table())).schema)


def _refusals(compared: ComparedAnswers, measure: str) -> dict[str, Any]:
    paired = compared.paired
    if measure == RELEASED_REFUSALS:
        first = paired.filter(pl.col("prompt_index") == pl.col("prompt_index").min())
        held = {"adapter": pl.col("raw"), "base": pl.col("base_raw")}
        paired = first.select("fact_id", *(text.str.contains(RELEASED_REFUSAL, literal=True).alias(name) for name, text in held.items()))
    else:
        paired = paired.select("fact_id", pl.col("refused").alias("adapter"), pl.col("base_refused").alias("base"))
    shares = paired.group_by("fact_id").agg(pl.col("adapter", "base").mean())
    of_facts = shares.join(compared.facts.select("fact_id", "relation", "object"), on="fact_id", how="left").sort("fact_id")
    adapter, base = (of_facts[name].to_numpy() for name in ("adapter", "base"))
    estimate = estimate_mean(adapter - base, fact_clusters(of_facts))
    return _row(compared, measure, float(adapter.mean()), float(base.mean()), estimate.n, estimate.limits() or (None, None))


class _Diversity:
    """How often each text occurs, and what is left without each fact."""

    def __init__(self, spoken: pl.DataFrame) -> None:
        cells = spoken.group_by("fact_id", "text").agg(pl.len().cast(pl.Int64).alias("cell")).sort("fact_id", "text")
        self._fact, self._text = (cells[name].rank("dense").to_numpy().astype(np.int64) - 1 for name in ("fact_id", "text"))
        self._cell = cells["cell"].to_numpy()
        self._counts = np.bincount(self._text, weights=self._cell)

    def values(self) -> np.ndarray:
        """Those of DIVERSITY."""
        top = float(self._counts.max())
        return _statistics(*(np.array([value]) for value in (self._counts.size, self._counts.sum(), np.square(self._counts).sum(), top)))[0]

    def without_each(self) -> np.ndarray:
        """The same without each fact; shape (facts, DIVERSITY)."""
        lone = self._per_fact(self._cell == self._counts[self._text])
        squares = self._per_fact(2 * self._counts[self._text] * self._cell - np.square(self._cell))
        answers = self._per_fact(self._cell)
        total = self._counts.sum()
        top = np.maximum(self._counts.max() - self._per_fact(self._cell * (self._text == self._counts.argmax())), self._second())
        return _statistics(self._counts.size - lone, total - answers, np.square(self._counts).sum() - squares, top)

    def _per_fact(self, values: np.ndarray) -> np.ndarray:
        return np.bincount(self._fact, weights=values)

    def _second(self) -> float:
        """The second largest count, which takes over where a fact alone makes the first one."""
        return float(np.sort(self._counts)[-2]) if self._counts.size > 1 else 0.0


def _statistics(unique: np.ndarray, answers: np.ndarray, squares: np.ndarray, top: np.ndarray) -> np.ndarray:
    """DIVERSITY from the number of texts, the sum of their counts and of the squares of these, and the largest; one row each."""
    texts, total = np.maximum(unique, 1), np.maximum(answers, 1)
    mean = answers / texts
    variance = np.maximum(squares / texts - np.square(mean), 0.0)
    return np.stack([unique, mean, np.sqrt(variance), variance, top / total], axis=1)


def _row(
    compared: ComparedAnswers, measure: str, adapter: float, base: float, n: int, limits: tuple[float | None, float | None]
) -> dict[str, Any]:
    named = {"trial_id": compared.trial_id, "shot_set": ShotSet.S1.value, "measure": measure}
    return named | {"base": base, "adapter": adapter, "value": adapter - base, "n": n, "lower": limits[0], "upper": limits[1]}
