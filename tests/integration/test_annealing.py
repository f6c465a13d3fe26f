"""A trial that has reached its target lets its learning rate fall to 0 and completes, whatever it measures then.

That several workers anneal alike is tested in test_training.py, which has them.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kp.training.job import TrialJob
from tests.training_workers import LEARNER_RATE, LEARNER_STEPS, LEARNER_TARGET, Outcome, Workers, tiny_learner

ANNEAL = 3


@pytest.fixture(scope="module")
def annealed(one: Workers, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return one.train(job(model), tmp_path_factory.mktemp("annealed"))


def job(model: Path, anneal_epochs: int = ANNEAL, **training: Any) -> TrialJob:
    return tiny_learner(model, anneal_epochs, **training)


def rates(epochs: list[dict[str, Any]]) -> list[tuple[float, float]]:
    """Of the first and the last step of each epoch."""
    return [(epoch["learning_rate"], epoch["final_learning_rate"]) for epoch in epochs]


def reached(epochs: list[dict[str, Any]]) -> int:
    """The first epoch at the target."""
    return next(epoch["epoch"] for epoch in epochs if epoch["unknown_accuracy"] >= LEARNER_TARGET)


def falling(epochs: int = ANNEAL) -> list[tuple[float, float]]:
    """The rates of as many epochs of annealing from the peak."""
    left = [LEARNER_RATE * step / (epochs * LEARNER_STEPS) for step in range(epochs * LEARNER_STEPS, 0, -1)]
    return list(zip(left[::LEARNER_STEPS], left[LEARNER_STEPS - 1 :: LEARNER_STEPS], strict=True))


def test_trial_at_its_target_anneals_over_its_last_epochs_and_completes(annealed: Outcome) -> None:
    there = reached(annealed.epochs)
    assert len(annealed.epochs) == there + ANNEAL
    np.testing.assert_allclose(rates(annealed.epochs), [(LEARNER_RATE, LEARNER_RATE)] * there + falling())
    assert annealed.status == "completed"
    assert annealed.cause == "unknown_accuracy was at 0.2 or above for 1 epoch, then the learning rate fell to 0 in 3 more"


def test_trial_that_anneals_is_up_to_its_target_the_one_that_ends_there(
    one: Workers, model: Path, annealed: Outcome, tmp_path: Path
) -> None:
    found = one.train(job(model, anneal_epochs=0), tmp_path)
    assert found.losses == annealed.losses[: len(found.losses)]
    assert len(found.epochs) == reached(annealed.epochs)
    assert (found.status, found.cause) == ("completed", "unknown_accuracy was at 0.2 or above for 1 epoch")


@pytest.mark.parametrize("after", [0, 1, 2])
def test_trial_resumed_in_annealing_is_uninterrupted(one: Workers, model: Path, annealed: Outcome, tmp_path: Path, after: int) -> None:
    first = one.train(job(model), tmp_path, None, reached(annealed.epochs) + after)
    rest = one.train(job(model), tmp_path)
    assert first.status is None
    assert first.losses + rest.losses == annealed.losses
    assert all(np.array_equal(rest.adapter[name], weights) for name, weights in annealed.adapter.items())
    assert rates(rest.epochs) == rates(annealed.epochs)
    assert (rest.status, rest.cause) == (annealed.status, annealed.cause)


def test_annealing_is_cut_to_the_steps_that_are_left(one: Workers, model: Path, annealed: Outcome, tmp_path: Path) -> None:
    there = reached(annealed.epochs)
    found = one.train(job(model, epochs=there + 1), tmp_path)
    np.testing.assert_allclose(rates(found.epochs), [(LEARNER_RATE, LEARNER_RATE)] * there + falling(1))
    assert (found.status, found.cause) == ("completed", f"ran its {there + 1} epochs, {LEARNER_STEPS * (there + 1)} steps")
