"""The grid is every combination of the study's lists, each a value of its own."""

import pytest

from kp.config.study import StudyConfig
from kp.training.spec import TrialSpec, grid


def study(**search: object) -> StudyConfig:
    return StudyConfig.model_validate({"name": "s", "search": search, "training": {"lora_alpha": 16}})


def test_grid_has_every_combination_once_and_in_order() -> None:
    specs = grid(study(unknown=(1, 10), arms=({}, {"highly_known": 2}), rank=(1, 4), learning_rate=(1e-3,), seeds=(0, 1, 2)))
    assert len(specs) == len(set(specs)) == 2 * 2 * 2 * 1 * 3
    assert [spec.unknown for spec in specs] == [1] * 12 + [10] * 12


def test_grid_rows_are_unknown_facts_with_their_companions() -> None:
    spec = grid(study(unknown=(10,), arms=({"highly_known": 1, "paraphrases": 3},)))[0]
    assert spec.rows == 10 * (1 + 1 + 3)


def test_grid_every_known_fact_and_paraphrase_of_an_arm_is_a_row_and_in_the_label() -> None:
    spec = grid(study(unknown=(10,), arms=({"highly_known": 1, "maybe_known": 2, "paraphrases": 3},)))[0]
    assert spec.rows == 10 * (1 + 1 + 2 + 3)
    assert spec.label() == "10 UK + 1 HK + 2 MK + 3 P, rank 8, lr 0.005, seed 0"


def trained(unknown: int, **training: object) -> TrialSpec:
    document = {"name": "s", "search": {"unknown": (unknown,)}, "training": {"lora_alpha": 1, "batch_size": 8, **training}}
    return grid(StudyConfig.model_validate(document))[0]


def test_spec_of_epochs_counts_every_row_in_each_and_a_step_for_a_last_batch_of_few() -> None:
    spec = trained(20, epochs=3)
    assert (spec.steps_per_epoch, spec.max_steps, spec.rows_in_all) == (3, 9, 60)


@pytest.mark.parametrize(
    ("steps", "epochs", "rows"),
    [(9, 3, 60), (7, 3, 40 + 8), (6, 2, 40), (2, 1, 16), (3, 1, 20)],
    ids=["whole epochs", "one more step", "exactly two epochs", "less than one", "with the small batch"],
)
def test_spec_of_steps_ends_in_the_epoch_that_they_lead_into(steps: int, epochs: int, rows: int) -> None:
    spec = trained(20, steps=steps)
    assert (spec.training.steps, spec.max_steps, spec.max_epochs, spec.rows_in_all) == (steps, steps, epochs, rows)


def test_grid_of_steps_trains_arms_of_any_size_as_long() -> None:
    document = {"name": "s", "search": {"unknown": (10, 500)}, "training": {"lora_alpha": 1, "steps": 100}}
    small, large = grid(StudyConfig.model_validate(document))
    assert small.max_steps == large.max_steps == 100
    assert small.max_epochs > large.max_epochs


def test_grid_kl_is_asked_of_arms_with_replayed_rows_alone() -> None:
    document = {
        "name": "s",
        "search": {"unknown": (10,), "arms": ({}, {"maybe_known": 1})},
        "training": {"lora_alpha": 1, "kl_coefficient": 0.5},
    }
    assert [spec.kl_coefficient for spec in grid(StudyConfig.model_validate(document))] == [0.0, 0.5]


def test_grid_alpha_per_rank_follows_the_rank() -> None:
    config = StudyConfig.model_validate({"name": "s", "search": {"rank": (2, 8)}, "training": {"lora_alpha_per_rank": 2}})
    assert {spec.rank: spec.lora_alpha for spec in grid(config)} == {2: 4.0, 8: 16.0}


@pytest.mark.parametrize(
    ("training", "scales"),
    [
        ({"lora_alpha": 16}, [16.0, 4.0, 1.0]),
        ({"lora_alpha": 16, "use_rslora": True}, [16.0, 8.0, 4.0]),
        ({"lora_alpha_per_rank": 2}, [2.0, 2.0, 2.0]),
    ],
)
def test_grid_scale_of_the_adapter_follows_alpha_and_rank(training: dict[str, object], scales: list[float]) -> None:
    specs = grid(StudyConfig.model_validate({"name": "s", "search": {"unknown": (10,), "rank": (1, 4, 16)}, "training": training}))
    assert [spec.lora_scale for spec in specs] == scales
    assert [spec.columns()["lora_scale"] for spec in specs] == scales
    assert all("lora_scale" not in spec.literals() for spec in specs)


def test_grid_the_studys_seed_is_added_to_every_trials() -> None:
    config = StudyConfig.model_validate({"name": "s", "seed": 100, "search": {"seeds": (0, 7)}, "training": {"lora_alpha": 1}})
    assert {spec.seed for spec in grid(config)} == {100, 107}


def test_literals_two_specs_that_differ_in_one_knob_differ() -> None:
    one, other = grid(study(learning_rate=(1e-3, 2e-3)))[0], grid(study(learning_rate=(1e-3, 2e-3)))[1]
    assert one.literals() != other.literals()
    assert "lr 0.001" in one.label()
