"""What a study costs, by hand."""

from pathlib import Path
from typing import Any

import pytest

from kp.config.study import StudyConfig
from kp.models.shapes import ModelShape
from kp.store.steps import Store
from kp.study.building import build_graph
from kp.study.identities import Identities
from kp.study.plan import study_prompts
from kp.study.pricing import RowTokens, disk_price, hours, planned_trials
from kp.study.stage import Planning
from kp.training.spec import grid

SHAPE = ModelShape(hidden=8, intermediate=24, layers=2, heads=4, kv_heads=2, head_dim=2, origin="config.json")
MLP = 2 * 3 * (8 + 24)  # parameters of an adapter of rank 1 on the three matrices of both layers


def study(search: dict[str, Any] | None = None, training: dict[str, Any] | None = None, **sections: Any) -> StudyConfig:
    document = {"name": "s", "search": search or {}, "training": {"lora_alpha": 1, **(training or {})}, **sections}
    return StudyConfig.model_validate(document)


def test_planned_trials_of_a_grid_are_all_known_and_add_up() -> None:
    config = study({"unknown": (10, 40)}, {"epochs": 3, "batch_size": 8})
    trials = planned_trials(config, grid(config))
    assert (trials.count, trials.to_come) == (2, 0)
    assert trials.total(lambda spec: spec.rows_in_all) == 3 * (10 + 40)
    assert trials.total(lambda spec: spec.max_steps) == 3 * (2 + 5)
    assert trials.most(lambda spec: spec.rows) == 40


def test_planned_trials_yet_to_be_proposed_count_as_the_dearest_there_may_be() -> None:
    config = study({"unknown": (10, 40), "arms": ({}, {"paraphrases": 2}), "sampler": "optuna", "trials": 5}, {"epochs": 1})
    cheapest = grid(config)[0]
    trials = planned_trials(config, [cheapest])
    assert (trials.count, trials.to_come) == (5, 4)
    assert trials.total(lambda spec: spec.rows) == 10 + 4 * 40 * 3
    assert trials.most(lambda spec: spec.rows) == 40 * 3


def test_planned_trials_that_are_all_known_are_no_dearer_than_they_are() -> None:
    config = study({"unknown": (10, 40), "sampler": "random", "trials": 1}, {"epochs": 1})
    trials = planned_trials(config, [grid(config)[0]])
    assert trials.total(lambda spec: spec.rows) == trials.most(lambda spec: spec.rows) == 10


def test_row_tokens_weigh_questions_and_paraphrases_as_the_arm_mixes_them() -> None:
    (spec,) = grid(study({"unknown": (10,), "arms": ({"highly_known": 1, "paraphrases": 2},)}, {"epochs": 3}))
    assert RowTokens(40, 50, "").of(spec) == 3 * 10 * (40 + 40 + 50 + 50)


def test_row_tokens_of_a_trial_of_so_many_steps_are_those_of_its_rows() -> None:
    (spec,) = grid(study({"unknown": (10,)}, {"steps": 3, "batch_size": 4}))
    assert RowTokens(40, 99, "").of(spec) == 40 * 10
    (longer,) = grid(study({"unknown": (10,)}, {"steps": 4, "batch_size": 4}))
    assert RowTokens(40, 99, "").of(longer) == 40 * 14


def test_study_prompts_are_those_of_the_base_the_adapters_and_the_epochs(tmp_path: Path) -> None:
    search = {"unknown": (10, 40), "arms": ({"maybe_known": 1},), "eval_prompts": 2, "eval_facts": 25}
    config = study(search | {"replay_source": "known.csv"}, {"epochs": 4}, categorise={"samples": 5}, evaluate={"held_out_paraphrases": 3})
    graph, trials = build_graph(config, Identities("model", "facts", "shots", replay="replay")), planned_trials(config, grid(config))
    prompts = study_prompts(Planning(config, graph, Store(tmp_path), facts=100, replayed=20, trials=trials))
    assert prompts is not None
    assert prompts.base == 100 * 10 * 3 + 100 * 10 * 5 + 20 * 10
    assert prompts.adapters == 2 * 100 * 10 * 2 + (10 + 40) * 3 * 10 + 2 * (10 + 40) * 10  # answers, paraphrases, reversed questions
    assert prompts.evals == 4 * 2 * (10 + 25)
    assert prompts.count == prompts.base + prompts.adapters + prompts.evals


@pytest.mark.parametrize(
    ("init", "dtype", "adapter", "checkpoint"),
    [("default", "bfloat16", 2, 16), ("default", "float32", 4, 20), ("pissa", "bfloat16", 4, 18), ("olora", "float32", 8, 24)],
)
def test_disk_price_of_a_parameter_follows_dtype_and_init(init: str, dtype: str, adapter: int, checkpoint: int) -> None:
    config = study({"unknown": (10,), "rank": (4, 1)}, {"init": init}, model={"dtype": dtype})
    price = disk_price(config, planned_trials(config, grid(config)), SHAPE)
    assert price is not None
    assert price.adapters == (4 + 1) * MLP * adapter
    assert price.largest_adapter == 4 * MLP * adapter
    assert price.largest_checkpoint == 4 * MLP * checkpoint


def test_disk_price_without_a_shape_or_for_another_matrix_is_not_known() -> None:
    config = study({"unknown": (10,)})
    assert disk_price(config, planned_trials(config, grid(config)), None) is None
    other = study({"unknown": (10,)}, {"target_modules": ("down_proj", "lm_head")})
    assert disk_price(other, planned_trials(other, grid(other)), SHAPE) is None


def test_hours_are_amount_by_rate() -> None:
    assert hours(7200 * 50, 50.0) == 2.0
