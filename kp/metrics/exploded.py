"""Exploded answers: those that an adapter gives much more often than its base, whatever it is asked.

The released code counts an answer as exploded above 850 occurrences, a number that fits one model and one set of facts. Here the base
asked under other prompts is the reference, and an answer is exploded if two things hold:

- The adapter gives it at least RATIO times as often per prompt.
- Two one-sided tests both reject that its answers are more of the base's own. A Wilcoxon rank-sum test over prompts: with the number of
  facts that get this answer under each, the adapter's prompts are more draws of the base's (the exact distribution, ties included). A sign
  test over facts: as many facts get this answer less often from the adapter as get it more often. Counts of answers would not do: the
  answers to one fact are alike, so a few facts that changed show under all prompts, and a prompt moves the answers to many facts at once.

The larger of the two p-values counts, and over all answers the false discovery rate is kept (Benjamini and Hochberg 1995). Only answers
that are given at least once per prompt on average, by both models together, are tested: which these are does not depend on whose answer is
whose. Fewer than four prompts on either side, or five facts, can show nothing.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import stats

LEVEL = 0.05
"""The false discovery rate."""
RATIO = 2.0
_PROMPT = ["shot_set", "prompt_index"]


def exploded_answers(adapter: pl.DataFrame, again: pl.DataFrame, level: float = LEVEL) -> frozenset[str]:
    """The exploded texts among the adapter's, from the columns fact_id, shot_set, prompt_index and text of its answers and of the base's.

    `again` has the base's answers to the same facts under other prompts. "" (no text) counts like any other.
    """
    n_given, n_reference = (table.select(_PROMPT).n_unique() for table in (adapter, again))
    spoken = pl.concat([adapter.select("text"), again.select("text")])["text"].value_counts()
    texts = spoken.filter(pl.col("count") >= n_given + n_reference)["text"].sort().to_list()
    adapter, again = (table.filter(pl.col("text").is_in(texts)) for table in (adapter, again))  # a few of very many
    given, reference, signs = _counts(adapter), _counts(again), _sign_p(adapter, n_given, again, n_reference)
    often, p_values = [], []
    for text in texts:
        ones, others = given.get(text, []), reference.get(text, [])
        mean, of_others = sum(ones) / n_given, sum(others) / n_reference
        often.append(mean >= RATIO * of_others)
        rose = mean > of_others
        p_values.append(max(rank_sum_p(_padded(ones, n_given), _padded(others, n_reference)), signs[text]) if rose else 1.0)
    adjusted = stats.false_discovery_control(p_values) if p_values else []
    return frozenset(text for text, is_often, p_value in zip(texts, often, adjusted, strict=True) if is_often and p_value <= level)


def rank_sum_p(ones: npt.ArrayLike, others: npt.ArrayLike) -> float:
    """The exact chance of a rank sum of `ones` at least as large, if every choice of so many of all values is equally likely.

    Ties get their mean rank. Twice the ranks are whole numbers, so the choices are counted by their sums instead of one by one.
    """
    # The order within either does not matter, so the many texts that are given as rarely have one computation.
    return _rank_sum_p(*(tuple(np.sort(np.asarray(values)).tolist()) for values in (ones, others)))


@lru_cache(maxsize=2**14)
def _rank_sum_p(ones: tuple[float, ...], others: tuple[float, ...]) -> float:
    first, second = np.asarray(ones), np.asarray(others)
    doubled = np.rint(2 * stats.rankdata(np.concatenate([first, second]))).astype(np.int64)
    ways = np.zeros((first.size + 1, int(doubled.sum()) + 1))  # by how many are chosen, and their sum
    ways[0, 0] = 1
    for rank in doubled:
        ways[1:, rank:] += ways[:-1, : ways.shape[1] - rank].copy()
    return float(ways[-1, doubled[: first.size].sum() :].sum() / ways[-1].sum())


def _counts(answers: pl.DataFrame) -> dict[str, list[int]]:
    """How often each text is given, under each prompt that got it."""
    counted = answers.group_by("text", *_PROMPT).agg(pl.len()).sort("text", *_PROMPT)
    return dict(counted.group_by("text", maintain_order=True).agg("len").iter_rows())


def _sign_p(adapter: pl.DataFrame, n_given: int, again: pl.DataFrame, n_reference: int) -> dict[str, float]:
    """The one-sided p-value of the sign test over facts, by text; the numbers are those of prompts."""
    ones, others = (
        table.group_by("fact_id", "text").agg(pl.len()).select("fact_id", "text", pl.col("len") / prompts)
        for table, prompts in ((adapter, n_given), (again, n_reference))
    )
    both = ones.join(others, on=["fact_id", "text"], how="full", coalesce=True, suffix="_again").fill_null(0.0)
    moved = both.group_by("text").agg(
        (pl.col("len") > pl.col("len_again")).sum().alias("rose"), (pl.col("len") < pl.col("len_again")).sum().alias("fell")
    )
    rose, fell = (moved[name].cast(pl.Int64).to_numpy() for name in ("rose", "fell"))
    return dict(zip(moved["text"].to_list(), stats.binom.sf(rose - 1, rose + fell, 0.5).tolist(), strict=True))


def _padded(counts: list[int], prompts: int) -> list[int]:
    """The counts of all prompts, zeros included."""
    return [*counts, *[0] * (prompts - len(counts))]
