"""Data mixes that set knobs of their own: their trials are those of a study in which that knob stands in its usual place."""

import dataclasses
from pathlib import Path

import pytest

from kp.config.faults import InvalidStudyError
from kp.config.search import SearchArm, TrainingConfig, TrialSettings
from kp.config.study import load_study
from kp.report.labels import free_knobs
from kp.report.summary import summary_table
from kp.training.spec import TRIALS, TrialSpec, arm_label, grid
from kp.vocabulary import ReplayTarget
from tests.made_up_study import frame_of, study

SMOKE = Path(__file__).parents[2] / "ray_jobs" / "studies" / "smoke.toml"
ONE = ("search.unknown=[3]", "search.seeds=[0]", "search.rank=[2]", "search.learning_rate=[1e-3]")


def specs(*overrides: str) -> list[TrialSpec]:
    return grid(load_study(SMOKE, [*ONE, *overrides]))


@pytest.mark.parametrize(
    ("arm", "words"),
    [
        ({}, "Unknown only"),
        ({"highly_known": 1}, "+1 HighlyKnown"),
        ({"maybe_known": 1}, "+1 MaybeKnown"),
        ({"highly_known": 1, "paraphrases": 2}, "+1 HighlyKnown +2 paraphrases"),
        ({"highly_known": 10, "maybe_known": 3, "paraphrases": 1}, "+10 HighlyKnown +3 MaybeKnown +1 paraphrase"),
        ({"weight_decay": 0.1}, "Unknown only, weight decay 0.1"),
        (
            {"highly_known": 1, "replay_target": ReplayTarget.GOLD, "kl_coefficient": 0.5},
            "+1 HighlyKnown, replay target gold, KL coefficient 0.5",
        ),
    ],
)
def test_arm_label_names_every_companion_and_every_knob_of_the_arm(arm: dict[str, object], words: str) -> None:
    assert arm_label(SearchArm(**arm)) == words  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("knob", "usual"),
    [
        ("replay_target = 'gold'", "search.replay_target=gold"),
        ("kl_coefficient = 0.5", "training.kl_coefficient=0.5"),
        ("weight_decay = 0.1", "training.weight_decay=0.1"),
        ("lora_dropout = 0.3", "training.lora_dropout=0.3"),
    ],
)
def test_trial_of_an_arm_with_a_knob_is_that_of_a_study_with_it(knob: str, usual: str) -> None:
    plain, (own, other) = "search.arms=[{highly_known = 1}]", specs(f"search.arms=[{{highly_known = 1, {knob}}}, {{highly_known = 1}}]")
    (expected,), (unchanged,) = specs(plain, usual), specs(plain)
    assert own.literals() == expected.literals() != other.literals() == unchanged.literals()
    assert {**own.columns(), "arm": ""} == {**expected.columns(), "arm": ""}


def test_knobs_of_arms_are_knobs_of_trials() -> None:
    known = {**TrialSettings.model_fields, **TrainingConfig.model_fields}
    assert all(name in known for name in SearchArm.knobs())


def test_arms_that_differ_in_a_knob_are_told_apart_in_a_report() -> None:
    tables = study()
    rows = tables.trials.to_dicts()
    decayed = {**rows[0], "trial_id": "decayed", "arm": "Unknown only, weight decay 0.1", "weight_decay": 0.1}
    trials = frame_of([rows[0], decayed], TRIALS)
    summary = summary_table(dataclasses.replace(tables, trials=trials))
    assert summary["arm"].to_list() == ["Unknown only", "Unknown only, weight decay 0.1"]
    assert summary["label"].n_unique() == 2
    assert free_knobs(trials) == []


@pytest.mark.parametrize(
    ("arms", "field", "word"),
    [
        ("[{kl_coefficient = 0.5}]", "search.arms.0.kl_coefficient", "replays no facts"),
        ("[{replay_target = 'gold'}]", "search.arms.0.replay_target", "replays no facts"),
        ("[{weight_decay = -1}]", "search.arms.0.weight_decay", "0"),
        ("[{highly_known = 1}, {highly_known = 1, replay_target = 'self'}]", "search.arms", "two of them come to the same trials"),
    ],
)
def test_arm_that_makes_no_sense_is_refused_by_its_field(arms: str, field: str, word: str) -> None:
    with pytest.raises(InvalidStudyError) as refused:
        specs(f"search.arms={arms}")
    assert field in str(refused.value)
    assert word in str(refused.value)
