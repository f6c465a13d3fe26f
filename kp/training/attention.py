from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def grouped_products(module, query, key, value, attention_mask, scaling, dropout=0.0, **named):
    return _Grouped.apply(query, key, value, attention_mask, scaling), None


class _Grouped(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, key, value, mask, scale):
        lines, heads, tokens, size = query.shape
        groups, seen = lines * key.shape[1], key.shape[2]
        per_group = heads // key.shape[1]
        q = query.reshape(groups, per_group * tokens, size)
        k, v = key.reshape(groups, seen, size), value.reshape(groups, seen, size)
        wide = mask.expand(lines, heads, tokens, seen).reshape(groups, per_group * tokens, seen)
        weights = torch.softmax(wide.baddbmm_(q, k.transpose(1, 2), alpha=scale), dim=-1)
        ctx.save_for_backward(q, k, v, weights)
        ctx.scale, ctx.shapes = scale, (query.shape, key.shape)
        return torch.bmm(weights, v).view(query.shape).transpose(1, 2).contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        q, k, v, weights = ctx.saved_tensors
        g = gradient.transpose(1, 2).reshape(q.shape)
        of_v = torch.bmm(weights.transpose(1, 2), g)
        of_w = torch._softmax_backward_data(torch.bmm(g, v.transpose(1, 2)), weights, -1, weights.dtype)
        of_q = torch.bmm(of_w, k).mul_(ctx.scale)
        of_k = torch.bmm(of_w.transpose(1, 2), q).mul_(ctx.scale)
        qs, ks = ctx.shapes
        return of_q.view(qs), of_k.view(ks), of_v.view(ks), None, None
