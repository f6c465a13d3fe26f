import itertools
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from kp.metrics.paired_tests import EXACT_BELOW, bowker_p, holm, mcnemar_p


def test_mcnemar_p_of_few_changes_is_binomial() -> None:
    # 1 of 8 changes one way: 2 * (1 + 8) / 2^8
    assert mcnemar_p(1, 7) == pytest.approx(2 * 9 / 256)
    assert mcnemar_p(7, 1) == mcnemar_p(1, 7)
    assert mcnemar_p(0, 0) == 1.0


def test_mcnemar_p_of_many_changes_is_chi_squared() -> None:
    assert mcnemar_p(30, 12) == pytest.approx(stats.chi2.sf((30 - 12 - 1) ** 2 / 42, 1))


def test_bowker_p_of_many_changes_is_chi_squared_over_the_pairs_that_moved() -> None:
    table = [[50, 20, 0], [8, 40, 15], [0, 5, 60]]
    assert bowker_p(table) == pytest.approx(stats.chi2.sf(144 / 28 + 100 / 20, 2))


def test_bowker_p_of_few_changes_counts_every_way_they_could_have_gone() -> None:
    table = [[5, 4, 1], [0, 5, 3], [2, 1, 5]]
    pairs = [(4, 0), (1, 2), (3, 1)]
    statistic = sum((one - other) ** 2 / (one + other) for one, other in pairs)
    at_least = 0
    for ways in itertools.product(range(5), range(4), range(5)):
        if sum((2 * one - n) ** 2 / n for one, n in zip(ways, (4, 3, 4), strict=True)) >= statistic - 1e-9:
            at_least += comb(4, ways[0]) * comb(3, ways[1]) * comb(4, ways[2])
    assert bowker_p(table) == pytest.approx(at_least / 2**11)


def test_bowker_p_of_two_categories_is_mcnemars() -> None:
    assert bowker_p([[9, 1], [7, 9]]) == pytest.approx(mcnemar_p(1, 7))


def test_bowker_p_without_changes_is_1() -> None:
    assert bowker_p(np.diag([4, 5, 6])) == 1.0


def test_bowker_p_of_symmetric_moves_rejects_rarely() -> None:
    random = np.random.default_rng(0)
    rejected = [bowker_p(np.reshape(random.multinomial(EXACT_BELOW - 5, [1 / 9] * 9), (3, 3))) < 0.05 for _ in range(200)]
    assert np.mean(rejected) <= 0.08


def test_bowker_p_of_a_table_that_is_not_square_raises() -> None:
    with pytest.raises(ValueError, match=r"shape \(1, 2\): expected a square one"):
        bowker_p([[1, 2]])


@settings(max_examples=5, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_that_of_statsmodels(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1].tolist())


def test_holm_steps_down_from_the_smallest() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
