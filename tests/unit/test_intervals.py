import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from kp.metrics.intervals import SMALL_COUNT, Estimate, Support, estimate_difference, estimate_mean, wilson
from kp.metrics.statistics import clustered_standard_error

FEW = settings(max_examples=25, deadline=None)


def changed(count: int, n: int, value: float = 1.0) -> list[float]:
    return [value] * count + [0.0] * (n - count)


def test_estimate_mean_of_one_run_is_the_sandwich_with_students_quantile() -> None:
    values, clusters = [0.5, -0.25, 0.75, 0.0, 1.0, -0.5] * 5, [0, 0, 1, 2, 3, 4] * 5
    found = estimate_mean(values, clusters, support=Support.UNBOUNDED)
    assert (found.n, found.clusters, found.runs) == (30, 5, 1)
    assert found.standard_error == pytest.approx(clustered_standard_error(values, [str(cluster) for cluster in clusters]))
    degrees = 30**2 / (10**2 + 4 * 5**2) - 1  # Kish's number of clusters, minus 1
    margin = stats.t.ppf(0.975, degrees) * found.standard_error
    assert found.limits() == pytest.approx((0.25 - margin, 0.25 + margin))


def test_estimate_mean_of_one_cluster_has_no_interval() -> None:
    found = estimate_mean([0.1, 0.2], ["a", "a"])
    assert found.value == pytest.approx(0.15)
    assert (found.standard_error, found.limits(), found.resolvable()) == (None, None, None)
    assert (found.p_above(), found.p_below(0.5)) == (1.0, 1.0)


def test_estimate_mean_no_change_is_exactly_0_with_wilsons_limits() -> None:
    found = estimate_mean(changed(0, 200), range(200))
    upper = stats.norm.ppf(0.975) ** 2 / (200 + stats.norm.ppf(0.975) ** 2)  # Wilson's limit of 0 of 200
    assert (found.value, found.standard_error) == (0.0, 0.0)
    assert found.limits() == pytest.approx((-upper, upper))


def test_estimate_mean_of_few_changes_counts_clusters_as_observations() -> None:
    counted = estimate_mean(changed(0, 200), [fact // 2 for fact in range(200)], support=Support.COUNT)
    assert counted.limits() == pytest.approx(wilson(0, 100))


def test_estimate_mean_of_counts_is_at_least_wilsons_below_ten_changes() -> None:
    few, many = (estimate_mean(changed(count, 100), range(100), support=Support.COUNT) for count in (SMALL_COUNT - 1, SMALL_COUNT))
    lower, upper = few.limits() or (math.nan, math.nan)
    least, most = wilson(SMALL_COUNT - 1, 100) or (math.nan, math.nan)
    margin = stats.t.ppf(0.975, 99) * few.standard_error
    assert (lower, upper) == pytest.approx((min(least, few.value - margin), max(most, few.value + margin)))
    assert many.small is None


def test_estimate_limits_stay_within_what_the_mean_can_be() -> None:
    lower, upper = estimate_mean(changed(2, 100), range(100), support=Support.COUNT).limits() or (math.nan, math.nan)
    assert 0 == lower < 0.02 < upper
    assert estimate_mean([-1.0] * 4 + [1.0], range(5)).limits()[0] == -1  # type: ignore[index]


def test_estimate_mean_signed_parts_join_as_newcombe_does() -> None:
    # 3 of 100 up, 1 down: the parts are 0.03 and 0.01
    found = estimate_mean([1.0] * 3 + [-1.0] + [0.0] * 96, range(100))
    (low_up, high_up), (low_down, high_down) = wilson(3, 100), wilson(1, 100)  # type: ignore[misc]
    lower = 0.02 - math.hypot(0.03 - low_up, high_down - 0.01)
    upper = 0.02 + math.hypot(high_up - 0.03, 0.01 - low_down)
    assert found.small is not None
    assert found.small.limits(0.95) == pytest.approx((lower, upper))


def test_wilson_is_the_textbooks() -> None:
    z, share, n = stats.norm.ppf(0.975), 0.1, 50
    middle, half = share + z**2 / (2 * n), z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    assert wilson(5, 50) == pytest.approx(((middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)))
    assert wilson(0, 0) is None


@FEW
@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.0, 0.0, 0.5, 1.0]), min_size=2, max_size=60), st.integers(0, 10**6))
def test_estimate_negated_mirrors_the_interval(values: list[float], seed: int) -> None:
    clusters = np.random.default_rng(seed).integers(0, 8, len(values))
    found = estimate_mean(values, clusters)
    limits, mirrored = found.limits(), found.negated().limits()
    assert (limits is None) == (mirrored is None)
    if limits and mirrored:
        assert mirrored == pytest.approx((-limits[1], -limits[0]))
        assert found.negated().value == -found.value


