"""ASHA judges by all trials of the study, those of earlier runs of Tune too; asked through the methods that Tune calls."""

import dataclasses
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from kp.search.asha import AshaSchedule, asha

CONTINUE, STOP = TrialScheduler.CONTINUE, TrialScheduler.STOP
SCHEDULE = AshaSchedule(grace_epochs=2, reduction_factor=2, max_epochs=9)  # rungs at 2, 4 and 8
LEARNER = AshaSchedule(grace_epochs=2, reduction_factor=2, max_epochs=9, stop_at_accuracy=0.95, stop_patience=2)


@dataclass
class TuneTrial:
    """The part of Tune's trial that schedulers read."""

    trial_id: str
    config: dict[str, Any] = field(default_factory=dict)


def level(accuracy: float, epochs: int) -> dict[int, float]:
    return dict.fromkeys(range(1, epochs + 1), accuracy)


def run(scheduler: Any, name: str, accuracies: Mapping[int, float], last: str = "completes") -> list[str]:
    """Tell a scheduler of a trial as Tune does; gives its decisions up to the first STOP."""
    trial = TuneTrial(name, {"trial_id": name})
    scheduler.on_trial_add(None, trial)
    decisions: list[str] = []
    result: dict[str, Any] = {}
    for epoch, accuracy in accuracies.items():
        result = {"epoch": epoch, "unknown_accuracy": accuracy, "trial_id": name}
        decisions.append(scheduler.on_trial_result(None, trial, result))
        if decisions[-1] == STOP:
            break
    if last == "completes" or decisions[-1] == STOP:
        scheduler.on_trial_complete(None, trial, result)
    return decisions


def as_far_as(accuracies: Mapping[int, float], decisions: list[str]) -> dict[int, float]:
    """What a trial measured until it was stopped."""
    return dict(list(accuracies.items())[: len(decisions)])


def test_asha_without_history_lets_the_first_trial_run_its_course() -> None:
    assert run(asha(SCHEDULE, []), "new", level(0.0, 9)) == [CONTINUE] * 9


def test_asha_a_trial_weaker_than_ended_ones_is_stopped_at_the_first_rung() -> None:
    history = [level(0.5, 9), level(0.7, 9)]
    assert run(asha(SCHEDULE, history), "weak", level(0.4, 9)) == [CONTINUE, STOP]
    assert run(asha(SCHEDULE, history), "strong", level(0.8, 9)) == [CONTINUE] * 9


@pytest.mark.parametrize("rung", [2, 4, 8])
def test_asha_ended_trials_stand_on_each_rung_with_what_they_had_there(rung: int) -> None:
    rising = {epoch: epoch / 10 for epoch in range(1, 10)}
    better = level(1.0, rung - 1)
    assert run(asha(SCHEDULE, [rising]), "as good", {**better, rung: rung / 10})[-1] == CONTINUE
    assert run(asha(SCHEDULE, [rising]), "worse", {**better, rung: rung / 10 - 0.01})[-1] == STOP


def test_asha_a_trial_that_was_stopped_is_on_no_rung_beyond() -> None:
    history = [level(0.9, 2)]
    assert run(asha(SCHEDULE, history), "slow", {1: 0.9, 2: 0.9, 3: 0.1, 4: 0.1}) == [CONTINUE] * 4


def test_asha_a_trial_that_learned_everything_early_keeps_its_place_on_later_rungs() -> None:
    history = [level(0.96, 3)]
    falling = {1: 0.9, 2: 1.0, 3: 0.9, 4: 0.9}
    assert run(asha(LEARNER, history), "falling", falling) == [CONTINUE] * 3 + [STOP]
    assert run(asha(SCHEDULE, history), "falling", falling) == [CONTINUE] * 4


