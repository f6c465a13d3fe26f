"""The learning rate of a step, as a share of its peak, and when a trial has reached its target."""

import pytest

from kp.config.study import StudyConfig
from kp.training.schedule import epochs_to_target, lr_multiplier
from kp.training.spec import TrialSpec, grid
from kp.vocabulary import RateSchedule


def spec_of(anneal_epochs: int = 0, **training: object) -> TrialSpec:
    """A trial of 10 epochs with 2 steps each."""
    search = {"unknown": (10,), "stop_at_accuracy": 0.9, "anneal_epochs": anneal_epochs}
    settings = {"lora_alpha": 1, "batch_size": 5, **training}
    return grid(StudyConfig.model_validate({"name": "s", "search": search, "training": settings}))[0]


def rates(spec: TrialSpec, reached: int | None = None) -> list[float]:
    """Of the steps of the trial after the epoch in which it reached its target, or of all."""
    return [lr_multiplier(spec, step, reached) for step in range((reached or 0) * spec.steps_per_epoch, spec.max_steps)]


@pytest.mark.parametrize(
    ("accuracies", "patience", "epoch"),
    [
        ([], 1, None),
        ([0.8, 0.9], 1, 2),
        ([0.9, 0.8, 0.9, 0.95, 0.2], 2, 4),
        ([0.9, 0.8, 0.9], 2, None),
        ([0.9, 0.9, 0.1, 0.9, 0.9], 2, 2),
    ],
)
def test_target_is_reached_once_and_for_all_after_epochs_in_a_row(accuracies: list[float], patience: int, epoch: int | None) -> None:
    assert epochs_to_target(accuracies, 0.9, patience) == epoch


def test_target_that_is_not_there_is_never_reached() -> None:
    assert epochs_to_target([1.0] * 5, None, 1) is None


def test_rate_of_a_linear_schedule_starts_at_its_peak_and_is_0_after_the_last_step() -> None:
    spec = spec_of()
    assert rates(spec) == pytest.approx([1 - step / 20 for step in range(20)])
    assert lr_multiplier(spec, 20) == 0


def test_rate_rises_in_the_warm_up() -> None:
    assert rates(spec_of(warmup_ratio=0.2, schedule="constant"))[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1])


@pytest.mark.parametrize("schedule", list(RateSchedule))
def test_rate_in_annealing_falls_linearly_from_that_of_the_schedule_to_0_after_the_last_step(schedule: RateSchedule) -> None:
    spec = spec_of(anneal_epochs=2, schedule=schedule)
    start = lr_multiplier(spec, 6)
    assert rates(spec, reached=3)[:4] == pytest.approx([start, 0.75 * start, 0.5 * start, 0.25 * start])
    assert set(rates(spec, reached=3)[4:]) == {0}


def test_rate_in_annealing_cut_short_falls_to_0_at_the_end_of_the_trial() -> None:
    cut = spec_of(anneal_epochs=5, schedule="constant")
    assert rates(cut, reached=8) == pytest.approx([1, 0.75, 0.5, 0.25])
    assert rates(spec_of(anneal_epochs=5), reached=8) == pytest.approx(rates(spec_of())[16:])
    assert rates(spec_of(anneal_epochs=5, steps=19, schedule="constant"), reached=8) == pytest.approx([1, 2 / 3, 1 / 3])


@pytest.mark.parametrize("anneal_epochs", [1, 3, 7])
@pytest.mark.parametrize("reached", [1, 2, 5, 9])
@pytest.mark.parametrize("schedule", list(RateSchedule))
def test_rate_in_annealing_is_never_above_the_schedules(schedule: RateSchedule, reached: int, anneal_epochs: int) -> None:
    spec = spec_of(anneal_epochs, schedule=schedule, warmup_ratio=0.3)
    annealed = rates(spec, reached)
    assert all(0 <= one <= other for one, other in zip(annealed, rates(spec)[2 * reached :], strict=True))
