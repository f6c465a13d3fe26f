"""Curves of capacity: what made-up data were made of is found again, and data without a bend give no number."""

import itertools

import numpy as np
import polars as pl
import pytest

from kp.metrics.capacity_fits import CapacityFit, NoFit, Parameter, RecallFit, bits_at, fit_capacity, fit_recall, recall_at

HALF, STEEPNESS = 1.2, 3.0
AT_ONE, POWER, EACH = 1500.0, 0.8, 9.0
PARAMETERS = 2112
SIZES, RANKS = (25, 50, 100, 200, 400, 800, 1600), (1, 2, 4)


def bits_of(each: float, size: int) -> dict[str, float]:
    """The columns of memorised bits, with an interval of half a bit a fact to either side."""
    return {"per_fact": each, "lower": (each - 0.5) * size, "upper": (each + 0.5) * size}


def trials(noise: float = 0.0, seed: int = 0, sizes: tuple[int, ...] = SIZES) -> pl.DataFrame:
    """CAPACITY with rank, of every size and rank, by both curves and with noise."""
    random, rows = np.random.default_rng(seed), []
    for rank in RANKS:
        for size in sizes:
            load = EACH * size / (PARAMETERS * rank)
            each = bits_at(np.array([size]), np.array([AT_ONE * rank**POWER]), EACH)[0] / size
            recall = recall_at(np.array([load]), HALF, STEEPNESS)[0]
            wobble = random.normal(0, noise, 2)
            rows.append(
                {"rank": rank, "facts": size, "load": load, "recall": float(np.clip(recall + wobble[0], 0, 1))}
                | bits_of(each + EACH * wobble[1], size)
            )
    return pl.DataFrame(rows)


def holds(parameter: Parameter, true: float) -> bool:
    return parameter.lower <= true <= parameter.upper


def test_curves_without_noise_are_found_exactly() -> None:
    recall, capacity = fit_recall(trials()), fit_capacity(trials())
    assert isinstance(recall, RecallFit)
    assert isinstance(capacity, CapacityFit)
    assert (recall.half.value, recall.steepness.value) == (pytest.approx(HALF, rel=1e-3), pytest.approx(STEEPNESS, rel=1e-3))
    found = (capacity.at_rank_one.value, capacity.power.value, capacity.bits_per_fact.value)
    assert found == (pytest.approx(AT_ONE, rel=1e-3), pytest.approx(POWER, rel=1e-3), pytest.approx(EACH, rel=1e-3))


def test_curves_through_noisy_trials_have_intervals_that_cover_what_made_them() -> None:
    covered = np.zeros(3, dtype=int)
    for seed in range(6):
        recall, capacity = fit_recall(trials(0.04, seed)), fit_capacity(trials(0.04, seed))
        assert isinstance(recall, RecallFit)
        assert isinstance(capacity, CapacityFit)
        covered += (holds(recall.half, HALF), holds(capacity.at_rank_one, AT_ONE), holds(capacity.power, POWER))
    assert (covered >= 4).all()  # of 6, at 95% or, as a bootstrap of 21 trials has it, a little less


@pytest.mark.parametrize("seed", range(2))
def test_noise_around_nothing_memorised_is_not_identified(seed: int) -> None:
    random = np.random.default_rng(seed)
    each = random.normal(0, 0.5, len(SIZES) * len(RANKS))
    made = trials().with_columns(recall=pl.Series(np.abs(random.normal(0, 0.01, len(each)))), per_fact=pl.Series(each))
    nothing = made.with_columns(lower=pl.Series(each - 1) * pl.col("facts"), upper=pl.Series(each + 1) * pl.col("facts"))
    assert isinstance(fit_recall(nothing), NoFit)
    assert isinstance(fit_capacity(nothing), NoFit)


def test_trials_that_never_fill_an_adapter_have_no_capacity() -> None:
    roomy = trials(0.02, sizes=(4, 6, 8, 10))
    recall, capacity = fit_recall(roomy), fit_capacity(roomy)
    assert isinstance(recall, NoFit)
    assert "does not pass one half" in recall.reason
    assert isinstance(capacity, NoFit)
    assert "0 of 3 ranks" in capacity.reason


def test_higher_ranks_that_only_learn_faster_have_no_capacity() -> None:
    """Bits of a fact that do not depend on N, as where training ended long before an adapter was full."""
    rows = [
        {"rank": rank, "facts": size, "load": 0.01 * size / rank, "recall": 0.0, **bits_of(0.2 * rank, size)}
        for rank, size in itertools.product(RANKS, SIZES)
    ]
    found = fit_capacity(pl.DataFrame(rows))
    assert isinstance(found, NoFit)
    assert "0 of 3 ranks hold fewer bits of a fact as N grows" in found.reason


def test_three_loads_are_too_few_for_a_curve() -> None:
    few = trials().filter(rank=1).head(3)
    assert fit_recall(few) == fit_capacity(few) == NoFit("3 different loads, and a curve needs 4")