def test_asha_a_trial_that_has_reached_its_target_anneals_to_its_end_whatever_it_measures() -> None:
    history = [level(0.99, 9), level(1.0, 9)]
    annealing = {1: 0.99, 2: 1.0, 3: 0.96, 4: 0.6, 5: 0.96, 6: 0.7, 7: 0.7, 8: 0.7}
    assert run(asha(LEARNER, history), "annealing", annealing) == [CONTINUE] * 8
    assert run(asha(SCHEDULE, history), "annealing", annealing) == [CONTINUE] * 3 + [STOP]
    never_twice = {1: 0.99, 2: 1.0, 3: 0.9, 4: 0.96}
    assert run(asha(dataclasses.replace(LEARNER, stop_patience=3), history), "not there yet", never_twice)[-1] == STOP


def test_asha_a_trial_that_resumes_while_it_anneals_is_not_stopped_either() -> None:
    annealing = {1: 0.99, 2: 0.99, 3: 0.9, 4: 0.6}
    assert run(asha(LEARNER, [level(1.0, 9)], {"resumed": 3}), "resumed", annealing) == [CONTINUE] * 4


def test_asha_a_trial_that_reached_its_target_and_fell_in_annealing_is_on_later_rungs_with_its_last_accuracy() -> None:
    history = [{1: 0.96, 2: 0.96, 3: 0.8}]
    for accuracy, decision in ((0.7, STOP), (0.8, CONTINUE)):
        assert run(asha(LEARNER, history), "next", {1: 0.9, 2: 0.96, 3: 0.9, 4: accuracy})[-1] == decision


def test_asha_history_says_what_the_same_trials_said_when_they_ran() -> None:
    trials = [level(0.96, 3), level(0.5, 9), {1: 0.1, 2: 0.2}, {1: 0.5, 2: 0.6, 3: 0.6, 4: 0.6}, level(0.97, 5), level(0.7, 9)]
    live: Any = asha(LEARNER, [])
    ran = [as_far_as(trial, run(live, f"t{number}", trial)) for number, trial in enumerate(trials)]
    remembering: Any = asha(LEARNER, ran)
    assert live.debug_string().splitlines()[1:] == remembering.debug_string().splitlines()[1:]
    for accuracy in (0.1, 0.3, 0.55, 0.6, 0.7, 0.9, 0.96, 0.98):
        assert run(pickle.loads(pickle.dumps(live)), "next", level(accuracy, 9)) == run(asha(LEARNER, ran), "next", level(accuracy, 9))


def test_asha_agrees_with_tunes_own_where_there_is_no_history() -> None:
    own = ASHAScheduler("epoch", "unknown_accuracy", "max", max_t=10, grace_period=2, reduction_factor=2)
    ours = asha(SCHEDULE, [])
    for number, accuracy in enumerate((0.5, 0.2, 0.8, 0.5, 0.6, 0.9, 0.1)):
        trial = {epoch: accuracy * epoch for epoch in range(1, 10)}
        assert run(ours, f"t{number}", trial) == run(own, f"t{number}", trial)


def test_asha_a_resumed_trial_is_not_judged_anew_where_it_was_let_on() -> None:
    history = [level(0.9, 9), level(0.8, 9)]
    assert run(asha(SCHEDULE, history), "resumed", level(0.1, 5)) == [CONTINUE, STOP]
    resumed = asha(SCHEDULE, history, {"resumed": 4})
    assert run(resumed, "resumed", level(0.1, 5)) == [CONTINUE, CONTINUE, CONTINUE, STOP]  # epoch 4 was its last: not decided yet
    assert run(resumed, "another", level(0.1, 5)) == [CONTINUE, STOP]


def test_asha_a_resumed_trial_counts_on_the_rungs_it_passed() -> None:
    scheduler = asha(SCHEDULE, [], {"resumed": 3})
    run(scheduler, "resumed", level(0.6, 3), last="goes on")
    assert run(scheduler, "another", level(0.5, 3)) == [CONTINUE, STOP]


def test_asha_grace_beyond_the_last_epoch_stops_nobody() -> None:
    scheduler = asha(AshaSchedule(grace_epochs=30, reduction_factor=4, max_epochs=3), [level(0.9, 3)])
    assert run(scheduler, "weak", level(0.1, 2)) == [CONTINUE] * 2