def test_estimate_negated_counts_cannot_rise_above_0() -> None:
    found = estimate_mean(changed(0, 50), range(50), support=Support.COUNT).negated()
    assert found.limits() == pytest.approx((-wilson(0, 50)[1], 0.0))  # type: ignore[index]


@pytest.mark.parametrize("count", [0, 3, 40])
@pytest.mark.parametrize("bound", [-0.05, 0.0, 0.02, 0.5])
def test_estimate_p_values_invert_the_interval(count: int, bound: float) -> None:
    found = estimate_mean(changed(count, 150, 0.5), range(150))
    p_above, p_below = found.p_above(bound), found.p_below(bound)
    assert p_above + p_below == pytest.approx(1)
    smaller = min(p_above, p_below)
    if 1e-9 < smaller < 0.5:
        limits = found.limits(1 - 2 * smaller)
        assert limits is not None
        assert limits[0 if p_above < p_below else 1] == pytest.approx(bound, abs=1e-6)


def test_estimate_p_above_with_many_changes_is_students() -> None:
    values = [0.5] * 20 + [-0.5] * 8 + [0.0] * 72
    found = estimate_mean(values, range(100))
    assert found.p_above() == pytest.approx(stats.ttest_1samp(values, 0, alternative="greater").pvalue)


def test_estimate_p_of_values_that_are_all_equal_is_near_0_or_1() -> None:
    found = estimate_mean([0.5] * 20, range(20))
    assert found.p_above(0.5) == 0.5
    assert found.p_above(0.4) < 1e-9
    assert found.p_above(0.6) > 1 - 1e-9


def test_estimate_resolvable_is_2_8_standard_errors() -> None:
    found = Estimate(value=0.01, n=10**6, clusters=10**6, runs=1, standard_error=0.01, degrees=1e6)
    assert found.resolvable() == pytest.approx((1.959964 + 0.841621) * 0.01, rel=1e-4)


@pytest.mark.parametrize("values", [[1.0] * 4, [-1.0] * 4, [0.25] * 3 + [0.0] * 40, [-1.0] * 5 + [0.5] * 2 + [0.0] * 30])
def test_estimate_resolvable_is_the_same_of_a_loss_and_of_a_gain_and_never_0(values: list[float]) -> None:
    found = estimate_mean(values, range(len(values)))
    assert found.resolvable() == pytest.approx(found.negated().resolvable(), rel=1e-12)
    assert (found.resolvable() or 0) > 0.05


def test_estimate_resolvable_harm_is_found_in_four_of_five_simulations() -> None:
    random = np.random.default_rng(5)
    found = []
    for _ in range(400):
        noise = random.normal(0, 0.2, 60)
        smallest = estimate_mean(noise, range(60), support=Support.UNBOUNDED).resolvable()
        assert smallest is not None
        limits = estimate_mean(noise + smallest, range(60), support=Support.UNBOUNDED).limits()
        assert limits is not None
        found.append(limits[0] > 0)
    assert statistics.mean(found) == pytest.approx(0.80, abs=0.06)  # 3 standard errors of the simulation


