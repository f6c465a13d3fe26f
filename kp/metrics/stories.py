"""What a model says of each fact, one row a fact: how often it is right, and the answer that it gives most often.

Effects say how much was lost; a reader also wants to see which facts, and what the model says now. All raw answers are many times larger
than a report, and the most frequent one nearly always shows what happened: another entity, a refusal, the same wrong answer everywhere.
"""

import polars as pl

from kp.errors import UserError
from kp.metrics.result_schema import FACT_STORIES
from kp.vocabulary import BASE

LONGEST_ANSWER = 200  # characters that are kept


def fact_stories(answers: pl.DataFrame, outcomes: pl.DataFrame) -> pl.DataFrame:
    """FACT_STORIES from the ANSWERS and OUTCOMES of one model on one shot set, sorted by fact.

    Of equally frequent answers the first in alphabetical order is kept. Raises UserError if a fact has outcomes but no answer.
    """
    stories = outcomes.join(_most_frequent(answers), on="fact_id", how="left", validate="1:1")
    for row in stories.filter(pl.col("answer").is_null()).head(1).iter_rows(named=True):
        raise UserError(f"answers: fact '{row['fact_id']}' of trial '{row['trial_id']}' has none on {row['shot_set']}")
    return stories.sort("fact_id").select(FACT_STORIES.names)


def _most_frequent(answers: pl.DataFrame) -> pl.DataFrame:
    """The most frequent first line of each fact's answers, and how often it was given."""
    first_line = pl.col("answer").str.strip_chars().str.split("\n").list.first().str.strip_chars().str.slice(0, LONGEST_ANSWER)
    counted = answers.select("fact_id", answer=first_line).group_by("fact_id", "answer").agg(answer_count=pl.len().cast(pl.Int32))
    ordered = counted.sort("fact_id", "answer_count", "answer", descending=[False, True, False])
    return ordered.unique("fact_id", keep="first", maintain_order=True)


def story_changes(stories: pl.DataFrame) -> pl.DataFrame:
    """One row a fact and adapter: FACT_STORIES of the adapter, those of the base as `base_*`, and `change`, the worst first.

    `change` is the difference of the shares of right answers, adapter - base. Facts that the base was not asked are left out.
    """
    columns = ["correct", "asked", "category", "answer", "answer_count", "refused"]
    of_base = stories.filter(trial_id=BASE).select("fact_id", *(pl.col(name).alias(f"base_{name}") for name in columns))
    joined = stories.filter(pl.col("trial_id") != BASE).join(of_base, on="fact_id", how="inner", validate="m:1")
    change = pl.col("correct") / pl.col("asked") - pl.col("base_correct") / pl.col("base_asked")
    return joined.with_columns(change=change).sort("change", "fact_id", "trial_id")


def stories_of_outcomes(outcomes: pl.DataFrame, shot_set: str) -> pl.DataFrame:
    """FACT_STORIES without answers, from OUTCOMES alone: for a report whose raw answers are elsewhere."""
    unknown = {"answer": pl.lit(None, pl.String), "answer_count": pl.lit(None, pl.Int32)}
    return outcomes.filter(shot_set=shot_set).with_columns(**unknown).select(FACT_STORIES.names)
