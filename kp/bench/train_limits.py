"""What kp's training is compared with: the model's own forward passes, in the same process.

A step of frozen weights computes twice what a forward pass does, so half the rate of the model's own forward passes is the limit of a
training. That rate depends on how many tokens a pass has, and on how many of them need logits; so it is measured in three ways.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from kp.bench.timing import timed
from kp.training.batches import Batch
from kp.training.loss import model_inputs

PASSES = 4
"""Passes of a training that are repeated without a backward pass."""

_REPEATS = 3  # of each measurement; the best counts, because disturbances only ever slow it down
_TIMES = (1, 2, 4)  # the size of a training's pass


@dataclass(frozen=True)
class ForwardRates:
    """Tokens per second of the model's own forward passes."""

    same_passes: float = 0.0  # those of the training: the same tokens and masks, logits where the loss is taken
    same_size: float = 0.0  # plain rows, as many tokens as the training's passes have in the mean, logits of each row's last position
    best_size: float = 0.0  # plain rows, at the size that is fastest
    same_tokens: int = 0  # tokens of a pass of plain rows
    best_tokens: int = 0  # the same at the best size

    def better(self, other: "ForwardRates") -> "ForwardRates":
        """The higher of each rate."""
        best = max(self, other, key=lambda rates: rates.best_size)
        higher = {name: max(getattr(self, name), getattr(other, name)) for name in ("same_passes", "same_size", "same_tokens")}
        return ForwardRates(**asdict(best) | higher)


def forward_rates(model: Any, passes: Sequence[Batch], row_tokens: int) -> ForwardRates:
    """Rates of a PEFT model without its adapter; plain rows have `row_tokens` tokens each."""
    device, tokens = model.device, sum(batch.read_tokens for batch in passes)
    with torch.no_grad(), model.disable_adapter():
        inputs = [model_inputs(batch, device.type, model.dtype) for batch in passes]
        seconds = _best(device, lambda: [model(**given) for given in inputs])
        lines = max(1, round(tokens / len(passes) / row_tokens))
        by_size = {times * lines * row_tokens: _plain_rate(model, times * lines, row_tokens) for times in _TIMES}
    best = max(by_size, key=lambda size: by_size[size])
    return ForwardRates(tokens / seconds, by_size[min(by_size)], by_size[best], min(by_size), best)


def _plain_rate(model: Any, lines: int, length: int) -> float:
    # Tokens are the first of the vocabulary: the speed does not depend on them. The last position is named in a tensor, which makes torch
    # copy it before the head: of a slice it would copy the head once a row.
    ids = torch.arange(lines * length, device=model.device).remainder(model.config.get_text_config().vocab_size).view(lines, length)
    last = torch.tensor([length - 1], device=model.device)
    return lines * length / _best(model.device, lambda: model(input_ids=ids, use_cache=False, logits_to_keep=last))


def _best(device: torch.device, compute: Callable[[], object]) -> float:
    compute()  # the first one is slower
    return min(timed(device, compute)[1] for _ in range(_REPEATS))
