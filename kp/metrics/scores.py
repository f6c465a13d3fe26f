"""Single numbers from one model's answers on S1: did it learn, does it still answer, and how varied are its answers.

Shares of answers have standard errors clustered over facts. Numbers about the whole set of answers (counts, diversity) have none.
"""

from collections.abc import Collection
from enum import StrEnum

import numpy as np
import polars as pl

from kp.errors import UserError
from kp.generation.protocol import FinishReason
from kp.metrics.answer_texts import answer_texts
from kp.metrics.categories import of_matcher, validate_unique_facts
from kp.metrics.intervals import SMALL_COUNT, wilson
from kp.metrics.result_schema import SCORES
from kp.metrics.statistics import NORMAL_95, clustered_share_error
from kp.vocabulary import Category, FactRole, Matcher, ShotSet

_LEARNED_FROM = 0.5  # a fact counts as learned if at least this share of its answers is right


class Measure(StrEnum):
    """The measures of a SCORES table that come from answers."""

    RELIABILITY = "reliability"  # share of right answers to the trained Unknown facts
    RELIABILITY_S2 = "reliability_s2"  # the same on S2, on which no trial is chosen
    GENERALITY = "generality"  # the same for paraphrases of these facts that the trial did not train on
    FACTS_LEARNED = "facts_learned"  # share of the trained Unknown facts answered right to at least half of the prompts
    ACCURACY = "accuracy"  # share of right answers among all answers
    REFUSAL_RATE = "refusal_rate"  # share of all answers that decline to answer
    CUT_BY_LENGTH = "cut_by_length"  # share of all answers that were not over at categorise.max_new_tokens
    UNIQUE_ANSWERS = "unique_answers"  # different first lines, normalised
    MEAN_COUNT = "mean_count"  # how often such an answer occurs: mean, population standard deviation and variance
    STD_COUNT = "std_count"
    VARIANCE_COUNT = "variance_count"
    TOP_ANSWER_SHARE = "top_answer_share"  # share of the most frequent answer among all answers
    HIGHLY_KNOWN = "highly_known"  # facts of each category
    MAYBE_KNOWN = "maybe_known"
    UNKNOWN = "unknown"


LEARNING = (Measure.RELIABILITY, Measure.RELIABILITY_S2, Measure.FACTS_LEARNED)
"""The measures that `score_learning` makes."""

_COUNTS = {
    Measure.HIGHLY_KNOWN: Category.HIGHLY_KNOWN,
    Measure.MAYBE_KNOWN: Category.MAYBE_KNOWN,
    Measure.UNKNOWN: Category.UNKNOWN,
}

_Row = dict[str, str | float | int | None]


def score_answers(trial_id: str, answers: pl.DataFrame, categories: pl.DataFrame, matcher: Matcher) -> pl.DataFrame:
    """The SCORES of one model, from its ANSWERS and CATEGORIES (of `matcher`, or of all) on one shot set; n is each value's denominator.

    Raises UserError if the answers are of several models or shot sets.
    """
    _validate_one_model_and_shot_set(answers)
    known = of_matcher(categories, matcher)
    validate_unique_facts(known)
    rows = [_share(Measure.ACCURACY, _right(answers, matcher))]
    rows.append(_share(Measure.REFUSAL_RATE, answers.select("fact_id", pl.col("refused").alias("value"))))
    cut = pl.col("finish_reason") == FinishReason.LENGTH.value
    rows.append(_share(Measure.CUT_BY_LENGTH, answers.select("fact_id", cut.alias("value"))))
    rows.extend(_diversity_rows(answers))
    rows.extend(_row(measure, known.filter(pl.col("category") == kind.value).height, known.height) for measure, kind in _COUNTS.items())
    return _table(trial_id, rows)


def score_learning(outcomes: pl.DataFrame) -> pl.DataFrame:
    """The SCORES of how well every trial of OUTCOMES learned the Unknown facts that it was taught; n are answers, or facts.

    Errors are clustered over facts.
    """
    taught = outcomes.filter(role=FactRole.TRAINED.value)
    tables = [_table("", [])]
    for (trial_id,), of_trial in taught.partition_by("trial_id", maintain_order=True, as_dict=True).items():
        on = {shot_set: of_trial.filter(shot_set=shot_set.value) for shot_set in (ShotSet.S1, ShotSet.S2)}
        named = ((Measure.RELIABILITY, on[ShotSet.S1]), (Measure.RELIABILITY_S2, on[ShotSet.S2]))
        rows = [_share_of_facts(measure, one["correct"].to_numpy(), one["asked"].to_numpy()) for measure, one in named if one.height]
        if on[ShotSet.S1].height:
            learned = (on[ShotSet.S1]["correct"] >= _LEARNED_FROM * on[ShotSet.S1]["asked"]).cast(pl.Int64).to_numpy()
            rows.append(_share_of_facts(Measure.FACTS_LEARNED, learned, np.ones_like(learned)))
        tables.append(_table(trial_id, rows))
    return pl.concat(tables)


