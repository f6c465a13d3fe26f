"""Attention as matrix products, for short rows on a CPU.

transformers' own (`eager`) copies keys and values to every head that shares them, keeps scores in three versions and adds up the heads'
gradients one by one. Here the heads that share keys are rows of one product, which adds their gradients up by itself; scale and mask are
part of the product. That is the same attention, rounded less often. A model whose own products are not exactly those of most models, with
caps or sinks, keeps its own.
"""

import inspect
import sys
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask
from transformers.models.llama import modeling_llama

_NAME = "kp_products"
_OWN = "eager"
_ATTENTION = "eager_attention_forward"  # the function that a module of transformers computes `eager` with


def use_products(model: Any) -> None:
    """Let a model of transformers compute its attention by matrix products: those of this module if its own are the usual ones."""
    own = getattr(sys.modules[type(model).__module__], _ATTENTION, None)
    usual = own is not None and inspect.getsource(own) == inspect.getsource(modeling_llama.eager_attention_forward)
    model.set_attn_implementation(_NAME if usual else _OWN)


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """softmax(scale Q K^T + mask) V as (lines, tokens, heads, size).

    `queries` are (lines, heads, tokens, size); `keys` and `values` (lines, key heads, seen tokens, size), each key head for as many
    successive heads; `mask` can be expanded to (lines, heads, tokens, seen tokens).
    """
    found: Tensor = _Attention.apply(queries, keys, values, queries.new_zeros(1, 1, 1, 1) if mask is None else mask, scale)
    return found


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **named: Any,
) -> tuple[Tensor, Tensor | None]:
    if dropout:
        own = getattr(sys.modules[type(module).__module__], _ATTENTION)
        result: tuple[Tensor, Tensor | None] = own(module, query, key, value, attention_mask, scaling, dropout, **named)
        return result
    return attend(query, key, value, attention_mask, scaling), None


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor, scale: float) -> Tensor:
        lines, heads, tokens, size = queries.shape
        groups, seen = lines * keys.shape[1], keys.shape[2]
        q = queries.reshape(groups, -1, size)  # the rows of all heads that share keys
        k, v = keys.reshape(groups, seen, size), values.reshape(groups, seen, size)
        scores = mask.to(q.dtype).expand(lines, heads, tokens, seen).reshape(groups, -1, seen)
        if scores.data_ptr() == mask.data_ptr():  # nothing was expanded, and so nothing copied
            scores = scores.clone()
        weights = torch.softmax(scores.baddbmm_(q, k.transpose(1, 2), alpha=scale), dim=-1)
        ctx.save_for_backward(q, k, v, weights)
        ctx.scale, ctx.shapes = scale, (queries.shape, keys.shape)
        return torch.bmm(weights, v).view(queries.shape).transpose(1, 2).contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, weights = ctx.saved_tensors
        of_queries, of_keys = ctx.shapes
        of_result = gradient.transpose(1, 2).reshape(q.shape)
        of_weights = torch.bmm(of_result, v.transpose(1, 2))
        of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype).mul_(ctx.scale)
        of_q, of_k = torch.bmm(of_scores, k), torch.bmm(of_scores.transpose(1, 2), q)
        of_v = torch.bmm(weights.transpose(1, 2), of_result)
        return of_q.view(of_queries), of_k.view(of_keys), of_v.view(of_keys), None, None


AttentionInterface.register(_NAME, _attention)
AttentionMaskInterface.register(_NAME, eager_mask)
