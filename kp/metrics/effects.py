"""Effects of an adapter on what its base knows, one value per fact, each with the base on the same fact.

Summaries come afterwards, so that intervals, subsets of facts and comparisons of arms all work fact by fact. With A and B for adapter and
base, p for the share of right answers, and Xk for the category of X on shot set Sk (Unknown < MaybeKnown < HighlyKnown):

- net_change: p_A - p_B over the same prompts, those of S1 and S2 (S1 alone if the adapter was not asked more).
- same_prompt: the shift from B1 to A1, as the paper counts. Any adapter that changes answers has some, also one that leaves the model
  exactly as knowledgeable as it was, so this count alone is no harm. In simulations (tests/unit/test_effects_null.py), an adapter that
  answers a tenth of the facts anew by the base's own chances shows 1% of all facts fallen, and one that answers all of them anew 10%. To
  subtract the base's own shifts from S1 to S2 does not mend this: the first adapter then looks better than nothing, significantly, every
  time.
- crossed: the excess of shifts over the base's own, 1/2 [1(A2 < B1) - 1(B2 < B1) + 1(A1 < B2) - 1(B1 < B2)] for falls; likewise for rises
  and for single moves. Both sides compare different prompts, so the noise of the prompts cancels.

net_change and crossed are exactly 0 for an adapter that changes no answer and have mean 0 for one whose answers are exchangeable with the
base's. Facts at risk are chosen by the base's category on S0, which neither S1 nor S2 has seen, so nothing regresses to the mean.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import polars as pl

from kp.errors import UserError
from kp.metrics.categories import validate_greedy_classes
from kp.metrics.result_schema import FACT_EFFECTS
from kp.metrics.shifts import MOVES, Shift
from kp.vocabulary import BASE, KNOWN_CATEGORIES, Category, EffectKind, FactRole, FactSubset, ShotSet

S0, S1, S2 = ShotSet.S0.value, ShotSet.S1.value, ShotSet.S2.value
FIELD = "evaluate.shot_sets"  # named in messages

ROLES: dict[FactSubset, tuple[FactRole, ...]] = {
    FactSubset.ALL: tuple(FactRole),
    FactSubset.CONTROL: (FactRole.CONTROL_DEV, FactRole.CONTROL_TEST),
    FactSubset.CONTROL_DEV: (FactRole.CONTROL_DEV,),
    FactSubset.CONTROL_TEST: (FactRole.CONTROL_TEST,),
    FactSubset.UNTOUCHED: (FactRole.UNTOUCHED,),
    FactSubset.UNTRAINED: (FactRole.CONTROL_DEV, FactRole.CONTROL_TEST, FactRole.UNTOUCHED),
    FactSubset.TRAINED: (FactRole.TRAINED,),
    FactSubset.REPLAYED: (FactRole.REPLAYED,),
}
_RISES = (Shift.UK_HK, Shift.UK_MK, Shift.MK_HK, Shift.POSITIVE)


@dataclass(frozen=True)
class Effect:
    """One effect: what is compared, and for shifts which one."""

    kind: EffectKind
    shift: Shift | None = None  # None for the net change alone

    def __str__(self) -> str:
        return f"{self.kind} {self.shift}" if self.shift else self.kind.value

    @property
    def shot_sets(self) -> tuple[str, ...]:
        """The shot sets on which adapter and base must have been measured."""
        return (S1, S2) if self.kind is EffectKind.CROSSED else (S1,)

    @property
    def at_risk(self) -> frozenset[Category]:
        """Categories on S0 of the facts that can move that way; for the net change, those that can lose."""
        if self.shift is None:
            return frozenset(KNOWN_CATEGORIES)
        return frozenset(origin for origin, _ in MOVES[self.shift])

    @property
    def harm_sign(self) -> int:
        """1 if a larger value is a greater harm, -1 if a smaller one is, 0 if the effect is no harm: rises, and same-prompt counts."""
        if self.shift is None:
            return -1
        return 0 if self.shift in _RISES or self.kind is EffectKind.SAME_PROMPT else 1

    @property
    def is_count(self) -> bool:
        """Whether a fact's value is 0 or 1, instead of anything from -1 to 1."""
        return self.kind is EffectKind.SAME_PROMPT