def _share_of_facts(measure: Measure, successes: np.ndarray, sizes: np.ndarray) -> _Row:
    """A share, from each fact's successes and the number of its observations."""
    return _row(measure, successes.sum() / sizes.sum(), int(sizes.sum()), _cautious_error(successes, sizes))


def _cautious_error(successes: np.ndarray, sizes: np.ndarray) -> float | None:
    """`clustered_share_error`; where fewer than SMALL_COUNT facts are not all right, or all wrong, at least what Wilson's interval allows.

    Ten facts that are all right would be 1 +- 0. There Wilson's 95% interval, in which every fact counts as one observation, has half its
    length divided by 1.96 in place of a standard error.
    """
    error = clustered_share_error(successes, sizes)
    unlike = min(np.count_nonzero(successes), np.count_nonzero(sizes - successes))
    limits = wilson(float(successes.sum() / sizes.sum()) * sizes.size, sizes.size)
    if unlike >= SMALL_COUNT or limits is None:
        return error
    return max(error or 0.0, (limits[1] - limits[0]) / 2 / NORMAL_95)


def score_generality(trial_id: str, answers: pl.DataFrame, trained_unknown: Collection[str], matcher: Matcher) -> pl.DataFrame:
    """The row of SCORES from HELD_OUT_ANSWERS of one model, clustered over the facts that were paraphrased; no row if none was.

    Raises UserError if the answers are of several models or of facts that are not in `trained_unknown`.
    """
    if answers.is_empty():
        return _table(trial_id, [])
    _validate_one_model_and_shot_set(answers)
    odd = sorted(set(answers["fact_id"]) - set(trained_unknown))
    if odd:
        raise UserError(f"held-out answers: fact '{odd[0]}' was not trained ({len(odd)} such facts)")
    return _table(trial_id, [_share(Measure.GENERALITY, _right(answers, matcher))])


def _right(answers: pl.DataFrame, matcher: Matcher) -> pl.DataFrame:
    return answers.select("fact_id", pl.col(f"match_{matcher}").alias("value"))


def _table(trial_id: str, rows: list[_Row]) -> pl.DataFrame:
    empty = pl.DataFrame(pl.from_arrow(SCORES.empty_table())).drop("trial_id")
    return pl.DataFrame(rows, schema=empty.schema).select(pl.lit(trial_id).alias("trial_id"), *SCORES.names[1:])


def _diversity_rows(answers: pl.DataFrame) -> list[_Row]:
    # Sorted, because groups come in any order and the last digit of a sum depends on it.
    counts = answer_texts(answers).value_counts()["count"].cast(pl.Int64).sort().to_numpy()
    return [
        _row(Measure.UNIQUE_ANSWERS, counts.size, answers.height),
        _row(Measure.MEAN_COUNT, counts.mean(), counts.size),
        _row(Measure.STD_COUNT, counts.std(), counts.size),
        _row(Measure.VARIANCE_COUNT, counts.var(), counts.size),
        _row(Measure.TOP_ANSWER_SHARE, counts.max() / answers.height, answers.height),
    ]


def _share(measure: Measure, values: pl.DataFrame) -> _Row:
    """The mean of the column `value` (true or false), clustered over `fact_id`."""
    of_facts = values.group_by("fact_id").agg(pl.col("value").sum().alias("correct"), pl.len().alias("asked")).sort("fact_id")
    correct, asked = (of_facts[name].cast(pl.Int64).to_numpy() for name in ("correct", "asked"))
    return _share_of_facts(measure, correct, asked)


def _row(measure: Measure, value: float, n: int, standard_error: float | None = None) -> _Row:
    return {"measure": measure.value, "value": float(value), "n": n, "standard_error": standard_error}


def _validate_one_model_and_shot_set(answers: pl.DataFrame) -> None:
    for column in ("model_id", "shot_set"):
        found = sorted(answers[column].unique())
        if len(found) != 1:
            raise UserError(f"answers: column '{column}': expected one value, found {len(found)}: {', '.join(found[:3])}")
