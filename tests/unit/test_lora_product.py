"""LoRA's products in kp's way: the same sums and gradients as PEFT's own, within rounding."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from kp.models.lora_product import use_lean_products

# Of the largest number: float32 rounds at 6e-8 and adds up in another order; bfloat16 rounds at 4e-3, PEFT several times on the way.
_TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 2**-5}


class _Layers(nn.Module):
    """Two layers that read the same, and one that reads what both give, as in a feed-forward part."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(24, 40), nn.Linear(24, 40, bias=False), nn.Linear(40, 24, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.down(torch.nn.functional.silu(self.gate(x)) * self.up(x))
        return result


def _adapted(dtype: torch.dtype, lean: bool, **config: Any) -> Any:
    torch.manual_seed(0)
    base = _Layers().to(dtype)
    model = get_peft_model(
        base, LoraConfig(r=3, lora_alpha=5, target_modules=["gate", "up", "down"], **config), autocast_adapter_dtype=False
    )
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            if "lora_B" in name:
                weight.normal_(std=0.3)
    if lean:
        use_lean_products(model)
    return model.train()


def _run(model: Any, dtype: torch.dtype) -> dict[str, Tensor]:
    """The result of two rows of five, and the gradients of the rows and of every trained weight."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 5, 24, generator=generator).to(dtype).requires_grad_()
    torch.manual_seed(2)  # of dropout
    result = model(x)
    (result.float() * torch.randn(2, 5, 24, generator=generator)).sum().backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.requires_grad}
    return {"result": result.detach(), "x": x.grad, **gradients}


def _largest_difference(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    assert ours.keys() == theirs.keys()
    return max(float((ours[name] - theirs[name]).abs().max() / theirs[name].abs().max()) for name in theirs)


@pytest.mark.parametrize("dtype", _TOLERANCE, ids=str)
@pytest.mark.parametrize("config", [{}, {"use_rslora": True}, {"lora_dropout": 0.3}], ids=["plain", "rslora", "dropout"])
def test_result_and_gradients_are_those_of_peft(dtype: torch.dtype, config: dict[str, Any]) -> None:
    ours, theirs = (_run(_adapted(dtype, lean, **config), dtype) for lean in (True, False))

    assert _largest_difference(ours, theirs) < _TOLERANCE[dtype]
    assert all(float(gradient.abs().max()) > 0 for gradient in ours.values())


def test_result_without_gradients_and_without_the_adapter_is_that_of_peft() -> None:
    x = torch.randn(3, 24)
    ours, theirs = (_adapted(torch.float32, lean).eval() for lean in (True, False))

    with torch.no_grad():
        assert torch.allclose(ours(x), theirs(x), rtol=0, atol=1e-6)
        with ours.disable_adapter(), theirs.disable_adapter():
            assert torch.equal(ours(x), theirs(x))


def test_first_layers_input_needs_no_gradient() -> None:
    model = _adapted(torch.float32, lean=True)

    model(torch.randn(4, 24)).sum().backward()

    assert all(weight.grad is not None for weight in model.parameters() if weight.requires_grad)


@contextmanager
def _called(layer: Any) -> Iterator[list[int]]:
    calls: list[int] = []
    handle = layer.lora_A["default"].register_forward_hook(lambda *_: calls.append(1))
    yield calls
    handle.remove()


@pytest.mark.parametrize(("config", "left"), [({"lora_bias": True}, True), ({}, False)])
def test_layers_with_a_bias_in_the_adapter_are_left_to_peft(config: dict[str, Any], left: bool) -> None:
    torch.manual_seed(0)
    model = get_peft_model(nn.Sequential(nn.Linear(24, 40)), LoraConfig(r=3, target_modules=["0"], **config))  # type: ignore[arg-type]
    use_lean_products(model)

    with _called(model.base_model.model[0]) as calls:
        model(torch.randn(4, 24))

    assert bool(calls) is left


def test_each_of_several_adapters_computes_what_peft_computes() -> None:
    models = []
    for lean in (False, True):
        model = _adapted(torch.float32, lean=False)
        model.add_adapter("other", LoraConfig(r=2, lora_alpha=3, target_modules=["gate", "down"]))
        torch.manual_seed(3)
        for name, weight in sorted(model.named_parameters()):
            if "lora_B.other" in name:
                nn.init.normal_(weight, std=0.3)
        for adapter in ("default", "other") if lean else ():
            use_lean_products(model, adapter)
        models.append(model.eval())
    x = torch.randn(4, 24)
    for adapter in ("default", "other", "default"):
        found = []
        for model in models:
            model.set_adapter(adapter)
            with torch.no_grad():
                found.append(model(x))
        torch.testing.assert_close(*found, rtol=2e-6, atol=2e-6)
    for model in models:
        model.disable_adapter_layers()
    with torch.no_grad():
        torch.testing.assert_close(models[1](x), models[0](x))
