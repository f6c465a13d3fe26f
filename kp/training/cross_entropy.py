"""Cross entropy of weighted labels with its gradient, a few positions at a time.

A vocabulary is large: the logits of one step are the largest tensor of a training by far, and torch's way makes four more of that size in
float32 (logits, log probabilities, and the gradients of both). Here float32 exists only for as many positions as fit in a core's cache, and
the gradient, p - 1 at a label and p elsewhere, takes the place of the probabilities as soon as these are known.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_ELEMENTS = {"cpu": 1 << 20}  # of a part, in which everything is computed: 4 MB
_ELEMENTS_ELSE = 1 << 28


def weighted_cross_entropy(logits: Tensor, place: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """The sum of -w log p(label) over terms, in nats and float32 whatever the dtype of the logits.

    `logits` are (places, vocabulary); `place` (terms,) int64 in ascending order, `labels` (terms,) int64 and `weights` (terms,) float32 are
    on the same device.
    """
    found: Tensor = _CrossEntropy.apply(logits, place, labels, weights)
    return found


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, place: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        places, vocabulary = logits.shape
        size = max(1, _ELEMENTS.get(logits.device.type, _ELEMENTS_ELSE) // vocabulary)
        starts = list(range(0, places, size))
        of_part = torch.bucketize(torch.tensor([*starts, places], device=place.device), place).tolist()
        weight_of_place = torch.zeros(places, device=logits.device).index_add_(0, place, weights)[:, None]
        gradient = torch.empty_like(logits) if ctx.needs_input_grad[0] else None
        total = torch.zeros((), device=logits.device)
        for start, first, last in zip(starts, of_part[:-1], of_part[1:], strict=True):
            part = torch.log_softmax(logits[start : start + size], dim=-1, dtype=torch.float32)
            at = (place[first:last] - start, labels[first:last])
            total -= part[at] @ weights[first:last]
            if gradient is not None:
                part.exp_().mul_(weight_of_place[start : start + size]).index_put_(at, -weights[first:last], accumulate=True)
                gradient[start : start + size] = part
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * scale, None, None, None
