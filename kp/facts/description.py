"""Descriptive statistics of a set of facts, before a model is asked anything.

A study's facts limit what it can find out: a relation dominated by one object rewards guessing, facts without paraphrases cannot be trained
with any, and a set without tails says nothing about rare names. Functions take tables and return tables.
"""

from enum import StrEnum

import polars as pl

from kp.facts.popularity import BUCKETS
from kp.facts.schema import FACT_BUCKETS, FACT_FAULTS, FACT_HISTOGRAMS, FACT_MEASURES, FACT_RELATIONS
from kp.facts.validation import reason_kind
from kp.metrics.majority import facts_having, most_common_object
from kp.metrics.matching import normalise

MOST_BINS = 12
OPEN_ABOVE = 0.99  # values above this quantile share a bin: otherwise one fact with 400 aliases would put all others into a single bin


class Measure(StrEnum):
    """What a histogram shows of a fact."""

    ALIASES = "aliases"  # right answers in addition to the canonical one
    QUESTION_CHARACTERS = "question_characters"
    QUESTION_WORDS = "question_words"
    ANSWER_CHARACTERS = "answer_characters"  # of the canonical answer
    ANSWER_WORDS = "answer_words"


def relation_table(facts: pl.DataFrame) -> pl.DataFrame:
    """FACT_RELATIONS of FACTS, most facts first. Objects are compared as the matchers compare answers."""
    rows = [_relation_row(group) for _, group in facts.sort("relation", "fact_id").group_by("relation", maintain_order=True)]
    frame = pl.DataFrame(rows, schema_overrides={"domain": pl.String}, infer_schema_length=None)
    return frame.select(FACT_RELATIONS.names).sort("facts", "relation", descending=[True, False])


def _relation_row(group: pl.DataFrame) -> dict[str, str | int | float | None]:
    common = most_common_object(group)
    having = facts_having(group, common).height
    in_bucket = {bucket: int((group["popularity"] == bucket).sum()) for bucket in BUCKETS}
    return {
        "relation": group["relation"][0],
        "domain": group["domain"].drop_nulls().first(),
        "facts": group.height,
        **in_bucket,
        "no_popularity": group["popularity"].null_count(),
        "objects": len({normalise(name) or name for name in group["object"]}),
        "most_common_object": common,
        "most_common_facts": having,
        "dominance": having / group.height,
        "without_paraphrases": int((group["paraphrases"].list.len() == 0).sum()),
    }


def bucket_table(facts: pl.DataFrame) -> pl.DataFrame:
    """FACT_BUCKETS of FACTS: head, torso, tail and unknown, if there are facts of each."""
    counted = facts.group_by("popularity").agg(
        pl.len().alias("facts"),
        pl.col("subject").n_unique().alias("subjects"),
        pl.col("subject_degree").min().alias("least_degree"),
        pl.col("subject_degree").median().alias("median_degree"),
        pl.col("subject_degree").max().alias("greatest_degree"),
    )
    place = {bucket: number for number, bucket in enumerate(BUCKETS)}
    order = pl.col("popularity").replace_strict(place, default=None, return_dtype=pl.Int32)
    return counted.sort(order, nulls_last=True).select(FACT_BUCKETS.names)


def measure_table(facts: pl.DataFrame) -> pl.DataFrame:
    """FACT_MEASURES of FACTS, one row per measure."""
    measured = _measured(facts)
    rows = [
        (name, int(values.min()), float(values.median()), float(values.mean()), int(values.max()))  # type: ignore[arg-type]  # integers
        for name, values in ((measure.value, measured[measure.value]) for measure in Measure)
    ]
    return pl.DataFrame(rows, schema=FACT_MEASURES.names, orient="row")


def histogram_table(facts: pl.DataFrame) -> pl.DataFrame:
    """FACT_HISTOGRAMS of FACTS, every measure's bins in ascending order; the last bin has all values above the 99th percentile."""
    measured = _measured(facts)
    rows = [(measure.value, *bin_) for measure in Measure for bin_ in _bins(measured[measure.value])]
    return pl.DataFrame(rows, schema=FACT_HISTOGRAMS.names, orient="row")


def _measured(facts: pl.DataFrame) -> pl.DataFrame:
    """A column for each measure."""
    question, answer = pl.col("question"), pl.col("answers").list.first()
    return facts.select(
        (pl.col("answers").list.len().cast(pl.Int64) - 1).alias(Measure.ALIASES),
        question.str.len_chars().cast(pl.Int64).alias(Measure.QUESTION_CHARACTERS),
        _words(question).alias(Measure.QUESTION_WORDS),
        answer.str.len_chars().cast(pl.Int64).alias(Measure.ANSWER_CHARACTERS),
        _words(answer).alias(Measure.ANSWER_WORDS),
    )


def _words(text: pl.Expr) -> pl.Expr:
    return text.str.count_matches(r"\S+").cast(pl.Int64)


def _bins(values: pl.Series) -> list[tuple[int, int, int]]:
    """Lowest and highest value of each bin and the number of values in it; bins have equal widths, except the last."""
    least, greatest = int(values.min()), int(values.max())  # type: ignore[arg-type]  # they are integers
    upper = int(values.quantile(OPEN_ABOVE, "higher") or 0)
    width = next(width for width in _round_widths() if upper // width - least // width < MOST_BINS)
    starts = range(least // width * width, upper + 1, width)
    ends = [start + width - 1 for start in starts[:-1]] + [max(greatest, starts[-1] + width - 1)]
    return [(start, end, int(values.is_between(start, end).sum())) for start, end in zip(starts, ends, strict=True)]


def _round_widths() -> list[int]:
    return [factor * 10**power for power in range(9) for factor in (1, 2, 5)]


def rejected_table(quarantined: pl.DataFrame) -> pl.DataFrame:
    """FACT_FAULTS of QUARANTINED: its reasons without their quotations, most rows first."""
    named = quarantined.with_columns(pl.Series("reason", [reason_kind(reason) for reason in quarantined["reason"]], dtype=pl.String)).sort(
        "row", maintain_order=True
    )
    counted = named.group_by("reason", maintain_order=True).agg(
        pl.col("row").n_unique().alias("rows"),
        pl.len().alias("faults"),
        pl.col("row").first().alias("example_row"),
        pl.col("value").first().alias("example"),
    )
    return counted.select(FACT_FAULTS.names).sort("rows", "reason", descending=[True, False])