NET_CHANGE = Effect(EffectKind.NET_CHANGE)
CROSSED_FALLS = Effect(EffectKind.CROSSED, Shift.NEGATIVE)
CROSSED_RISES = Effect(EffectKind.CROSSED, Shift.POSITIVE)
EFFECTS: tuple[Effect, ...] = (
    NET_CHANGE,
    *(Effect(EffectKind.SAME_PROMPT, shift) for shift in Shift),
    *(Effect(EffectKind.CROSSED, shift) for shift in Shift),
)


def fact_effects(outcomes: pl.DataFrame, facts: pl.DataFrame, among: Sequence[Effect] = EFFECTS) -> pl.DataFrame:
    """The FACT_EFFECTS of every adapter in OUTCOMES, with relation and object from FACTS: a row per trial, fact and effect.

    An adapter measured on S1 alone has no rows of crossed effects (`unavailable_effects` names them). Raises UserError if a fact was
    measured twice, if the base was not measured on the same prompts or not on S0, if a trial's S1 and S2 cover different facts, or if a
    fact is unknown.
    """
    _validate(outcomes)
    wide = _wide(outcomes)
    strange = wide.join(facts, on="fact_id", how="anti")["fact_id"].sort()
    if len(strange):
        raise UserError(f"outcomes: fact '{strange[0]}' is not among the facts")
    wide = wide.join(facts.select("fact_id", "relation", "object"), on="fact_id", how="left").sort("trial_id", "fact_id")
    tables = [_fact_values(wide, effect) for effect in among]
    return pl.concat(tables).select(FACT_EFFECTS.names)


def unavailable_effects(outcomes: pl.DataFrame) -> dict[str, tuple[Effect, ...]]:
    """The effects that cannot be given, by trial, for lack of a shot set that the adapter was not measured on; empty if there are none."""
    asked = outcomes.filter(pl.col("trial_id") != BASE).group_by("trial_id").agg(pl.col("shot_set").unique()).sort("trial_id")
    lacking = {
        trial_id: tuple(effect for effect in EFFECTS if not set(effect.shot_sets) <= set(shot_sets))
        for trial_id, shot_sets in asked.iter_rows()
    }
    return {trial_id: effects for trial_id, effects in lacking.items() if effects}


def rows_of(effects: pl.DataFrame, effect: Effect) -> pl.DataFrame:
    """The FACT_EFFECTS rows of one effect, of the trials that have it."""
    shift = pl.lit(effect.shift and effect.shift.value, dtype=pl.String)
    return effects.filter(pl.col("effect") == effect.kind.value, pl.col("shift").eq_missing(shift))


def require_effect(effects: pl.DataFrame, effect: Effect) -> pl.DataFrame:
    """The FACT_EFFECTS rows of one effect; raises UserError naming the trials that have none because they were measured on S1 alone."""
    found = rows_of(effects, effect)
    lacking = sorted(set(effects["trial_id"].unique()) - set(found["trial_id"].unique()))
    if lacking:
        needed = " and ".join(effect.shot_sets)
        raise UserError(f"the effect '{effect}' needs adapters measured on {needed}; trial '{lacking[0]}' was not", field=FIELD)
    return found


def on_subset(effects: pl.DataFrame, subset: FactSubset) -> pl.DataFrame:
    """The FACT_EFFECTS rows of the facts that have one of the subset's roles in their trial."""
    return effects.filter(pl.col("role").is_in([role.value for role in ROLES[subset]]))


def on_categories(effects: pl.DataFrame, categories: Collection[Category]) -> pl.DataFrame:
    """The FACT_EFFECTS rows of the facts that the base had in one of these categories on S0; see `Effect.at_risk`."""
    return effects.filter(pl.col("s0_category").is_in([category.value for category in categories]))


def _fact_values(wide: pl.DataFrame, effect: Effect) -> pl.DataFrame:
    """The FACT_EFFECTS of one effect, of the trials that have all its shot sets."""
    adapter, base = _sides(effect)
    measured = wide.filter(*(pl.col(f"adapter_{shot_set}").is_not_null() for shot_set in effect.shot_sets))
    return measured.select(
        *("trial_id", "fact_id", "role", "s0_category", "relation", "object"),
        pl.lit(effect.kind.value).alias("effect"),
        pl.lit(effect.shift and effect.shift.value, dtype=pl.String).alias("shift"),
        adapter.cast(pl.Float64).alias("adapter"),
        base.cast(pl.Float64).alias("base"),
    ).with_columns((pl.col("adapter") - pl.col("base")).alias("value"))


