import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kp.errors import UserError
from kp.metrics import result_schema
from kp.metrics.effect_summary import effect_table, estimate_effect
from kp.metrics.effects import (
    CROSSED_FALLS,
    CROSSED_RISES,
    EFFECTS,
    NET_CHANGE,
    Effect,
    fact_effects,
    on_categories,
    on_subset,
    require_effect,
    rows_of,
    unavailable_effects,
)
from kp.metrics.shifts import Shift
from kp.vocabulary import Category, EffectKind, FactSubset
from tests.made_up_outcomes import facts_in, outcomes

FEW = settings(max_examples=25, deadline=None)
SAME_FALLS = Effect(EffectKind.SAME_PROMPT, Shift.NEGATIVE)
COUNTS = st.sampled_from([0, 0, 3, 7, 10, 10])


def values(effects: pl.DataFrame, effect: Effect) -> list[float]:
    return rows_of(effects, effect).sort("trial_id", "fact_id")["value"].to_list()


def row(table: pl.DataFrame, effect: Effect, at_risk: bool = False) -> dict[str, object]:
    (found,) = rows_of(table, effect).filter(at_risk=at_risk).rows(named=True)
    return found


BASE = {"S0": [10, 10, 5, 0], "S1": [10, 10, 5, 0], "S2": [10, 4, 5, 0]}
ADAPTER = {"S1": [5, 10, 5, 10], "S2": [0, 4, 10, 2]}
EFFECTS_OF_FOUR = fact_effects(outcomes(BASE, {"t": ADAPTER}), facts_in([0, 1, 2, 2]))


def test_fact_effects_net_change_is_over_the_prompts_of_both_sets() -> None:
    # (5 - 10 + 0 - 10) / 20; no change; (5 - 5 + 10 - 5) / 20; (10 - 0 + 2 - 0) / 20
    assert values(EFFECTS_OF_FOUR, NET_CHANGE) == pytest.approx([-0.75, 0, 0.25, 0.6])


def test_fact_effects_same_prompt_counts_moves_on_s1() -> None:
    assert values(EFFECTS_OF_FOUR, SAME_FALLS) == [1, 0, 0, 0]
    assert values(EFFECTS_OF_FOUR, Effect(EffectKind.SAME_PROMPT, Shift.HK_MK)) == [1, 0, 0, 0]
    assert values(EFFECTS_OF_FOUR, Effect(EffectKind.SAME_PROMPT, Shift.UK_HK)) == [0, 0, 0, 1]


def test_fact_effects_crossed_compares_the_adapter_with_the_base_on_the_other_set() -> None:
    # f0: both orders fall, the base never: 1. f1: A2 < B1 and B2 < B1, A1 > B2: 0. f2 rises in one order of two. f3 rises in both.
    assert values(EFFECTS_OF_FOUR, CROSSED_FALLS) == [1, 0, 0, 0]
    assert values(EFFECTS_OF_FOUR, CROSSED_RISES) == [0, 0, 0.5, 1]
    assert values(EFFECTS_OF_FOUR, Effect(EffectKind.CROSSED, Shift.HK_MK)) == [0.5, 0, 0, 0]
    assert values(EFFECTS_OF_FOUR, Effect(EffectKind.CROSSED, Shift.HK_UK)) == [0.5, 0, 0, 0]


def test_fact_effects_keep_the_base_beside_the_adapter() -> None:
    (second,) = rows_of(EFFECTS_OF_FOUR, CROSSED_FALLS).filter(fact_id="f1").rows(named=True)
    assert (second["adapter"], second["base"], second["value"]) == (0.5, 0.5, 0)
    assert (second["s0_category"], second["relation"], second["object"]) == ("HighlyKnown", "r1", "o1")


def test_fact_effects_fit_their_schema_with_every_effect_of_every_fact() -> None:
    assert EFFECTS_OF_FOUR.to_arrow().cast(result_schema.FACT_EFFECTS).schema == result_schema.FACT_EFFECTS
    assert EFFECTS_OF_FOUR.height == 4 * len(EFFECTS) == 4 * 17


def test_fact_effects_s1_alone_has_no_crossed_effects_and_says_which() -> None:
    table = outcomes(BASE, {"both": ADAPTER, "one": {"S1": ADAPTER["S1"]}})
    effects = fact_effects(table, facts_in([0, 1, 2, 2]))
    assert unavailable_effects(table) == {"one": tuple(effect for effect in EFFECTS if effect.kind is EffectKind.CROSSED)}
    assert unavailable_effects(outcomes(BASE, {"both": ADAPTER})) == {}
    assert set(rows_of(effects, CROSSED_FALLS)["trial_id"]) == {"both"}
    assert values(effects.filter(trial_id="one"), NET_CHANGE) == [-0.5, 0, 0, 1]  # of S1
    with pytest.raises(UserError, match=r"evaluate.shot_sets: the effect 'crossed negative' needs .* S1 and S2; trial 'one' was not"):
        require_effect(effects, CROSSED_FALLS)
    assert require_effect(effects, SAME_FALLS).height == 8


