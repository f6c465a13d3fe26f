"""Attention of a batch of queries to the same number of keys, with the logarithm of the softmax's denominator.

That logarithm is what it takes to combine attention to two sets of keys into attention to both. PyTorch's fused kernels return it, if they
are called by names that `scaled_dot_product_attention` keeps to itself; they compute scores in float32, whatever the model's dtype. What
they do not offer (soft caps, values of another width than keys, queries that see nothing) is written out in matrix products.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

_FLASH_DTYPES = (torch.float16, torch.bfloat16)
_FLASH_WIDTHS = range(8, 257, 8)


@dataclass(frozen=True)
class Kernel:
    """softmax(cap(scaling Q K^T) + bias) V, where a `softcap` limits scores to softcap * tanh(score / softcap)."""

    scaling: float
    softcap: float | None

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """query [batch, heads, queries, width], key and value [batch, heads, keys, width]; bias [batch, 1, queries, keys] in the dtype of
        the query, -inf where a query must not attend; every query sees a key. Returns [batch, heads, queries, width] and float32 [batch,
        heads, queries]."""
        if self.softcap is None and key.shape[-1] == value.shape[-1]:
            if query.device.type == "cpu":
                output, weight = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                    query, key, value, attn_mask=bias, scale=self.scaling
                )
                return output, weight
            if query.device.type == "cuda":
                return self._on_cuda(query, key, value, bias)
        return self.by_products(query, key, value, bias)

    def _on_cuda(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """Flash attention knows no bias and no float32; memory-efficient attention does, and returns weights for queries in multiples of
        32."""
        if bias is None and query.dtype in _FLASH_DTYPES and query.shape[-1] in _FLASH_WIDTHS:
            output, weight, *_ = torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, scale=self.scaling)
        else:
            full = None if bias is None else bias.expand(-1, query.shape[1], -1, -1)
            output, weight, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(query, key, value, full, True, scale=self.scaling)
        return output, weight[..., : query.shape[2]]

    def by_products(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """The same in matrix products; a query may see nothing, and has then the weight -inf and an output of zeros."""
        scores = (query.float() @ key.float().transpose(-1, -2)).mul_(self.scaling)
        if self.softcap is not None:
            scores = scores.div_(self.softcap).tanh_().mul_(self.softcap)
        if bias is not None:
            scores += bias
        peak = scores.amax(dim=-1, keepdim=True)
        if bias is not None:
            peak.clamp_(min=torch.finfo(torch.float32).min)  # if nothing is visible the sum is 0, and its logarithm -inf
        shares = scores.sub_(peak).exp_()
        total = shares.sum(dim=-1, keepdim=True)
        output = (shares.to(value.dtype) @ value).div_(total.clamp(min=torch.finfo(torch.float32).tiny))
        return output, (peak + total.log())[..., 0]


def combined(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Tensor:
    """Attention to the keys of both, from the output [..., width] and the weight [...] of attention to each.

    If two softmaxes have the denominators e^a and e^b, the share of the second in the joint one is e^b / (e^a + e^b).
    """
    (output, weight), (other_output, other_weight) = one, other
    share = torch.sigmoid(other_weight - weight)[..., None]
    if output.dtype is torch.float32:
        return torch.lerp(output, other_output, share)
    return torch.lerp(output.float(), other_output.float(), share).to(output.dtype)
