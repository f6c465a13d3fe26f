"""What becomes of each fact once the base model was asked: taught, already known, kept apart to tell harm on, or replayed.

The user's facts that the base never gets right are taught. Facts to tell harm on are those that it gets right at least half of the time
under S0: what it hardly knows cannot be lost, and costs as much to ask. Replayed facts are HighlyKnown and none of the control facts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from kp.errors import UserError
from kp.facts.selection import random_key, select_facts
from kp.facts.validation import question_key
from kp.packing.request import FACTS_FIELD, KEEP_FIELD, same_facts
from kp.vocabulary import Category

COMMON_RELATIONS = (
    "official_language_of_country",
    "country_of_capital",
    "country_of_city",
    "state_of_us_city",
    "demonym_of_country",
    "capital_of_country",
    "country_of_airport",
    "continent_of_country",
)
"""Built-in relations of which even the embedded model of 135M parameters gets most facts right at least once."""
KNOWN_SHARE = 0.4  # of their facts, that a small model gets right at least half of the time; a guess at how many must be asked
FEWEST_CONTROLS = 4
MOST_REPLAYED = 300


@dataclass(frozen=True)
class Roles:
    """The FACTS by what becomes of them."""

    taught: pl.DataFrame
    already_known: pl.DataFrame  # of the user's facts
    controls: pl.DataFrame
    replayed: pl.DataFrame
    not_kept: pl.DataFrame  # facts of --keep that the base does not know, so they cannot be lost

    def studied(self) -> pl.DataFrame:
        """The facts of the study: those taught and the controls."""
        return pl.concat([self.taught, self.controls])


def replay_wanted(taught: int) -> int:
    """How many facts are to be replayed, one for each taught."""
    return min(taught, MOST_REPLAYED)


def surveyed_facts(builtin: pl.DataFrame, facts: pl.DataFrame, keep: pl.DataFrame | None, controls: int) -> pl.DataFrame:
    """The FACTS of which the base is asked whether it knows them: the user's to keep, and built-in ones."""
    taken = facts if keep is None else pl.concat([facts, keep])
    pool = builtin.filter(pl.col("relation").is_in(COMMON_RELATIONS))
    pool = pool.filter(~same_facts(pool, taken))
    wanted = replay_wanted(len(facts)) + (controls if keep is None else 0)
    drawn = select_facts(pool, (), min(len(pool), math.ceil(wanted / KNOWN_SHARE)), 0)
    return drawn if keep is None else pl.concat([keep, drawn])


def assign_roles(
    facts: pl.DataFrame, of_facts: pl.DataFrame, surveyed: pl.DataFrame, of_surveyed: pl.DataFrame, keep: pl.DataFrame | None, controls: int
) -> Roles:
    """The roles, from the base's CATEGORIES on S0 by one matcher of the user's facts and of the surveyed ones.

    Raises UserError if the base knows all of the user's facts already, or too few to tell harm on.
    """
    known = facts.join(of_facts.filter(pl.col("category") != Category.UNKNOWN.value), on="fact_id", how="semi")
    taught = facts.join(known, on="fact_id", how="anti")
    if taught.is_empty():
        raise UserError(
            f"the model answers each of its {len(facts):,} facts right at least once in ten already, so there is nothing to teach",
            field=FACTS_FIELD,
        )
    often = surveyed.join(of_surveyed.filter(2 * pl.col("correct") >= pl.col("asked")), on="fact_id", how="semi")
    highly = surveyed.join(of_surveyed.filter(category=Category.HIGHLY_KNOWN.value), on="fact_id", how="semi")
    if keep is None:
        replayed = _first(highly, min(replay_wanted(len(taught)), len(highly) // 2))
        chosen = _first(often.join(replayed, on="fact_id", how="anti"), controls)
    else:
        chosen = often.join(keep, on="fact_id", how="semi")
        replayed = _first(highly.join(keep, on="fact_id", how="anti"), replay_wanted(len(taught)))
    not_kept = pl.DataFrame(schema=facts.schema) if keep is None else keep.join(chosen, on="fact_id", how="anti")
    if len(chosen) < FEWEST_CONTROLS:
        whose = f"{len(chosen)} of {len(keep if keep is not None else surveyed):,} facts that should not be lost"
        raise UserError(
            f"the model knows only {whose}, and at least {FEWEST_CONTROLS} are needed to tell harm on: give more facts that it knows",
            field=KEEP_FIELD,
        )
    return Roles(taught, known, chosen, replayed, not_kept)


def without(roles: Roles, strangers: Sequence[str]) -> Roles:
    """The roles without control facts of these ids, which the study's own measurement does not find known."""
    gone = set(strangers)
    return Roles(roles.taught, roles.already_known, roles.controls.filter(~pl.col("fact_id").is_in(gone)), roles.replayed, roles.not_kept)


def _first(facts: pl.DataFrame, count: int) -> pl.DataFrame:
    """The first facts of an order that depends on their questions alone, in the order of the table."""
    keys = dict(zip(facts["fact_id"], map(_key, facts["question"]), strict=True))
    return facts.filter(pl.col("fact_id").is_in(sorted(keys, key=keys.__getitem__)[:count]))


def _key(question: str) -> str:
    return random_key(0, f"pack {question_key(question)}")
