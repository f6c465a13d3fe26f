"""The outcomes table: all that a reader needs to recompute the effects without the raw answers, one row per model, fact and shot set."""

from collections.abc import Collection, Mapping

import polars as pl

from kp.errors import UserError
from kp.metrics.categories import of_matcher
from kp.schema import OUTCOMES
from kp.vocabulary import FactRole, Matcher, Part, Role

_ROLES = {
    Role.UNKNOWN: FactRole.TRAINED,
    Role.PARAPHRASE: FactRole.TRAINED,
    Role.HIGHLY_KNOWN: FactRole.REPLAYED,
    Role.MAYBE_KNOWN: FactRole.REPLAYED,
}
_OF_PARTS = {Part.CONTROL_DEV: FactRole.CONTROL_DEV, Part.CONTROL_TEST: FactRole.CONTROL_TEST}


def fact_roles(
    fact_ids: Collection[str], parts: pl.DataFrame | None = None, training_rows: pl.DataFrame | None = None
) -> dict[str, FactRole]:
    """What each measured fact is to a trial with these TRAINING_ROWS, or to the base without any; `parts` is PARTS, if there are any.

    A fact trained on in several roles is trained rather than replayed. Rows of facts that are not measured do not count. Raises UserError
    if the trial trained on a control fact.
    """
    part_of = {} if parts is None else dict(parts.select("fact_id", "part").iter_rows())
    kept = {fact_id: _OF_PARTS[Part(part)] for fact_id, part in part_of.items() if part != Part.POOL}
    roles = {fact_id: kept.get(fact_id, FactRole.UNTOUCHED) for fact_id in fact_ids}
    rows = [] if training_rows is None else training_rows.select("fact_id", "role").unique().sort("fact_id", "role").rows()
    for fact_id, role in rows:
        if fact_id in kept:
            raise UserError(f"training rows: fact '{fact_id}' is a control fact, which no trial may train on")
        if fact_id in roles and roles[fact_id] is not FactRole.TRAINED:
            roles[fact_id] = _ROLES[Role(role)]
    return roles


def outcome_table(
    trial_id: str, answers: pl.DataFrame, categories: pl.DataFrame, roles: Mapping[str, FactRole], matcher: Matcher
) -> pl.DataFrame:
    """The OUTCOMES of one model from its ANSWERS and CATEGORIES of the same facts and shot sets, sorted by shot set and fact.

    Raises UserError if the two cover different facts or shot sets, or if a fact has no role.
    """
    judged = of_matcher(categories, matcher).select("fact_id", "shot_set", "correct", "asked", "category")
    refused = answers.group_by("fact_id", "shot_set").agg(pl.col("refused").sum().cast(pl.Int32))
    joined = judged.join(refused, on=["fact_id", "shot_set"], how="full", coalesce=True).sort("shot_set", "fact_id")
    odd = joined.filter(pl.col("correct").is_null() | pl.col("refused").is_null())
    for row in odd.head(1).iter_rows(named=True):
        raise UserError(f"outcomes: fact '{row['fact_id']}' has answers or a category on {row['shot_set']}, but not both")
    missing = sorted(set(joined["fact_id"]) - roles.keys())
    if missing:
        raise UserError(f"outcomes: fact '{missing[0]}' of trial '{trial_id}' has no role")
    named = pl.col("fact_id").replace_strict({fact_id: role.value for fact_id, role in roles.items()}, return_dtype=pl.String)
    return joined.with_columns(pl.lit(trial_id).alias("trial_id"), named.alias("role")).select(OUTCOMES.names)
