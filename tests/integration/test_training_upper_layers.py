"""A trial of upper layers takes the same steps whether what the layers below compute is kept or computed in each step, however it is run.

The model is tiny and random, float32; losses and adapters may differ as in test_training.py.
"""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kp.training.activations import INDEX_BYTES
from kp.training.job import TrialJob
from kp.vocabulary import EvalMode
from tests.integration.test_training import assert_identical, assert_same
from tests.training_workers import Outcome, Workers, tiny_job, tiny_spec, training_workers

FEW_TOKENS = 50


@pytest.fixture(scope="module")
def reference(one: Workers, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """All layers computed in each step, by one worker at stage 2."""
    return one.train(job(model, room=0), tmp_path_factory.mktemp("reference"))


def job(model: Path, room: float = 1, mode: EvalMode = EvalMode.TEACHER_FORCED, dtype: str = "float32", **training: Any) -> TrialJob:
    """A trial of the last layer with replayed rows held to the base, and `room` GiB for what the layer below computes."""
    spec = tiny_spec({"highly_known": 1}, **{"kl_coefficient": 0.3, "layers": "upper:1", **training})
    made = tiny_job(model, replace(spec, settings=spec.settings.model_copy(update={"eval_mode": mode})), dtype)
    return replace(made, engine=replace(made.engine, activation_cache_gib=room))


def few(model: Path, **training: Any) -> TrialJob:
    """The same with room for a few tokens."""
    return job(model, FEW_TOKENS * (32 * 4 + INDEX_BYTES) / 2**30, **training)


def assert_as_reference(found: Outcome, reference: Outcome) -> None:
    assert_same(found, reference)
    measured = [[epoch["unknown_bits"] for epoch in outcome.epochs] for outcome in (found, reference)]
    np.testing.assert_allclose(*measured, rtol=1e-3)


def _kept(one_job: TrialJob) -> tuple[int | None, int, list[str]]:
    """Tokens that are kept once a trial has been set up, passes of the lower layer in its first epoch, and what was logged."""
    import torch.distributed

    from kp.training.base_model_cache import BaseModelCache
    from kp.training.engine import Place
    from kp.training.trial import TrialTraining

    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("kp.training").addHandler(handler)
    place = Place(torch.distributed.get_rank(), torch.distributed.get_world_size())
    training = TrialTraining(BaseModelCache(one_job.engine), one_job, place)
    lower, passes = training._model.get_base_model().model.layers[0], []
    lower.mlp.register_forward_hook(lambda *_: passes.append(1))
    kept = training._frozen and training._frozen.store.tokens
    training.run_epoch()
    training.close()
    logging.getLogger("kp.training").removeHandler(handler)
    return kept, len(passes), said


def test_lower_layers_compute_nothing_in_steps_and_teacher_forcing(one: Workers, two: Workers, model: Path) -> None:
    for workers, stage in ((one, 2), (one, 3), (two, 2), (two, 3)):
        for kept, passes, said in workers.call(_kept, job(model, zero_stage=stage)):
            assert (kept or 0) > FEW_TOKENS
            assert (passes, said) == (0, [])


def test_lower_layers_are_computed_where_nothing_or_little_is_kept(one: Workers, model: Path) -> None:
    steps_and_evaluations = 2 * 2 + 1  # forward passes of a step: with the adapter and, for the KL, without
    assert one.call(_kept, job(model, room=0)) == [(None, steps_and_evaluations, [])]
    ((kept, passes, _),) = one.call(_kept, few(model))
    assert (kept, passes) == (FEW_TOKENS, 2 + 1)
    ((kept, passes, said),) = one.call(_kept, few(model, zero_stage=3))
    assert (kept, passes) == (None, steps_and_evaluations)
    assert said == ["resources.activation_cache_gib has no room for all rows of the trial, which ZeRO stage 3 needs: nothing is kept"]


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_every_zero_stage_takes_the_same_steps(one: Workers, model: Path, reference: Outcome, tmp_path: Path, stage: int) -> None:
    assert_as_reference(one.train(job(model, zero_stage=stage), tmp_path), reference)


@pytest.mark.parametrize("stage", [0, 2, 3])
def test_two_workers_take_the_steps_of_one(two: Workers, model: Path, reference: Outcome, tmp_path: Path, stage: int) -> None:
    assert_as_reference(two.train(job(model, zero_stage=stage), tmp_path), reference)


def test_padded_rows_take_the_same_steps(one: Workers, model: Path, reference: Outcome, tmp_path: Path) -> None:
    assert_as_reference(one.train(job(model, packing="padded"), tmp_path), reference)


def test_two_workers_with_accumulation_take_the_steps_of_one(two: Workers, model: Path, reference: Outcome, tmp_path: Path) -> None:
    assert_as_reference(two.train(job(model), tmp_path, 3), reference)


@pytest.mark.parametrize("stage", [2, 3])
def test_room_for_few_tokens_changes_no_step(
    one: Workers, two: Workers, model: Path, reference: Outcome, tmp_path: Path, stage: int
) -> None:
    for workers in (one, two):
        assert_as_reference(workers.train(few(model, zero_stage=stage), tmp_path / str(len(workers.processes))), reference)


def test_generated_answers_and_losses_are_the_same(one: Workers, model: Path, tmp_path: Path) -> None:
    found, expected = (one.train(job(model, room, EvalMode.GENERATE), tmp_path / str(room)) for room in (1, 0))
    assert_same(found, expected)
    assert [epoch["unknown_accuracy"] for epoch in found.epochs] == [epoch["unknown_accuracy"] for epoch in expected.epochs]


def test_an_init_that_moves_the_base_takes_the_same_steps(one: Workers, model: Path, tmp_path: Path) -> None:
    found, expected = (one.train(job(model, room, init="pissa", kl_coefficient=0.0), tmp_path / str(room)) for room in (1, 0))
    np.testing.assert_allclose(found.losses, expected.losses, rtol=1e-4)


@pytest.mark.parametrize("stage", [2, 3])
def test_resumed_after_an_epoch_by_new_workers_is_uninterrupted(model: Path, tmp_path: Path, stage: int) -> None:
    with training_workers(1) as workers:
        whole = workers.train(job(model, zero_stage=stage, lora_dropout=0.1), tmp_path / "whole")
        first = workers.train(job(model, zero_stage=stage, lora_dropout=0.1), tmp_path / "parts", None, 1)
    with training_workers(1) as workers:
        rest = workers.train(job(model, zero_stage=stage, lora_dropout=0.1), tmp_path / "parts")
    assert first.losses + rest.losses == whole.losses
    assert_identical(replace(rest, losses=whole.losses), whole)


def test_trial_of_the_same_rows_after_others_is_the_trial_alone(model: Path, tmp_path: Path) -> None:
    """What is kept serves trials of another rank, and of other modules or layers in between."""
    with training_workers(1) as workers:
        alone = workers.train(job(model), tmp_path / "alone")
        all_layers = tiny_spec({"highly_known": 1}, kl_coefficient=0.3)
        between = job(model)
        workers.train(replace(between, spec=replace(between.spec, rank=2, learning_rate=1e-1)), tmp_path / "rank")
        workers.train(replace(between, spec=all_layers), tmp_path / "all")
        assert_identical(workers.train(job(model), tmp_path / "again"), alone)


def test_bfloat16_takes_the_same_steps_within_its_rounding(one: Workers, model: Path, tmp_path: Path) -> None:
    found, expected = (one.train(job(model, room, dtype="bfloat16", zero_stage=2), tmp_path / str(room)) for room in (1, 0))
    np.testing.assert_allclose(found.losses, expected.losses, rtol=1e-2)
    assert found.losses[-1] < found.losses[0]