def test_on_subset_follows_the_roles_of_each_trial() -> None:
    table = outcomes(BASE, {"t": ADAPTER}, ["trained", "replayed", "control_dev", "untouched"])
    effects = rows_of(fact_effects(table, facts_in(range(4))), NET_CHANGE)
    chosen = {subset.value: on_subset(effects, subset)["fact_id"].to_list() for subset in FactSubset}
    assert chosen == {
        "all": ["f0", "f1", "f2", "f3"],
        "control": ["f2"],
        "control_dev": ["f2"],
        "control_test": [],
        "untouched": ["f3"],
        "untrained": ["f2", "f3"],
        "trained": ["f0"],
        "replayed": ["f1"],
    }


def test_effect_at_risk_is_by_the_category_on_s0() -> None:
    base = {"S0": [10, 0, 5], "S1": [0, 10, 0], "S2": [0, 10, 0]}
    effects = fact_effects(outcomes(base, {"t": {"S1": [0, 0, 0], "S2": [0, 0, 0]}}), facts_in(range(3)))
    falls = rows_of(effects, SAME_FALLS)
    assert SAME_FALLS.at_risk == {Category.HIGHLY_KNOWN, Category.MAYBE_KNOWN}
    assert on_categories(falls, SAME_FALLS.at_risk)["fact_id"].to_list() == ["f0", "f2"]  # f1 fell from S1, but was Unknown on S0
    table = effect_table(effects, FactSubset.CONTROL)
    assert (row(table, SAME_FALLS)["value"], row(table, SAME_FALLS)["n"]) == (pytest.approx(1 / 3), 3)
    assert (row(table, SAME_FALLS, at_risk=True)["value"], row(table, SAME_FALLS, at_risk=True)["n"]) == (0, 2)


def test_effect_table_averages_adapter_and_base_over_the_same_subset() -> None:
    base = {"S0": [10, 10, 0], "S1": [10, 10, 0], "S2": [10, 10, 0]}
    learned = {"S1": [4, 10, 10], "S2": [4, 10, 10]}
    effects = fact_effects(outcomes(base, {"t": learned}, ["control_dev", "control_test", "trained"]), facts_in(range(3)))
    on_control, on_all = (row(effect_table(effects, subset), NET_CHANGE) for subset in (FactSubset.CONTROL, FactSubset.ALL))
    assert [on_control[name] for name in ("adapter", "base", "value", "n")] == pytest.approx([0.7, 1, -0.3, 2])
    assert [on_all[name] for name in ("adapter", "base", "value", "n")] == pytest.approx([0.8, 2 / 3, 2 / 15, 3])


def test_effect_table_fits_its_schema_and_judges_only_harms() -> None:
    table = effect_table(EFFECTS_OF_FOUR, FactSubset.CONTROL)
    assert table.to_arrow().cast(result_schema.EFFECTS).schema == result_schema.EFFECTS
    assert table.height == 2 * len(EFFECTS)
    judged = table.filter(pl.col("verdict").is_not_null())
    assert set(judged["shift"].drop_nulls()) == {"HK->UK", "HK->MK", "MK->UK", "negative"}
    assert set(judged["effect"]) == {"net_change", "crossed"}  # a model that only answers anew has same-prompt falls as well
    assert judged.height == 2 * 5
    assert judged["verdict"].equals(judged["verdict_alone"].alias("verdict"))  # one trial is no grid


def test_effect_table_without_such_facts_has_rows_without_values() -> None:
    table = effect_table(EFFECTS_OF_FOUR, FactSubset.TRAINED)
    assert set(table["n"]) == {0}
    assert table.select("value", "adapter", "base", "standard_error", "lower", "upper", "verdict").null_count().row(0) == (34,) * 7
    assert estimate_effect(EFFECTS_OF_FOUR.head(0), NET_CHANGE) is None


