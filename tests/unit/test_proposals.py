"""Proposals are a function of the study and its results: replayed, prolonged or asked in another process they are the same."""

import json
import math
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from kp.config.study import StudyConfig
from kp.errors import UserError
from kp.search.proposals import Objective, Proposal, Replay, objective_of, proposed
from kp.training.spec import TrialSpec, grid
from kp.vocabulary import TrialStatus

LISTS = {"unknown": (10, 20), "rank": (1, 2, 4, 8, 16), "learning_rate": (1e-3, 2e-3, 5e-3), "seeds": (0, 1)}
RANGE = {"unknown": (10, 20), "rank": (1, 2, 4, 8, 16), "learning_rate_range": (1e-4, 1e-1)}


def study(seed: int = 0, **search: object) -> StudyConfig:
    return StudyConfig.model_validate({"name": "s", "seed": seed, "search": search, "training": {"lora_alpha": 16}})


def nothing_ended(spec: TrialSpec) -> float | None:
    return None


def peaked(spec: TrialSpec) -> float:
    """Best at rank 16 and a rate of 3e-3."""
    return math.exp(-4 * (math.log10(spec.learning_rate) + 2.5) ** 2) * spec.rank / 16


def run_to_the_end(config: StudyConfig, objective: Objective) -> list[Proposal]:
    """What each call gave while one trial after another ended."""
    ended: dict[TrialSpec, float] = {}
    seen = [proposed(config, ended.get)]
    while not seen[-1].complete or any(spec not in ended for spec in seen[-1].specs):
        spec = next(spec for spec in seen[-1].specs if spec not in ended)
        value = objective(spec)
        assert value is not None
        ended[spec] = value
        seen.append(proposed(config, ended.get))
    return seen


def test_proposed_grid_is_the_whole_grid_whatever_was_reached() -> None:
    config = study(**LISTS)
    assert proposed(config, nothing_ended) == Proposal(tuple(grid(config)), complete=True)


def test_random_lists_gives_distinct_members_of_the_grid() -> None:
    proposal = proposed(study(sampler="random", trials=30, **LISTS), nothing_ended)
    assert proposal.complete
    assert len(set(proposal.specs)) == len(proposal.specs) == 30
    assert set(proposal.specs) <= set(grid(study(**LISTS)))


@pytest.mark.parametrize("knobs", [LISTS, RANGE])
def test_random_more_trials_keep_the_earlier_ones(knobs: dict[str, object]) -> None:
    few, many = (proposed(study(sampler="random", trials=trials, **knobs), nothing_ended).specs for trials in (7, 40))
    assert many[:7] == few


def test_random_as_many_as_there_are_gives_every_combination() -> None:
    proposal = proposed(study(sampler="random", trials=60, **LISTS), nothing_ended)
    assert set(proposal.specs) == set(grid(study(**LISTS)))


@pytest.mark.parametrize("sampler", ["random", "optuna"])
def test_proposed_more_trials_than_combinations_names_the_field_and_their_number(sampler: str) -> None:
    with pytest.raises(UserError, match=r"search\.trials: 61 asked for, but the lists of search make 60 combinations"):
        proposed(study(sampler=sampler, trials=61, **LISTS), nothing_ended)


def test_random_another_study_seed_gives_other_trials() -> None:
    knobs = {"sampler": "random", "trials": 6, "rank": (1, 2, 4, 8, 16, 32), "learning_rate_range": (1e-5, 1e-1)}
    chosen = [{(spec.rank, spec.learning_rate) for spec in proposed(study(seed, **knobs), nothing_ended).specs} for seed in (0, 1)]
    assert not chosen[0] & chosen[1]


def test_random_choices_do_not_move_with_a_release() -> None:
    specs = proposed(study(sampler="random", trials=4, **RANGE), nothing_ended).specs
    assert [(spec.unknown, spec.rank, spec.learning_rate) for spec in specs] == [
        (10, 4, 0.000107),
        (20, 16, 0.0733),
        (10, 2, 0.000967),
        (10, 1, 0.0665),
    ]


@pytest.mark.parametrize("sampler", ["random", "optuna"])
def test_rates_of_a_range_lie_in_it_and_have_three_digits(sampler: str) -> None:
    config = study(sampler=sampler, trials=60, unknown=(10,), learning_rate_range=(1.2345e-4, 9.8765e-4))
    rates = [spec.learning_rate for spec in proposed(config, peaked).specs]
    assert all(1.2345e-4 <= rate <= 9.8765e-4 for rate in rates)
    assert all(float(f"{rate:.2e}") == rate for rate in rates)
    assert len(set(rates)) == 60


def test_random_rates_of_a_range_are_even_over_the_logarithm() -> None:
    config = study(sampler="random", trials=600, unknown=(10,), rank=(8,), learning_rate_range=(1e-5, 1e-2))
    rates = [spec.learning_rate for spec in proposed(config, nothing_ended).specs]
    decades = [sum(low <= rate < 10 * low for rate in rates) for low in (1e-5, 1e-4, 1e-3)]
    assert all(160 <= count <= 240 for count in decades)  # 200 each by chance, standard deviation 12


