"""A step is the same whatever it is cut into, also in bfloat16, in which weights and gradients have 8 bits.

Each gradient of a pass is rounded to bfloat16 by the backward pass; what kp adds to that, the sum over passes and workers, is in float32.
"""

from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from kp.training.job import TrialJob
from tests.training_workers import Workers, tiny_job, tiny_spec

REPLAY = {"highly_known": 1}
EXACT = 1e-6
"""Of the largest gradient: what sums in float32 may differ by."""
ROUNDED = 2**-6
"""The same, where gradients are those of other passes, each rounded to the 8 bits of bfloat16."""


def job(model: Path, dtype: str, **training: Any) -> TrialJob:
    """One step on a batch of 14 rows."""
    spec = tiny_spec(REPLAY, kl_coefficient=0.3, **({"epochs": 1, "batch_size": 16} | training))
    return tiny_job(model, spec, dtype)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_gradients_of_passes_and_workers_are_summed_in_float32(one: Workers, two: Workers, model: Path, stage: int) -> None:
    for workers in (one, two):
        parts = workers.call(_step, job(model, "bfloat16", zero_stage=stage), 1)
        for name, found in parts[0][0].items():
            expected = sum(of_passes[name] for _, of_passes in parts) / len(parts)
            np.testing.assert_allclose(found, expected, rtol=0, atol=EXACT * np.abs(expected).max(), err_msg=name)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", EXACT * 10), ("bfloat16", ROUNDED)])
def test_gradient_of_a_step_is_the_same_in_any_number_of_passes_and_workers(
    one: Workers, two: Workers, model: Path, dtype: str, tolerance: float
) -> None:
    whole = one.call(_step, job(model, dtype), None)[0][0]
    for workers, rows in ((one, 4), (one, 1), (two, None), (two, 3)):
        found = workers.call(_step, job(model, dtype), rows)[0][0]
        for name, gradient in whole.items():
            np.testing.assert_allclose(found[name], gradient, rtol=0, atol=tolerance * np.abs(gradient).max(), err_msg=name)


@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_buckets_have_room_for_the_adapter_and_no_more(one: Workers, model: Path, dtype: str, stage: int) -> None:
    parameters, largest = one.call(_buckets, job(model, dtype, zero_stage=stage))[0]
    assert parameters > 0
    assert largest <= parameters


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_resumed_in_bfloat16_is_uninterrupted(one: Workers, model: Path, tmp_path: Path, stage: int) -> None:
    one_job = job(model, "bfloat16", zero_stage=stage, epochs=2)
    whole = one.train(one_job, tmp_path / "whole", 4)
    first = one.train(one_job, tmp_path / "parts", 4, epochs=1)
    rest = one.train(one_job, tmp_path / "parts", 4)
    assert first.losses + rest.losses == whole.losses
    assert all(np.array_equal(rest.adapter[name], weights) for name, weights in whole.adapter.items())


Gradients = dict[str, np.ndarray]


def _made(one_job: TrialJob, micro_batch: int | None) -> Any:
    """The trial in training; its adapter is moved from where it starts, for a new one has no gradient in A, and no KL."""
    import torch
    import torch.distributed

    import kp.training.trial as module
    from kp.training.base_model_cache import BaseModelCache
    from kp.training.engine import Place, with_lora

    def moved(base: Any, spec: Any) -> Any:
        found, noise = with_lora(base, spec), torch.Generator().manual_seed(5)
        with torch.no_grad():
            for weights in found.parameters():
                if weights.requires_grad:
                    weights.add_(0.1 * torch.randn(weights.shape, generator=noise))
        return found

    place = Place(torch.distributed.get_rank(), torch.distributed.get_world_size())
    with mock.patch.object(module, "with_lora", moved):
        return module.TrialTraining(BaseModelCache(one_job.engine), one_job, place, micro_batch)


def _step(one_job: TrialJob, micro_batch: int | None) -> tuple[Gradients, Gradients]:
    """Gradients of the only step: those that the optimiser gets, and the sum of those of this worker's passes."""
    from deepspeed.utils import safe_get_full_grad

    training = _made(one_job, micro_batch)
    trained = {name: weights for name, weights in training.model.named_parameters() if weights.requires_grad}
    of_passes = {name: np.zeros(getattr(weights, "ds_shape", weights.shape)) for name, weights in trained.items()}
    found: Gradients = {}
    for name, weights in trained.items():
        weights.register_hook(partial(_add_to, of_passes[name]))
    step = training._engine.step

    def watched() -> None:
        if training._engine.is_gradient_accumulation_boundary():
            found.update({name: safe_get_full_grad(weights).float().numpy().copy() for name, weights in trained.items()})
        step()

    training._engine.step = watched
    training.run_epoch()
    training.close()
    return found, of_passes


def _add_to(total: np.ndarray, gradient: Any) -> None:
    total += gradient.float().numpy()


def _buckets(one_job: TrialJob) -> tuple[int, int]:
    """Parameters of the adapter, and of the largest buffer of its engine."""
    import torch

    training = _made(one_job, None)
    parameters = training.progress.trainable_parameters
    training.run_epoch()
    optimizer, buffers = training._engine.optimizer, [0]
    for bucket in getattr(optimizer, "ipg_buckets", {}).values():
        held = bucket.buffer if isinstance(bucket.buffer, list) else [bucket.buffer]
        buffers += [buffer.numel() for buffer in held if isinstance(buffer, torch.Tensor)]
    size = getattr(optimizer, "reduce_bucket_size", parameters)
    training.close()
    return parameters, max(size, *buffers)
