"""Stepwise trials: rates, then mixes, then ranks, each with the gentlest values that still learn; a function of study and results."""

import math

import pytest

from kp.config.faults import InvalidStudyError
from kp.config.study import StudyConfig, study_of
from kp.errors import UserError
from kp.search.proposals import Objective, Proposal, proposed
from kp.search.stepwise import first_that_learned, stepwise_size
from kp.training.spec import TrialSpec

REPLAY, KL = {"highly_known": 1}, {"highly_known": 1, "kl_coefficient": 1.0}
LISTS = {"unknown": [10], "arms": [{}, REPLAY, KL], "rank": [8, 16], "learning_rate": [3e-4, 1e-3, 3e-3], "stop_at_accuracy": 0.9}


def study(trials: int, **search: object) -> StudyConfig:
    document = {"name": "s", "search": {"sampler": "stepwise", "trials": trials, **LISTS, **search}, "training": {"lora_alpha": 16}}
    return study_of(document)


def ended(objective: Objective, config: StudyConfig) -> list[Proposal]:
    """What is proposed while all trials of a proposal end, one proposal after the other."""
    known: dict[TrialSpec, float | None] = {}
    seen = [proposed(config, known.get)]
    while not seen[-1].complete:
        known |= {spec: objective(spec) for spec in seen[-1].specs}
        seen.append(proposed(config, known.get))
    return seen


def learns_from(rate: float) -> Objective:
    """Trials at this rate or above learn everything, without KL."""
    return lambda spec: 1.0 if spec.learning_rate >= rate and not spec.kl_coefficient and not spec.training.kl_coefficient else 0.3


def told(spec: TrialSpec) -> tuple[float, int, float, int]:
    return spec.learning_rate, spec.arm.highly_known, spec.training.kl_coefficient, spec.rank


def test_stepwise_goes_from_rates_to_mixes_to_ranks_at_the_gentlest_that_learned() -> None:
    config = study(trials=6)
    first, second, last = ended(learns_from(1e-3), config)
    assert [told(spec) for spec in first.specs] == [(3e-4, 0, 0.0, 8), (1e-3, 0, 0.0, 8), (3e-3, 0, 0.0, 8)]
    assert [told(spec) for spec in second.specs[3:]] == [(1e-3, 1, 0.0, 8), (1e-3, 1, 1.0, 8)]
    assert [told(spec) for spec in last.specs[5:]] == [(1e-3, 1, 0.0, 16)]
    assert last.complete
    assert second.specs[:3] == first.specs


def test_stepwise_without_a_rate_that_learned_takes_the_one_that_learned_most() -> None:
    last = ended(lambda spec: spec.learning_rate, study(trials=6))[-1]
    assert {spec.learning_rate for spec in last.specs[3:]} == {3e-3}


def test_stepwise_trial_that_failed_counts_as_having_learned_nothing() -> None:
    last = ended(lambda spec: math.nan if spec.learning_rate < 3e-3 else 0.1, study(trials=4))[-1]
    assert last.specs[3].learning_rate == 3e-3


@pytest.mark.parametrize("trials", [1, 3, 4, 5])
def test_stepwise_with_fewer_trials_has_the_first_of_those_with_more(trials: int) -> None:
    whole = ended(learns_from(1e-3), study(trials=6))[-1].specs
    assert ended(learns_from(1e-3), study(trials=trials))[-1].specs == whole[:trials]


def test_stepwise_judges_a_cell_by_the_mean_of_its_seeds() -> None:
    def lucky_once(spec: TrialSpec) -> float:
        return 1.0 if spec.learning_rate > 3e-4 or spec.seed == 0 else 0.0

    last = ended(lucky_once, study(trials=8, seeds=[0, 1]))[-1]
    assert {spec.learning_rate for spec in last.specs[6:]} == {1e-3}
    assert [spec.seed for spec in last.specs[6:]] == [0, 1]


def test_stepwise_more_trials_than_steps_names_their_number() -> None:
    assert stepwise_size(3, 3, 2) == 6
    with pytest.raises(UserError, match=r"search\.trials: 7 asked for, .* make 6"):
        proposed(study(trials=7), lambda spec: None)


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ({"stop_at_accuracy": None}, "what counts as learned"),
        ({"unknown": [1, 2]}, "one value"),
        ({"learning_rate_range": [1e-4, 1e-3]}, "the gentlest first"),
    ],
)
def test_stepwise_search_that_makes_no_sense_is_refused(search: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidStudyError, match=words):
        study(trials=2, **search)


def test_first_that_learned_of_equals_is_the_first() -> None:
    assert first_that_learned("abc", [0.2, 0.2, 0.1], 0.9) == "a"
    assert first_that_learned("abc", [0.2, 0.9, 1.0], 0.9) == "b"
