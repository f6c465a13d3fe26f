"""Replayed facts from a separate source: which sources are possible, and which of their facts may be used.

They are read, checked and chosen by the same code as the studied facts, so only the differences are here: no studied fact is replayed by
accident, and that code gets the fields of their source and count.
"""

import polars as pl

from kp.config.derived import replay_settings
from kp.config.study import StudyConfig
from kp.errors import UserError
from kp.facts.dump.files import is_dump
from kp.facts.sources import source_identity
from kp.facts.validation import question_key

SOURCE_FIELD = "search.replay_source"  # named in messages
COUNT_FIELD = "search.replay_count"


def replay_identity(config: StudyConfig) -> str | None:
    """Identity of the content of `search.replay_source`, None if the study names none; UserError if it is not here."""
    settings = replay_settings(config)
    if settings is None:
        return None
    return source_identity(settings, SOURCE_FIELD)


def validate_replay_source(config: StudyConfig) -> None:
    """Raise UserError if `search.replay_source` is a kind of source from which facts cannot be replayed."""
    settings = replay_settings(config)
    if settings is None:
        return
    if is_dump(settings.source):
        raise UserError(f"'{settings.source}' is a knowledge-graph dump, of which only facts.source makes facts", field=SOURCE_FIELD)


def without_studied(facts: pl.DataFrame, studied: pl.DataFrame) -> pl.DataFrame:
    """The FACTS that are not in `studied`, in their order: neither the same fact_id nor the same question or paraphrase as a studied one.

    Raises UserError if none is left.
    """
    asked = {question_key(question) for question in studied["question"]}
    asked |= {question_key(paraphrase) for paraphrases in studied["paraphrases"] for paraphrase in paraphrases}
    same_question = pl.Series([question_key(question) in asked for question in facts["question"]], dtype=pl.Boolean)
    left = facts.filter(~pl.col("fact_id").is_in(studied["fact_id"].implode()) & ~same_question)
    if left.is_empty():
        raise UserError(f"each of its {facts.height:,} facts is studied or cannot be asked, so none is left to replay", field=SOURCE_FIELD)
    return left
