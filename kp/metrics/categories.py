"""From ten answers to the category that says how well a model knows a fact.

All three matchers are counted in one pass. The count is kept next to the category, which is only a coarse summary of it. A fact without an
answer to every prompt cannot be compared with the others, so an incomplete table is an error.
"""

from collections.abc import Sequence

import polars as pl

from kp.errors import UserError
from kp.vocabulary import GREEDY_CATEGORIES, Category, Matcher

_MODEL = ["model_id", "shot_set"]


def category(correct: int, asked: int) -> Category:
    """The category of a fact with `correct` right answers out of `asked`; raises ValueError unless 0 <= correct <= asked > 0."""
    return Category.of(correct, asked)


def categorise(answers: pl.DataFrame) -> pl.DataFrame:
    """Turn ANSWERS into CATEGORIES: a row per fact, model, shot set and matcher, sorted by model, shot set, matcher and fact.

    Raises UserError if a fact has two answers to a prompt, or none to a prompt that other facts of its model and shot set have.
    """
    _validate_unique_answers(answers)
    _validate_complete_answers(answers)
    counted = answers.group_by("fact_id", *_MODEL).agg(
        *(pl.col(f"match_{matcher}").sum().cast(pl.Int32).alias(matcher) for matcher in Matcher),
        pl.len().cast(pl.Int32).alias("asked"),
    )
    long = counted.unpivot(on=list(Matcher), index=["fact_id", *_MODEL, "asked"], variable_name="matcher", value_name="correct")
    return long.select(
        "fact_id", *_MODEL, "matcher", "correct", "asked", _category_of(pl.col("correct"), pl.col("asked")).alias("category")
    ).sort(*_MODEL, "matcher", "fact_id")


def of_matcher(categories: pl.DataFrame, matcher: Matcher) -> pl.DataFrame:
    """The CATEGORIES rows of one matcher, in their order; raises UserError if there are none, or if one is WeaklyKnown."""
    found = categories.filter(pl.col("matcher") == matcher.value)
    if found.is_empty():
        raise UserError(f"categories: column 'matcher': no row of matcher '{matcher}'")
    validate_greedy_classes(found)
    return found


def category_counts(categories: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """Number of facts per category for every value of the columns `by` of CATEGORIES: columns `by`, category, facts; zeros included.

    Raises UserError if a row is WeaklyKnown.
    """
    validate_greedy_classes(categories)
    kinds = pl.DataFrame({"category": [kind.value for kind in GREEDY_CATEGORIES]})
    counted = categories.group_by(*by, "category").agg(pl.len().cast(pl.Int64).alias("facts"))
    cells = categories.select(by).unique().sort(by).join(kinds, how="cross", maintain_order="left_right")
    return cells.join(counted, on=[*by, "category"], how="left", maintain_order="left").with_columns(pl.col("facts").fill_null(0))


def validate_unique_facts(categories: pl.DataFrame) -> None:
    """Raise UserError if a CATEGORIES table has a fact twice, so covers more than one model, shot set or matcher."""
    repeated = categories.filter(pl.col("fact_id").is_duplicated())["fact_id"].sort()
    if len(repeated):
        raise UserError(f"categories: fact '{repeated[0]}' has more than one row, expected one model, one shot set and one matcher")


def validate_greedy_classes(categories: pl.DataFrame) -> None:
    """Raise UserError if a category is not one of the greedy ones; counts over these alone would miss it."""
    for row in categories.filter(~pl.col("category").is_in([kind.value for kind in GREEDY_CATEGORIES])).head(1).iter_rows(named=True):
        expected = ", ".join(GREEDY_CATEGORIES)
        raise UserError(f"categories: column 'category': fact '{row.get('fact_id')}' is '{row['category']}', expected one of {expected}")


def _category_of(correct: pl.Expr, asked: pl.Expr) -> pl.Expr:
    return pl.struct(correct.alias("correct"), asked.alias("asked")).map_elements(
        lambda counts: category(counts["correct"], counts["asked"]).value, return_dtype=pl.String
    )


def _validate_unique_answers(answers: pl.DataFrame) -> None:
    key = ["fact_id", *_MODEL, "prompt_index"]
    repeated = answers.filter(answers.select(key).is_duplicated()).sort(key).head(1)
    for row in repeated.iter_rows(named=True):
        raise UserError(
            f"answers: fact '{row['fact_id']}' has more than one answer of model '{row['model_id']}' "
            f"to prompt {row['prompt_index']} of {row['shot_set']}"
        )


def _validate_complete_answers(answers: pl.DataFrame) -> None:
    asked = answers.with_columns(
        pl.len().over("fact_id", *_MODEL).alias("asked"), pl.col("prompt_index").n_unique().over(_MODEL).alias("expected")
    )
    for row in asked.filter(pl.col("asked") != pl.col("expected")).sort(*_MODEL, "fact_id").head(1).iter_rows(named=True):
        raise UserError(
            f"answers: fact '{row['fact_id']}' has answers of model '{row['model_id']}' to {row['asked']} prompts of {row['shot_set']}, "
            f"expected {row['expected']}"
        )
