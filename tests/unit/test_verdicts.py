import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kp.metrics.effects import CROSSED_FALLS, CROSSED_RISES, NET_CHANGE
from kp.metrics.intervals import Estimate, estimate_mean
from kp.metrics.verdicts import harm_of, judge, judge_grid
from kp.vocabulary import Verdict

FEW = settings(max_examples=50, deadline=None)


def harm(value: float, standard_error: float | None) -> Estimate:
    return Estimate(value, n=200, clusters=200, runs=1, standard_error=standard_error, degrees=199.0)


@pytest.mark.parametrize(
    ("value", "standard_error", "verdict"),
    [
        (0.05, 0.02, Verdict.HARM_SHOWN),
        (0.002, 0.005, Verdict.WITHIN_MARGIN),
        (0.03, 0.02, Verdict.NOT_RESOLVED),
        (0.0, 0.02, Verdict.NOT_RESOLVED),
        (0.05, None, Verdict.NOT_RESOLVED),
        (-0.05, 0.01, Verdict.WITHIN_MARGIN),  # never better than nothing
        (-0.05, 0.04, Verdict.NOT_RESOLVED),
    ],
)
def test_judge_places_the_interval_between_0_and_the_margin(value: float, standard_error: float | None, verdict: Verdict) -> None:
    assert judge(harm(value, standard_error)).verdict is verdict


def test_judge_a_harm_below_the_margin_is_shown_and_small() -> None:
    found = judge(harm(0.01, 0.003))
    assert (found.verdict, found.below_margin) == (Verdict.HARM_SHOWN, True)
    assert judge(harm(0.05, 0.01)).below_margin is False


def test_judge_names_the_smallest_harm_that_could_have_been_found() -> None:
    found = judge(harm(0.0, 0.02))
    assert found.resolvable == pytest.approx(0.0563, abs=1e-4)
    assert found.margin == 0.02


def test_judge_another_margin_can_resolve_it() -> None:
    assert judge(harm(0.01, 0.01), margin=0.04).verdict is Verdict.WITHIN_MARGIN
    with pytest.raises(ValueError, match="margin = 0: expected a share above 0"):
        judge(harm(0.01, 0.01), margin=0)


@pytest.mark.parametrize(("facts", "verdict"), [(60, Verdict.NOT_RESOLVED), (180, Verdict.NOT_RESOLVED), (200, Verdict.WITHIN_MARGIN)])
def test_judge_an_adapter_that_changed_nothing_is_cleared_only_by_enough_facts(facts: int, verdict: Verdict) -> None:
    assert judge(estimate_mean([0.0] * facts, range(facts))).verdict is verdict


def test_harm_of_a_loss_of_knowledge_is_above_0() -> None:
    lost = estimate_mean([-0.5] * 30 + [0.1] * 10, range(40))
    assert harm_of(lost, NET_CHANGE).value == -lost.value > 0
    assert harm_of(lost, CROSSED_FALLS) is lost
    with pytest.raises(ValueError, match="'crossed positive' is no harm"):
        harm_of(lost, CROSSED_RISES)


@FEW
@given(st.floats(-0.1, 0.1), st.floats(0.001, 0.05))
def test_judge_grid_of_one_is_judge(value: float, standard_error: float) -> None:
    estimate = harm(value, standard_error)
    assert judge_grid([estimate])[0] == judge(estimate)


def test_judge_grid_asks_more_of_each_than_judge() -> None:
    borderline, clear = harm(0.045, 0.02), harm(0.09, 0.02)
    assert judge(borderline).verdict is Verdict.HARM_SHOWN
    findings = judge_grid([borderline, clear, *[harm(0.0, 0.02)] * 10])
    assert [found.verdict for found in findings[:3]] == [Verdict.NOT_RESOLVED, Verdict.HARM_SHOWN, Verdict.NOT_RESOLVED]
    assert judge_grid([]) == []


def test_judge_grid_of_harmless_arms_rarely_shows_any_harm() -> None:
    random = np.random.default_rng(0)
    shown = [
        any(found.verdict is Verdict.HARM_SHOWN for found in judge_grid([harm(value, 0.02) for value in random.normal(0, 0.02, 10)]))
        for _ in range(300)
    ]
    assert np.mean(shown) <= 0.055  # 2.5%, and 3 standard errors of the simulation
