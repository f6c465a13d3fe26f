"""Aliases that make a match doubtful.

There are two kinds. An *ambiguous* alias belongs to several objects of one relation, so an answer that gives it does not say which one it
means. A *dangerous* alias is likely to be found in answers that do not mean it. Both are properties of the facts alone. They are listed but
not removed, because some are simply true ("K" is potassium) and because the published numbers include them.
"""

import re
from collections.abc import Iterator
from enum import StrEnum

import polars as pl

from kp.metrics.inspection_schema import DOUBTFUL_ALIASES
from kp.metrics.matching import normalise
from kp.prompts import ANSWER_PREFIX, QUESTION_PREFIX, SYSTEM


class AliasProblem(StrEnum):
    """Why an alias is doubtful."""

    AMBIGUOUS = "ambiguous"  # an alias of several objects of the relation
    EMPTY = "empty"  # normalisation leaves nothing of it: `strict` and `exact` never find it
    SHORT = "short"  # below 3 characters: `released` finds it inside other words, `strict` requires that it is the whole answer
    PROMPT_WORD = "prompt_word"  # a word of every prompt, so that a model which echoes the prompt is right
    ANSWER_PREFIX = "answer_prefix"  # part of "answer: ", so that `released` finds it in nearly every reply
    SHORT_NUMBER = "short_number"  # a number that `released` finds inside longer ones


_SHORTEST = 3  # characters
_SHORT_NUMBER = 3  # digits; a year is no short number
_PROMPT_WORDS = frozenset(re.findall(r"\w+", (SYSTEM + QUESTION_PREFIX + ANSWER_PREFIX).lower()))


def doubtful_aliases(facts: pl.DataFrame) -> pl.DataFrame:
    """The DOUBTFUL_ALIASES of FACTS: a row per relation, alias and problem; sorted by number of facts (largest first), then by these."""
    listed = facts.select("fact_id", "relation", "object", pl.col("answers").alias("alias")).explode("alias")
    aliases = listed.with_columns(
        pl.Series("alias", [normalise(alias) or alias for alias in listed["alias"]], dtype=pl.String),
        pl.Series("object", [normalise(name) or name for name in listed["object"]], dtype=pl.String),
        pl.Series("problem", [[problem.value for problem in _dangers(alias)] for alias in listed["alias"]], dtype=pl.List(pl.String)),
    )
    dangerous = _counted(aliases.filter(pl.col("problem").list.len() > 0).explode("problem"))
    ambiguous = _counted(aliases.with_columns(pl.lit(AliasProblem.AMBIGUOUS.value).alias("problem"))).filter(pl.col("objects") > 1)
    return pl.concat([ambiguous, dangerous]).sort(pl.col("facts"), "relation", "alias", "problem", descending=[True, False, False, False])


def _dangers(alias: str) -> Iterator[AliasProblem]:
    plain = normalise(alias)
    if not plain:
        yield AliasProblem.EMPTY
    elif len(plain) < _SHORTEST:
        yield AliasProblem.SHORT
    if plain in _PROMPT_WORDS:
        yield AliasProblem.PROMPT_WORD
    if alias.lower() in ANSWER_PREFIX.lower():
        yield AliasProblem.ANSWER_PREFIX
    if plain.isdecimal() and len(plain) <= _SHORT_NUMBER:
        yield AliasProblem.SHORT_NUMBER


def _counted(aliases: pl.DataFrame) -> pl.DataFrame:
    grouped = aliases.group_by("relation", "alias", "problem").agg(
        pl.col("object").n_unique().cast(pl.Int64).alias("objects"), pl.col("fact_id").unique().sort().alias("fact_ids")
    )
    return grouped.with_columns(pl.col("fact_ids").list.len().cast(pl.Int64).alias("facts")).select(DOUBTFUL_ALIASES.names)
