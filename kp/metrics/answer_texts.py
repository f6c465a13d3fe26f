"""What an answer says, as one text that can be counted and compared: its first line, normalised."""

from functools import lru_cache

import polars as pl

from kp.metrics.matching import first_line, normalise


@lru_cache(maxsize=2**17)  # the base and the adapters of a study mostly say the same
def text_of(answer: str) -> str:
    """The first line of a raw answer, normalised; "" if it says nothing."""
    return normalise(first_line(answer))


def answer_texts(answers: pl.DataFrame) -> pl.Series:
    """The text of every row of ANSWERS, in their order; a text that occurs often is normalised once."""
    distinct = answers["answer"].unique().to_list()
    return answers["answer"].replace_strict(distinct, [text_of(answer) for answer in distinct], return_dtype=pl.String)