def test_estimate_mean_of_several_runs_adds_variance_of_runs_and_clusters() -> None:
    random = np.random.default_rng(0)
    by_run, by_cluster = random.normal(0, 0.1, 4), random.normal(0, 0.3, 50)
    values = (by_run[:, None] + by_cluster[None, :]).ravel()
    found = estimate_mean(values, np.tile(np.arange(50), 4), np.repeat(np.arange(4), 50), Support.UNBOUNDED, draws=20000)
    expected = math.sqrt(by_run.var(ddof=1) / 4 + by_cluster.var(ddof=1) / 50)
    assert found.standard_error == pytest.approx(expected, rel=0.02)
    assert 3 < (found.degrees or 0) < 49


def test_estimate_mean_of_equal_runs_is_that_of_one() -> None:
    values, clusters = np.random.default_rng(1).normal(0, 0.2, 60), np.arange(60) // 2
    one = estimate_mean(values, clusters, support=Support.UNBOUNDED)
    three = estimate_mean(np.tile(values, 3), np.tile(clusters, 3), np.repeat([0, 1, 2], 60), Support.UNBOUNDED, draws=20000)
    assert (three.runs, three.n, three.degrees) == (3, 180, one.degrees)
    assert three.value == pytest.approx(one.value)
    assert three.standard_error == pytest.approx(one.standard_error, rel=0.02)


def test_estimate_mean_no_change_in_any_run_has_the_limits_of_one() -> None:
    clusters = np.tile(np.arange(60), 3)
    three = estimate_mean([0.0] * 180, clusters, np.repeat([0, 1, 2], 60))
    assert (three.value, three.standard_error) == (0.0, 0.0)
    assert three.limits() == estimate_mean([0.0] * 60, np.arange(60)).limits()


def test_estimate_mean_bootstrap_is_the_same_every_time() -> None:
    values, runs = np.random.default_rng(2).normal(0, 0.2, 60), np.repeat([0, 1, 2], 20)
    first, second = (estimate_mean(values, np.tile(np.arange(20), 3), runs, Support.UNBOUNDED) for _ in range(2))
    assert first == second


def test_estimate_difference_of_paired_items_is_shorter_than_of_two_groups() -> None:
    random = np.random.default_rng(3)
    base = random.integers(0, 2, 300)
    adapter = np.where(random.random(300) < 0.1, 1 - base, base)
    found = estimate_difference(adapter, base)
    paired = stats.ttest_rel(adapter, base)
    assert found.value == pytest.approx(adapter.mean() - base.mean())
    assert found.limits() == pytest.approx(tuple(paired.confidence_interval()))
    assert found.standard_error < math.sqrt(adapter.var() / 300 + base.var() / 300) / 2  # type: ignore[operator]


@pytest.mark.parametrize(
    ("values", "clusters", "support", "message"),
    [
        ([], [], Support.SIGNED, "no values"),
        ([0.1, 0.2], [0], Support.SIGNED, "2 values, 1 clusters"),
        ([1.5], [0], Support.SIGNED, "outside -1 to 1"),
        ([-0.5], [0], Support.COUNT, "outside 0 to 1"),
        ([math.nan], [0], Support.UNBOUNDED, "outside"),
    ],
)
def test_estimate_mean_of_impossible_values_raises(values: list[float], clusters: list[int], support: Support, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        estimate_mean(values, clusters, support=support)


def test_estimate_difference_of_different_items_raises() -> None:
    with pytest.raises(ValueError, match="2 and 3 scores"):
        estimate_difference([0, 1], [0, 1, 1])


@pytest.mark.parametrize("size", [1.0, 7.0, 240.0, 5000.0])
@pytest.mark.parametrize("share", [0.0, 0.003, 0.5, 1.0])
@pytest.mark.parametrize("confidence", [0.0, 0.5, 0.95, 1 - 1e-12])
def test_wilson_limits_are_those_of_statsmodels(share: float, size: float, confidence: float) -> None:
    expected = proportion_confint(share * size, size, alpha=1 - confidence, method="wilson")
    assert wilson(share * size, size, confidence) == pytest.approx(tuple(map(float, expected)), rel=1e-12, abs=1e-12)
