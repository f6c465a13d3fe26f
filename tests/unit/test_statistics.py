import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kp.metrics.statistics import (
    binomial_standard_error,
    clustered_share_error,
    clustered_standard_error,
)

FEW = settings(max_examples=25, deadline=None)


def test_binomial_standard_error_half_of_a_hundred_is_a_twentieth() -> None:
    assert binomial_standard_error(50, 100) == pytest.approx(0.05)


def test_binomial_standard_error_without_trials_is_none() -> None:
    assert binomial_standard_error(0, 0) is None


@FEW
@given(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=2, max_size=8))
def test_clustered_standard_error_equal_clusters_is_that_of_their_means(values: list[list[bool]]) -> None:
    clusters = [str(index) for index, cluster in enumerate(values) for _ in cluster]
    means = np.mean(values, axis=1)
    expected = means.std(ddof=1) / np.sqrt(len(values))
    assert clustered_standard_error(np.ravel(values), clusters) == pytest.approx(expected, abs=1e-9)


def test_clustered_standard_error_ten_copies_of_each_answer_adds_no_certainty() -> None:
    values, clusters = [0.0, 1.0, 1.0, 0.0], ["a", "b", "c", "d"]
    assert clustered_standard_error(np.repeat(values, 10), np.repeat(clusters, 10).tolist()) == pytest.approx(
        clustered_standard_error(values, clusters)
    )


@pytest.mark.parametrize("clusters", [[], ["a", "a"]])
def test_clustered_standard_error_below_two_clusters_is_none(clusters: list[str]) -> None:
    assert clustered_standard_error([1.0] * len(clusters), clusters) is None


@FEW
@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=5), min_size=2, max_size=8))
def test_clustered_share_error_from_sums_is_that_from_every_value(values: list[list[bool]]) -> None:
    clusters = [str(index) for index, cluster in enumerate(values) for _ in cluster]
    flat = [value for cluster in values for value in cluster]
    expected = clustered_standard_error(flat, clusters)
    assert clustered_share_error([sum(cluster) for cluster in values], [len(cluster) for cluster in values]) == pytest.approx(
        expected, abs=1e-9
    )


def test_clustered_share_error_empty_clusters_do_not_count() -> None:
    assert clustered_share_error([1, 0, 2], [2, 0, 2]) == clustered_share_error([1, 2], [2, 2])
    assert clustered_share_error([1, 0], [2, 0]) is None
