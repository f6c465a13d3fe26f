"""Layers that are computed again in the backward pass: the same trial, with less in memory."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kp.training.job import TrialJob
from tests.training_workers import Workers, tiny_job, tiny_spec


def job(model: Path, *, checkpointing: bool, **training: Any) -> TrialJob:
    made = tiny_job(model, tiny_spec({"highly_known": 1}, **({"kl_coefficient": 0.3, "epochs": 2} | training)))
    return replace(made, engine=replace(made.engine, gradient_checkpointing=checkpointing))


@pytest.mark.parametrize("training", [{"lora_dropout": 0.1}, {"layers": "upper:1"}, {"zero_stage": 3}, {"packing": "padded"}])
def test_trial_takes_the_steps_of_one_that_keeps_its_activations(
    one: Workers, model: Path, tmp_path: Path, training: dict[str, Any]
) -> None:
    kept, computed = (
        one.train(job(model, checkpointing=checkpointing, **training), tmp_path / str(checkpointing)) for checkpointing in (False, True)
    )
    np.testing.assert_allclose(computed.losses, kept.losses, rtol=1e-6)
    for name, weights in kept.adapter.items():
        np.testing.assert_allclose(computed.adapter[name], weights, rtol=0, atol=1e-4 * np.abs(weights).max(), err_msg=name)


def test_step_keeps_less_than_half_and_the_base_is_released_as_it_was(one: Workers, model: Path) -> None:
    (kept, passes, _), (computed, again, plain) = (
        one.call(_kept_bytes, job(model, checkpointing=checkpointing, lora_dropout=0.0))[0] for checkpointing in (False, True)
    )
    assert computed < kept / 2
    assert again > passes
    assert plain


def _kept_bytes(one_job: TrialJob) -> tuple[int, int, bool]:
    """Bytes that a step's forward pass keeps in its layers, passes through layers, and whether the base computes nothing again after it."""
    from unittest import mock

    import torch
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaMLP

    from kp.training.base_model_cache import BaseModelCache
    from kp.training.engine import Place
    from kp.training.trial import TrialTraining

    cache = BaseModelCache(one_job.engine)
    training = TrialTraining(cache, one_job, Place(0, 1))
    kept: dict[int, int] = {}
    passes = 0
    plain = LlamaMLP.forward

    def counted(self: Any, hidden: Any) -> Any:
        nonlocal passes
        passes += self.training
        return plain(self, hidden)

    def keep(tensor: Any) -> Any:
        kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with mock.patch.object(LlamaMLP, "forward", counted), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        training.run_epoch()
    training.close()
    layers = [layer for layer in cache.acquire().modules() if isinstance(layer, LlamaDecoderLayer)]
    return sum(kept.values()), passes, not any(layer.gradient_checkpointing for layer in layers)