@FEW
@given(st.lists(st.tuples(*[COUNTS] * 5), min_size=1, max_size=20))
def test_fact_effects_single_moves_add_up_to_falls_and_rises(counts: list[tuple[int, ...]]) -> None:
    s0, b1, b2, a1, a2 = (list(column) for column in zip(*counts, strict=True))
    effects = fact_effects(outcomes({"S0": s0, "S1": b1, "S2": b2}, {"t": {"S1": a1, "S2": a2}}), facts_in(range(len(s0))))
    for kind in (EffectKind.SAME_PROMPT, EffectKind.CROSSED):
        for total, singles in (
            (Shift.NEGATIVE, (Shift.HK_UK, Shift.HK_MK, Shift.MK_UK)),
            (Shift.POSITIVE, (Shift.UK_HK, Shift.UK_MK, Shift.MK_HK)),
        ):
            added = np.sum([values(effects, Effect(kind, single)) for single in singles], axis=0)
            assert values(effects, Effect(kind, total)) == added.tolist()


@FEW
@given(st.lists(st.tuples(*[COUNTS] * 5), min_size=2, max_size=20), st.integers(1, 5))
def test_effect_table_equals_plain_loops(counts: list[tuple[int, ...]], n_clusters: int) -> None:
    s0, b1, b2, a1, a2 = (list(column) for column in zip(*counts, strict=True))
    clusters = [fact % n_clusters for fact in range(len(s0))]
    effects = fact_effects(outcomes({"S0": s0, "S1": b1, "S2": b2}, {"t": {"S1": a1, "S2": a2}}), facts_in(clusters))
    table = effect_table(effects, FactSubset.ALL)

    def rank(count: int) -> int:
        return 0 if count == 0 else 2 if count == 10 else 1

    net, falls, same, known = [], [], [], []
    for zero, one, two, mine, my_second in zip(s0, b1, b2, a1, a2, strict=True):
        net.append((mine - one + my_second - two) / 20)
        first = (rank(my_second) < rank(one)) - (rank(two) < rank(one))
        second = (rank(mine) < rank(two)) - (rank(one) < rank(two))
        falls.append((first + second) / 2)
        same.append(1.0 if rank(mine) < rank(one) else 0.0)
        known.append(zero > 0)
    for effect, expected in ((NET_CHANGE, net), (CROSSED_FALLS, falls), (SAME_FALLS, same)):
        for at_risk in (False, True):
            kept = [(value, cluster) for value, cluster, knew in zip(expected, clusters, known, strict=True) if knew or not at_risk]
            found = row(table, effect, at_risk)
            assert found["n"] == len(kept)
            if not kept:
                assert found["value"] is None
                continue
            mean = sum(value for value, _ in kept) / len(kept)
            assert found["value"] == pytest.approx(mean)
            groups = {cluster for _, cluster in kept}
            assert found["clusters"] == len(groups)
            squares = sum(sum(value - mean for value, cluster in kept if cluster == group) ** 2 for group in groups)
            if len(groups) > 1:
                expected_error = (len(groups) / (len(groups) - 1) * squares) ** 0.5 / len(kept)
                assert found["standard_error"] == pytest.approx(expected_error, abs=1e-12)
            else:
                assert found["standard_error"] is None


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda table: pl.concat([table, table.tail(1)]), "fact 'f3' of trial 't' on S2 has more than one row"),
        (lambda table: table.filter(~((table["trial_id"] == "base") & (table["shot_set"] == "S2"))), "on S2 has no row of the base"),
        (lambda table: table.filter(table["shot_set"] != "S0"), "has no row of the base on S0"),
        (lambda table: table.head(-1), "fact 'f3' of trial 't' on S1 was measured on one of S1 and S2, and other facts on both"),
        (lambda table: table.filter(~((table["trial_id"] == "t") & (table["shot_set"] == "S1"))), "was measured on S2 and not on S1"),
        (
            lambda table: table.with_columns(pl.when(pl.col("trial_id") == "t").then(5).otherwise(pl.col("asked")).alias("asked")),
            "was not asked as often as of the base",
        ),
        (
            lambda table: table.with_columns(
                pl.when(trial_id="t", shot_set="S2").then(pl.lit("trained")).otherwise(pl.col("role")).alias("role")
            ),
            "fact 'f0' of trial 't' on S1 has more than one role",
        ),
    ],
    ids=["twice", "base_s2", "s0", "part_of_s2", "no_s1", "asked", "roles"],
)
def test_fact_effects_of_incomplete_outcomes_raise(damage, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=message):
        fact_effects(damage(outcomes(BASE, {"t": ADAPTER})), facts_in([0, 1, 2, 2]))


def test_fact_effects_of_a_fact_that_is_not_there_raise() -> None:
    with pytest.raises(UserError, match="outcomes: fact 'f3' is not among the facts"):
        fact_effects(outcomes(BASE, {"t": ADAPTER}), facts_in([0, 1, 2]))