def test_range_a_narrow_one_is_used_up_to_its_last_rate() -> None:
    config = study(sampler="random", trials=11, unknown=(10,), learning_rate_range=(9.95e-4, 1.05e-3))
    rates = sorted(spec.learning_rate for spec in proposed(config, nothing_ended).specs)
    assert rates == [9.95e-4, 9.96e-4, 9.97e-4, 9.98e-4, 9.99e-4, 1e-3, 1.01e-3, 1.02e-3, 1.03e-3, 1.04e-3, 1.05e-3]
    with pytest.raises(UserError, match=r"search\.trials: 12 .*three digits in search\.learning_rate_range make 11 combinations"):
        proposed(study(sampler="random", trials=12, unknown=(10,), learning_rate_range=(9.95e-4, 1.05e-3)), nothing_ended)


def test_range_without_a_rate_of_three_digits_names_the_field() -> None:
    with pytest.raises(UserError, match=r"search\.learning_rate_range: no number of three"):
        proposed(study(sampler="random", trials=1, learning_rate_range=(1.0011e-3, 1.0019e-3)), nothing_ended)


def test_optuna_asks_a_batch_only_when_every_trial_before_it_has_ended() -> None:
    config = study(sampler="optuna", trials=10, optuna_batch=4, **LISTS)
    sizes = [(len(proposal.specs), proposal.complete) for proposal in run_to_the_end(config, peaked)]
    assert sizes == [(4, False)] * 4 + [(8, False)] * 4 + [(10, True)] * 3


@pytest.mark.parametrize("knobs", [LISTS, RANGE])
def test_optuna_replayed_from_results_gives_the_same_trials(knobs: dict[str, object]) -> None:
    config = study(sampler="optuna", trials=24, **knobs)
    seen = run_to_the_end(config, peaked)
    final = seen[-1].specs
    assert len(set(final)) == 24
    assert all(proposal.specs == final[: len(proposal.specs)] for proposal in seen)


def test_optuna_more_trials_keep_the_earlier_ones() -> None:
    few, many = (proposed(study(sampler="optuna", trials=trials, **RANGE), peaked).specs for trials in (10, 23))
    assert many[:10] == few


def test_optuna_in_another_process_proposes_the_same() -> None:
    knobs = {"sampler": "optuna", "trials": 20, **RANGE}
    code = (
        "import json, sys; from tests.unit.test_proposals import *; "
        "specs = proposed(study(**json.loads(sys.argv[1])), peaked).specs; "
        "print(json.dumps([[spec.rank, spec.learning_rate] for spec in specs]))"
    )
    command = [sys.executable, "-c", code, json.dumps(knobs)]
    root = Path(__file__).parents[2]
    there = [
        subprocess.run(command, check=True, capture_output=True, text=True, cwd=root, env={"PYTHONHASHSEED": seed}) for seed in ("1", "2")
    ]
    here = [[spec.rank, spec.learning_rate] for spec in proposed(study(**knobs), peaked).specs]
    assert [json.loads(ran.stdout) for ran in there] == [here, here]
    assert not any(ran.stderr for ran in there)  # and Optuna says nothing of it


def test_optuna_all_of_a_finite_space_runs_no_trial_twice() -> None:
    proposal = proposed(study(sampler="optuna", trials=60, **LISTS), peaked)
    assert proposal.complete
    assert set(proposal.specs) == set(grid(study(**LISTS)))


def test_optuna_seeks_what_earlier_trials_found_good() -> None:
    specs = proposed(
        study(sampler="optuna", trials=48, unknown=(10,), rank=(1, 2, 4, 8, 16), learning_rate_range=(1e-4, 1e-1)), peaked
    ).specs
    first, last = (sum(map(peaked, part)) / len(part) for part in (specs[:8], specs[24:]))
    assert last > 1.5 * first


def test_optuna_results_decide_what_comes_next() -> None:
    config = study(sampler="optuna", trials=24, **RANGE)
    one, other = proposed(config, peaked).specs, proposed(config, lambda spec: 1 - peaked(spec)).specs
    assert one[:8] == other[:8]  # chance, before anything is known
    assert one != other


def test_optuna_a_failed_trial_is_ended_and_tells_nothing() -> None:
    config = study(sampler="optuna", trials=24, **RANGE)
    assert len(proposed(config, lambda spec: math.nan).specs) == 24
    assert proposed(config, lambda spec: math.nan).specs[:8] == proposed(config, peaked).specs[:8]


@pytest.mark.parametrize("status", [TrialStatus.COMPLETED, TrialStatus.STOPPED])
def test_objective_of_an_ended_trial_is_its_last_accuracy(status: TrialStatus) -> None:
    assert objective_of(status, 0.25) == 0.25


def test_objective_of_a_diverged_trial_is_the_lowest_and_of_a_failed_one_none() -> None:
    assert objective_of(TrialStatus.DIVERGED, 0.9) == 0.0
    assert math.isnan(objective_of(TrialStatus.FAILED, 0.9))
    assert math.isnan(objective_of(TrialStatus.OUT_OF_MEMORY, None))
    assert math.isnan(objective_of(TrialStatus.COMPLETED, None))


def test_replay_that_is_kept_gives_the_same_list_and_asks_for_each_result_once() -> None:
    config, ended, asked = study(sampler="optuna", trials=14, optuna_batch=3, **RANGE), dict[TrialSpec, float](), Counter[TrialSpec]()
    kept = Replay()

    def results(spec: TrialSpec) -> float | None:
        asked[spec] += spec in ended
        return ended.get(spec)

    while not (found := proposed(config, results, kept)).complete:
        assert found == proposed(config, ended.get)
        for spec in found.specs[len(ended) :]:
            ended[spec] = peaked(spec)
    assert found == proposed(config, ended.get)
    assert sum(asked.values()) == len(ended) == 12  # all but the last batch, each once
