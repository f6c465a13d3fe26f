"""A trial that has reached its target lets its learning rate fall to 0 and completes, however it is run and whatever it measures then.

The model is that of test_training.py. It is asked without shots, because what so small a model learns does not carry over to other prompts.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kp.config.search import TrialSettings
from kp.training.job import TrialJob
from tests.tiny_model import save_tiny_model
from tests.training_workers import Outcome, Workers, tiny_job, tiny_spec, train_part, training_workers

PEAK, TARGET, ANNEAL = 3e-2, 0.2, 3
STEPS = 4  # of an epoch: 7 rows, 2 in a batch


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def one() -> Iterator[Workers]:
    with training_workers(1) as workers:
        yield workers


@pytest.fixture(scope="module")
def annealed(one: Workers, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return one.train(job(model), tmp_path_factory.mktemp("annealed"))


def job(model: Path, anneal_epochs: int = ANNEAL, **training: Any) -> TrialJob:
    """A trial at a constant rate that learns one of its facts long before its last epoch."""
    spec = tiny_spec(learning_rate=PEAK, **({"schedule": "constant", "epochs": 30, "batch_size": 2} | training))
    settings = TrialSettings(stop_at_accuracy=TARGET, stop_patience=1, anneal_epochs=anneal_epochs)
    asked = tiny_job(model, replace(spec, settings=settings))
    return replace(asked, eval_shots=((),), engine=replace(asked.engine, max_new_tokens=20))


def rates(epochs: list[dict[str, Any]]) -> list[tuple[float, float]]:
    """Of the first and the last step of each epoch."""
    return [(epoch["learning_rate"], epoch["final_learning_rate"]) for epoch in epochs]


def reached(epochs: list[dict[str, Any]]) -> int:
    """The first epoch at the target."""
    return next(epoch["epoch"] for epoch in epochs if epoch["unknown_accuracy"] >= TARGET)


def falling(epochs: int = ANNEAL) -> list[tuple[float, float]]:
    """The rates of as many epochs of annealing from the peak."""
    left = [PEAK * step / (epochs * STEPS) for step in range(epochs * STEPS, 0, -1)]
    return list(zip(left[::STEPS], left[STEPS - 1 :: STEPS], strict=True))


def test_trial_at_its_target_anneals_over_its_last_epochs_and_completes(annealed: Outcome) -> None:
    there = reached(annealed.epochs)
    assert len(annealed.epochs) == there + ANNEAL
    np.testing.assert_allclose(rates(annealed.epochs), [(PEAK, PEAK)] * there + falling())
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
    np.testing.assert_allclose(rates(found.epochs), [(PEAK, PEAK)] * there + falling(1))
    assert (found.status, found.cause) == ("completed", f"ran its {there + 1} epochs, {STEPS * (there + 1)} steps")


def test_two_workers_anneal_in_step(model: Path, tmp_path: Path) -> None:
    with training_workers(2) as two:
        found, other = two.call(train_part, job(model), tmp_path, None, None)
    there = reached(found.epochs)
    np.testing.assert_allclose(rates(found.epochs), [(PEAK, PEAK)] * there + falling())
    assert [epoch["unknown_accuracy"] for epoch in found.epochs] == [epoch["unknown_accuracy"] for epoch in other.epochs]
    assert rates(found.epochs) == rates(other.epochs)
    assert (found.status, found.losses) == (other.status, other.losses)
