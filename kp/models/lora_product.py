"""LoRA's part of a linear layer, x A^T B^T s added to what the frozen weights give, in as few and as small products as there can be.

PEFT computes it in four steps over whole activations, and torch multiplies by a matrix of few columns at a quarter of the speed of one of
few rows. Here the few numbers of the rank are kept as rows, the scale multiplies these alone, and the last product adds to the result in
place. That is the same sum in the same number format, rounded once instead of three times.
"""

from typing import Any

import torch
from peft.tuners.lora.layer import Linear, LoraVariant
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def use_lean_products(model: nn.Module, adapter: str = "default") -> None:
    """Let the LoRA layers of a PEFT model that are on plain linear layers compute an adapter's part in this way."""
    for module in model.modules():
        if not isinstance(module, Linear) or adapter not in module.lora_A:
            continue
        if type(module.get_base_layer()) is nn.Linear and not module.lora_bias.get(adapter):
            module.lora_variant.setdefault(adapter, _LeanProducts())


class _LeanProducts(LoraVariant):
    """What PEFT calls for the sum of a layer's own result and its adapter's."""

    @staticmethod
    def forward(module: Any, active_adapter: str, x: Tensor, result: Tensor, **named: Any) -> Tensor:
        down, up = module.lora_A[active_adapter].weight, module.lora_B[active_adapter].weight
        found: Tensor = _AddProduct.apply(result, module.lora_dropout[active_adapter](x), down, up, module.scaling[active_adapter])
        return found


class _AddProduct(torch.autograd.Function):
    """result + scale x A^T B^T, in place: result (..., out), x (..., in), A (rank, in), B (out, rank)."""

    @staticmethod
    def forward(ctx: Any, result: Tensor, x: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        inner = (down @ rows.t()).mul_(scale)  # (rank, rows), times the scale
        result.view(-1, result.shape[-1]).addmm_(inner.t(), up.t())
        ctx.mark_dirty(result)
        ctx.save_for_backward(rows, inner, down, up)
        ctx.scale, ctx.shape = scale, x.shape
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, inner, down, up = ctx.saved_tensors
        of_result = gradient.reshape(-1, gradient.shape[-1])
        of_up = (inner @ of_result).t()
        of_inner = (up.t() @ of_result.t()).mul_(ctx.scale)
        of_x = (of_inner.t() @ down).view(ctx.shape) if ctx.needs_input_grad[1] else None
        return gradient, of_x, of_inner @ rows, of_up, None
