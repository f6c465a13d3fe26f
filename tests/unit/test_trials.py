"""The grid is every combination of the study's lists, each a value of its own."""

from kp.config import StudyConfig
from kp.trials import grid


def study(**search: object) -> StudyConfig:
    return StudyConfig.model_validate({"name": "s", "search": search, "training": {"lora_alpha": 16}})


def test_grid_has_every_combination_once_and_in_order() -> None:
    specs = grid(study(unknown=(1, 10), arms=({}, {"highly_known": 2}), rank=(1, 4), learning_rate=(1e-3,), seeds=(0, 1, 2)))
    assert len(specs) == len(set(specs)) == 2 * 2 * 2 * 1 * 3
    assert [spec.mixture.unknown for spec in specs] == [1] * 12 + [10] * 12


def test_grid_rows_are_unknown_facts_with_their_companions() -> None:
    spec = grid(study(unknown=(10,), arms=({"highly_known": 1, "paraphrases": 3},)))[0]
    assert spec.rows == 10 * (1 + 1 + 3)


def test_grid_alpha_per_rank_follows_the_rank() -> None:
    config = StudyConfig.model_validate({"name": "s", "search": {"rank": (2, 8)}, "training": {"lora_alpha_per_rank": 2}})
    assert {spec.rank: spec.lora_alpha for spec in grid(config)} == {2: 4.0, 8: 16.0}


def test_grid_the_studys_seed_is_added_to_every_trials() -> None:
    config = StudyConfig.model_validate({"name": "s", "seed": 100, "search": {"seeds": (0, 7)}, "training": {"lora_alpha": 1}})
    assert {spec.mixture.seed for spec in grid(config)} == {100, 107}


def test_literals_two_specs_that_differ_in_one_knob_differ() -> None:
    one, other = grid(study(learning_rate=(1e-3, 2e-3)))[0], grid(study(learning_rate=(1e-3, 2e-3)))[1]
    assert one.literals() != other.literals()
    assert "lr 0.001" in one.label()
