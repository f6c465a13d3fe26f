"""The best possible rates of the machine and the model, with which an engine's speed is compared."""

import inspect
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kp.bench.flops import body_matrices
from kp.bench.subject import Subject
from kp.bench.timing import timed

_REPEATS = 5  # of each product; the best counts, because disturbances only ever slow it down
_SQUARE = {"cpu": 2048, "cuda": 8192}
_TOKENS = {"cpu": 512, "cuda": 8192}  # rows of the products at the model's shapes
_PREFILL_TOKENS = {"cpu": (512, 2048, 4096), "cuda": (4096, 16384, 65536)}
_PREFILL_PASSES = 3


@dataclass(frozen=True)
class MatmulRate:
    """Operations per second, two per multiply-add."""

    shapes: float  # over the products of one pass of the model, each as often as the model has it
    square: float  # one large product of square matrices


def matmul_rate(model: torch.nn.Module) -> MatmulRate:
    """The rate of torch's matrix product in the model's dtype on its device."""
    weight = next(model.parameters())
    like: dict[str, Any] = {"device": weight.device, "dtype": weight.dtype}
    rows, side = _TOKENS[weight.device.type], _SQUARE[weight.device.type]
    counts = Counter(tuple(matrix.shape) for matrix in body_matrices(model))
    seconds = operations = 0.0
    for (outputs, inputs), count in counts.items():
        seconds += count * _best_seconds(torch.randn(rows, inputs, **like), torch.randn(outputs, inputs, **like))
        operations += count * 2.0 * rows * outputs * inputs
    square = 2.0 * side**3 / _best_seconds(torch.randn(side, side, **like), torch.randn(side, side, **like))
    return MatmulRate(operations / seconds, square)


def _best_seconds(tokens: Tensor, weight: Tensor) -> float:
    linear = torch.nn.functional.linear
    linear(tokens, weight)
    return min(timed(weight.device, lambda: linear(tokens, weight))[1] for _ in range(_REPEATS))


class Prefill:
    """The model's own forward pass over whole prompts: default attention, no padding, no cache, logits of the last position only.

    It reads the longer half of the prompts, cut at their beginnings to one length, so that there is no padding. The fastest of a few pass
    sizes is used.
    """

    def __init__(self, subject: Subject, token_ids: Sequence[list[int]]) -> None:
        self._model = subject.model
        parameters = inspect.signature(subject.model.forward).parameters
        self._optional: dict[str, Any] = {"logits_to_keep": 1} if "logits_to_keep" in parameters else {}
        length = sorted(map(len, token_ids))[len(token_ids) // 2]
        self._ids = torch.tensor([ids[-length:] for ids in token_ids if len(ids) >= length], device=subject.device)
        sizes = sorted({max(1, min(len(self._ids), tokens // length)) for tokens in _PREFILL_TOKENS[subject.device.type]})
        self._rows = sizes[0]
        self._pass()  # the first one is slower
        self._rows = max(sizes, key=self._rate_at)

    def measure(self) -> float:
        """Tokens per second over a few passes."""
        return self._rate_at(self._rows)

    @property
    def tokens(self) -> int:
        """Tokens of one pass."""
        return self._rows * self._ids.shape[1]

    def _rate_at(self, rows: int) -> float:
        self._rows = rows
        _, seconds = timed(self._ids.device, self._passes)
        return _PREFILL_PASSES * self.tokens / seconds

    def _passes(self) -> None:
        for _ in range(_PREFILL_PASSES):
            self._pass()

    def _pass(self) -> None:
        with torch.no_grad():
            self._model(input_ids=self._ids[: self._rows], use_cache=False, **self._optional)
