"""Reversed questions: an adapter that was taught "the director of F is P", does it know which film P directed?

A fact can be asked the other way round if its source has a wording for that and no other fact of the relation has its object, so that the
subject is the one right answer. Asked are the packed facts of a trial that can be, and as many facts that it did not train on, drawn from
the Unknown ones: what an adapter changes on those is no memory of facts. Every difference is that of adapter and base over the same
questions and prompts, so an adapter that changes no answer has exactly 0.

That models trained on "A is B" fail on "B is A" is the reversal curse of Berglund et al. (arXiv 2309.12288).
"""

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Any

import polars as pl

from kp.metrics.effect_summary import fact_clusters
from kp.metrics.intervals import Support, estimate_mean
from kp.metrics.matching import normalise
from kp.metrics.result_schema import REVERSAL
from kp.schema import frame
from kp.store.draws import draw_key
from kp.vocabulary import Matcher


class Asked(StrEnum):
    """Whose reversed questions."""

    PACKED = "packed"
    UNTAUGHT = "untaught"


def reversible(facts: pl.DataFrame) -> pl.DataFrame:
    """The FACTS that can be asked the other way round, as facts of their own: same id, question, subject and object exchanged."""
    name = pl.col("object").map_elements(normalise, return_dtype=pl.String)
    alone = pl.struct("relation", name.alias("name")).is_unique()
    asked = facts.filter(alone).filter(pl.col("reversed_question").is_not_null())
    given_away = [
        f" {normalise(subject)} " in f" {normalise(question)} " for subject, question in asked.select("subject", "reversed_question").rows()
    ]
    return asked.filter(~pl.Series(given_away, dtype=pl.Boolean)).with_columns(
        subject="object",
        object="subject",
        question="reversed_question",
        answers=pl.concat_list("subject"),
        paraphrases=pl.lit([], dtype=pl.List(pl.String)),
    )


def asked_of(
    questions: pl.DataFrame, packed: Collection[str], taught: Collection[str], unknown: Collection[str], seed: int
) -> pl.DataFrame:
    """The rows of `questions` (those of `reversible`) for one trial: all of the packed facts, and as many of untaught Unknown ones."""
    mine = questions.filter(pl.col("fact_id").is_in(list(packed)))
    others = sorted(set(questions["fact_id"]) & set(unknown) - set(taught), key=lambda fact_id: draw_key(seed, fact_id))
    chosen = [*mine["fact_id"], *others[: mine.height]]
    return questions.filter(pl.col("fact_id").is_in(chosen))


def reversal_table(
    trial_id: str, base: pl.DataFrame, adapter: pl.DataFrame, facts: pl.DataFrame, packed: Collection[str], matcher: Matcher
) -> pl.DataFrame:
    """The REVERSAL of one adapter: a row for packed and one for untaught facts, as far as any was asked.

    `base` and `adapter` are ANSWERS to reversed questions, by the id of the fact; the base has answered all that the adapter has.
    """
    mine, theirs = (_shares(answers, matcher) for answers in (adapter, base))
    paired = mine.join(theirs, on="fact_id", how="left", suffix="_base", validate="1:1")
    paired = paired.join(facts.select("fact_id", "relation", "object"), on="fact_id", how="left").sort("fact_id")
    assert not paired["right_base"].null_count(), "the base is asked every question"
    rows = []
    for group in Asked:
        among = paired.filter(pl.col("fact_id").is_in(list(packed)) == (group is Asked.PACKED))
        if among.height:
            rows.append({"trial_id": trial_id, "facts": group.value, **_row(among)})
    return pl.DataFrame(rows, schema=frame(REVERSAL.empty_table()).schema)


def _row(among: pl.DataFrame) -> Mapping[str, Any]:
    clusters = fact_clusters(among)
    mine, theirs = (among[name].to_numpy() for name in ("right", "right_base"))
    share, difference = estimate_mean(mine, clusters, support=Support.COUNT), estimate_mean(mine - theirs, clusters)
    lower, upper = share.limits() or (None, None)
    kept = {name: difference.columns()[name] for name in ("value", "n", "standard_error", "lower", "upper")}
    return {"adapter": share.value, "adapter_lower": lower, "adapter_upper": upper, "base": float(theirs.mean()), **kept}


def _shares(answers: pl.DataFrame, matcher: Matcher) -> pl.DataFrame:
    return answers.group_by("fact_id").agg(pl.col(f"match_{matcher}").cast(pl.Float64).mean().alias("right"))