def _sides(effect: Effect) -> tuple[pl.Expr, pl.Expr]:
    """What the adapter shows on a fact, and what the base does."""
    if effect.shift is None:
        return tuple(pl.mean_horizontal(f"{model}_{S1}_share", f"{model}_{S2}_share") for model in ("adapter", "base"))  # type: ignore[return-value]
    if effect.kind is EffectKind.SAME_PROMPT:  # on the same prompts, the base does not move
        return _moved(effect.shift, f"base_{S1}", f"adapter_{S1}"), pl.lit(0.0)
    adapter = _moved(effect.shift, f"base_{S1}", f"adapter_{S2}") + _moved(effect.shift, f"base_{S2}", f"adapter_{S1}")
    base = _moved(effect.shift, f"base_{S1}", f"base_{S2}") + _moved(effect.shift, f"base_{S2}", f"base_{S1}")
    return adapter / 2, base / 2


def _moved(shift: Shift, before: str, after: str) -> pl.Expr:
    """1 for a fact that moved that way between the categories of two columns, else 0."""
    moves = [(pl.col(before) == origin.value) & (pl.col(after) == target.value) for origin, target in sorted(MOVES[shift])]
    return pl.any_horizontal(moves).cast(pl.Float64)


def _wide(outcomes: pl.DataFrame) -> pl.DataFrame:
    """A row per trial and fact: role, s0_category, and category and share of right answers of adapter and base on S1 and S2.

    Of a trial measured on S1 alone, the columns of S2 are null on both sides.
    """
    adapters, base = outcomes.filter(pl.col("trial_id") != BASE), outcomes.filter(pl.col("trial_id") == BASE)
    origin = base.filter(pl.col("shot_set") == S0).select("fact_id", pl.col("category").alias("s0_category"))
    wide = adapters.filter(pl.col("shot_set") == S1).select("trial_id", "fact_id", "role").join(origin, on="fact_id", how="left")
    for shot_set in (S1, S2):
        found = _columns(adapters, "adapter", shot_set, "trial_id").join(_columns(base, "base", shot_set), on="fact_id", how="left")
        wide = wide.join(found, on=["trial_id", "fact_id"], how="left")
    return wide


def _columns(outcomes: pl.DataFrame, model: str, shot_set: str, *keys: str) -> pl.DataFrame:
    return outcomes.filter(pl.col("shot_set") == shot_set).select(
        *keys,
        "fact_id",
        pl.col("category").alias(f"{model}_{shot_set}"),
        (pl.col("correct") / pl.col("asked")).alias(f"{model}_{shot_set}_share"),
    )


def _validate(outcomes: pl.DataFrame) -> None:
    validate_greedy_classes(outcomes)
    key = ["trial_id", "fact_id", "shot_set"]
    _refuse(outcomes.filter(outcomes.select(key).is_duplicated()), "has more than one row")
    base = outcomes.filter(pl.col("trial_id") == BASE)
    adapters = outcomes.filter(pl.col("trial_id") != BASE, pl.col("shot_set").is_in([S1, S2]))
    same = base.select("fact_id", "shot_set", pl.col("asked").alias("base_asked"))
    compared = adapters.join(same, on=["fact_id", "shot_set"], how="left")
    _refuse(compared.filter(pl.col("base_asked").is_null()), "has no row of the base")
    _refuse(compared.filter(pl.col("asked") != pl.col("base_asked")), "was not asked as often as of the base")
    _refuse(adapters.join(base.filter(pl.col("shot_set") == S0), on="fact_id", how="anti"), f"has no row of the base on {S0}")
    both = adapters.with_columns(
        pl.col("shot_set").n_unique().over("trial_id").alias("expected"),
        pl.len().over("trial_id", "fact_id").alias("found"),
        pl.col("role").n_unique().over("trial_id", "fact_id").alias("roles"),
    )
    _refuse(both.filter(pl.col("found") != pl.col("expected")), f"was measured on one of {S1} and {S2}, and other facts on both")
    _refuse(both.filter(pl.col("roles") > 1), "has more than one role")
    _refuse(adapters.filter(~(pl.col("shot_set") == S1).any().over("trial_id")), f"was measured on {S2} and not on {S1}")


def _refuse(rows: pl.DataFrame, problem: str) -> None:
    """Raise UserError about the first of these OUTCOMES rows, if there is one."""
    for row in rows.sort("trial_id", "fact_id", "shot_set").head(1).iter_rows(named=True):
        raise UserError(f"outcomes: fact '{row['fact_id']}' of trial '{row['trial_id']}' on {row['shot_set']} {problem}")
