import polars as pl
import pytest

from kp.errors import UserError
from kp.metrics.arms import ArmRun, Condition, compare_arms
from kp.metrics.effects import CROSSED_FALLS, NET_CHANGE, fact_effects
from kp.metrics.intervals import estimate_mean
from kp.vocabulary import FactSubset
from tests.made_up_outcomes import facts_in, outcomes

FACTS = 40
CLUSTERS = [fact // 2 for fact in range(FACTS)]
BASE = {name: [10] * FACTS for name in ("S0", "S1", "S2")}


def loses(count: int, facts: int, first: int = 0) -> dict[str, list[int]]:
    """An adapter that loses `count` of ten answers to each of so many facts."""
    answers = [10 - count if first <= fact < first + facts else 10 for fact in range(FACTS)]
    return {"S1": answers, "S2": answers}


def run(trial_id: str, pair: int = 0, steps: int = 100, final: float = 0.0, end: str = "completed", exposures: float = 10.0) -> ArmRun:
    return ArmRun(trial_id, f"seed {pair}", pair, steps, learning_rate=1e-3, final_learning_rate=final, end=end, exposures=exposures)


def measured(**trials: dict[str, list[int]]) -> pl.DataFrame:
    return fact_effects(outcomes(BASE, trials), facts_in(CLUSTERS))


def test_compare_arms_is_the_mean_difference_over_facts() -> None:
    effects = measured(plain=loses(4, 20), replay=loses(2, 30))
    found = compare_arms(effects, NET_CHANGE, [run("plain", exposures=20)], [run("replay")])
    differences = [-0.2] * 20 + [0.2] * 10 + [0.0] * 10
    expected = estimate_mean(differences, CLUSTERS)
    assert found.difference is not None
    assert found.difference.value == pytest.approx(expected.value)
    assert found.difference.limits() == pytest.approx(expected.limits())
    assert (found.facts, found.pairs, found.exposures, found.unmet) == (FACTS, (("plain", "replay"),), (20, 10), ())


def test_compare_arms_swapped_is_the_opposite() -> None:
    effects = measured(plain=loses(10, 20), replay=loses(10, 12, first=15))
    one, other = (
        compare_arms(effects, CROSSED_FALLS, [run("plain")], [run("replay")]),
        compare_arms(effects, CROSSED_FALLS, [run("replay")], [run("plain")]),
    )
    assert one.difference is not None
    assert other.difference is not None
    assert one.difference.value == -other.difference.value == pytest.approx(0.2)


def test_compare_arms_that_answer_alike_differ_by_exactly_0() -> None:
    found = compare_arms(measured(plain=loses(7, 20), replay=loses(7, 20)), NET_CHANGE, [run("plain")], [run("replay")])
    assert found.difference is not None
    assert found.difference.value == 0.0


def test_compare_arms_pairs_runs_by_seed_and_leaves_others_out() -> None:
    effects = measured(a0=loses(4, 20), a1=loses(6, 20), a2=loses(8, 20), b1=loses(2, 20), b0=loses(2, 20), b5=loses(9, 40))
    first, second = [run("a0", 0), run("a1", 1), run("a2", 2)], [run("b1", 1), run("b0", 0), run("b5", 5)]
    found = compare_arms(effects, NET_CHANGE, first, second)
    assert found.pairs == (("a0", "b0"), ("a1", "b1"))
    assert found.difference is not None
    assert (found.difference.value, found.difference.runs) == (pytest.approx(-0.15), 2)
    (unmet,) = found.unmet
    assert (unmet.condition, unmet.first, unmet.second) == (
        Condition.EQUAL_PAIRS,
        ("seed 0", "seed 1", "seed 2"),
        ("seed 0", "seed 1", "seed 5"),
    )


def test_compare_arms_over_several_settings_of_one_seed_is_about_these_settings() -> None:
    effects = measured(a=loses(4, 20), b=loses(2, 30), c=loses(8, 20), d=loses(1, 30))
    ones = [ArmRun(name, setting, 0, 100, 1e-3, 0.0, "all", 10.0) for name, setting in (("a", "N 10"), ("c", "N 40"))]
    others = [ArmRun(name, setting, 0, 100, 1e-3, 0.0, "all", 10.0) for name, setting in (("b", "N 10"), ("d", "N 40"))]
    found = compare_arms(effects, NET_CHANGE, ones, others)
    of_settings = [[-0.2] * 20 + [0.2] * 10 + [0.0] * 10, [-0.7] * 20 + [0.1] * 10 + [0.0] * 10]
    expected = estimate_mean([value for values in of_settings for value in values], CLUSTERS * 2)
    assert found.difference is not None
    assert (found.difference.value, found.difference.runs) == (pytest.approx(expected.value), 1)
    assert found.difference.limits() == pytest.approx(expected.limits())


def test_compare_arms_without_a_common_seed_averages_runs() -> None:
    effects = measured(a0=loses(4, 20), a1=loses(6, 20), b5=loses(2, 20))
    found = compare_arms(effects, NET_CHANGE, [run("a0", 0), run("a1", 1)], [run("b5", 5)])
    assert found.difference is not None
    assert (found.difference.value, found.difference.runs, found.pairs) == (pytest.approx(-0.15), 1, ())
    assert [unmet.condition for unmet in found.unmet] == [Condition.EQUAL_PAIRS]


def test_compare_arms_counts_only_facts_that_no_run_trained_on() -> None:
    effects = measured(plain=loses(4, 20), replay=loses(2, 30))
    trained = (pl.col("trial_id") == "replay") & pl.col("fact_id").is_in(["f0", "f1"])
    replayed = effects.with_columns(pl.when(trained).then(pl.lit("replayed")).otherwise(pl.col("role")).alias("role"))
    found = compare_arms(replayed, NET_CHANGE, [run("plain")], [run("replay")])
    assert found.facts == FACTS - 2
    assert found.difference is not None
    assert found.difference.value == pytest.approx((18 * -0.2 + 10 * 0.2) / 38)


def test_compare_arms_without_a_common_fact_has_no_difference() -> None:
    found = compare_arms(measured(a=loses(4, 20), b=loses(2, 30)), NET_CHANGE, [run("a")], [run("b")], FactSubset.TRAINED)
    assert (found.difference, found.facts) == (None, 0)


def test_compare_arms_names_what_does_not_hold() -> None:
    effects = measured(plain=loses(4, 20), replay=loses(2, 30))
    found = compare_arms(effects, NET_CHANGE, [run("plain", steps=91, final=4e-4, end="stopped at accuracy")], [run("replay", steps=200)])
    assert {unmet.condition: (unmet.first, unmet.second) for unmet in found.unmet} == {
        Condition.EQUAL_STEPS: ((91,), (200,)),
        Condition.EQUAL_FINAL_LEARNING_RATE: ((4e-4,), (0.0,)),
        Condition.EQUAL_END: (("stopped at accuracy",), ("completed",)),
    }


def test_compare_arms_final_rates_within_a_hundredth_of_the_peak_are_equal() -> None:
    effects = measured(plain=loses(4, 20), replay=loses(2, 30))
    assert compare_arms(effects, NET_CHANGE, [run("plain", final=9e-6)], [run("replay")]).unmet == ()
    assert len(compare_arms(effects, NET_CHANGE, [run("plain", final=2e-5)], [run("replay")]).unmet) == 1


def test_compare_arms_conditions_hold_between_the_runs_of_a_seed() -> None:
    effects = measured(a0=loses(4, 20), a1=loses(6, 20), b0=loses(2, 20), b1=loses(2, 20), b5=loses(2, 20), b6=loses(3, 20))
    first = [run("a0", 0, steps=100), run("a1", 1, steps=120)]
    assert compare_arms(effects, NET_CHANGE, first, [run("b0", 0, steps=100), run("b1", 1, steps=120)]).unmet == ()
    crossed_over = compare_arms(effects, NET_CHANGE, first, [run("b0", 0, steps=120), run("b1", 1, steps=100)])
    assert [unmet.condition for unmet in crossed_over.unmet] == [Condition.EQUAL_STEPS]
    strangers = compare_arms(effects, NET_CHANGE, first, [run("b5", 5, steps=100), run("b6", 6, steps=120)])
    assert [unmet.condition for unmet in strangers.unmet] == [Condition.EQUAL_PAIRS, Condition.EQUAL_STEPS]


def test_compare_arms_on_s1_alone_cannot_cross() -> None:
    table = outcomes(BASE, {"a": loses(4, 20), "b": {"S1": [10] * FACTS}})
    with pytest.raises(UserError, match="trial 'b' was not"):
        compare_arms(fact_effects(table, facts_in(CLUSTERS)), CROSSED_FALLS, [run("a")], [run("b")])


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ([], "the second arm has no runs"),
        ([run("b", 0), run("c", 0)], "the second arm has more than one run of seed 0"),
        ([run("gone")], "effects: no rows of trial 'gone'"),
    ],
)
def test_compare_arms_of_runs_that_cannot_be_paired_raise(second: list[ArmRun], message: str) -> None:
    with pytest.raises(UserError, match=message):
        compare_arms(measured(a=loses(4, 20), b=loses(2, 30), c=loses(2, 3)), NET_CHANGE, [run("a")], second)
