"""One batch of rows on its way through a causal model, in two manners behind one face.

`SharedPrefixBatch` is for rows that begin with the same tokens. The keys and values of those tokens are computed once, and every row
attends to that one copy; only a row's own tokens take memory per row, in buffers made once. Both halves of the attention, shared and own,
meet in one softmax, so the result is the model's own attention in another order of summation. It is an attention function registered with
transformers, hence it serves every architecture whose attention can be exchanged.

`PlainBatch` is for all others (windows, soft caps, recurrences): each row computes its whole prompt, with the model's own cache.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

_ATTENTION = "kp_shared_prefix"
# Rows whose prompts are read in one pass. A CPU is no faster with more, which only widens the padding; a GPU wants to be filled.
_PREFILL_ROWS = {"cpu": 32}
_PREFILL_ROWS_ELSEWHERE = 512
# What models hand to an attention function without changing what attention is.
_HARMLESS = frozenset({"position_ids", "cache_position", "use_cache", "is_causal", "output_attentions", "output_hidden_states", "dropout"})


class NotShareableError(Exception):
    """The model's attention has a trait that the shared-prefix attention does not have."""


class RowBatch(Protocol):
    """Rows that are decoded together."""

    def prefill(self, ids: Tensor, valid: Tensor) -> Tensor:
        """Read the rows' tokens [rows, length], padded on the left where `valid` is False; logits of the next token [rows, vocabulary]."""
        ...

    def step(self, tokens: Tensor) -> Tensor:
        """Append one token to each row [rows]; logits of the next token [rows, vocabulary]."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Forget all rows but these (ascending indices)."""
        ...


class LastLogits:
    """The model as a function from new tokens to the logits after the last of them; made once per model, it looks at signatures."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.base = model.get_base_model() if hasattr(model, "get_base_model") else model
        accepted = inspect.signature(self.base.forward).parameters
        self._optional: dict[str, Any] = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}
        self._takes_positions = "position_ids" in accepted

    @property
    def can_share(self) -> bool:
        """Whether the attention of this architecture can be exchanged and is told the position of each token."""
        return bool(getattr(self.base, "_supports_attention_backend", False)) and self._takes_positions

    def __call__(self, ids: Tensor, positions: Tensor, mask: Tensor | None, cache: Cache | None) -> tuple[Tensor, Any]:
        """`ids` and `positions` are [rows, new tokens]; returns logits [rows, vocabulary] and the cache."""
        inputs = self._optional | ({"position_ids": positions} if self._takes_positions else {})
        output = self.model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **inputs)
        return output.logits[:, -1], output.past_key_values


@dataclass(frozen=True)
class Prefix:
    """Keys and values of shared tokens: per layer [key heads, tokens, width]."""

    keys: list[Tensor]
    values: list[Tensor]
    tokens: int


def compute_prefix(forward: LastLogits, ids: list[int]) -> Prefix:
    """Run the tokens through the model once.

    Raises NotShareableError if a layer keeps anything but plain keys and values.
    """
    device = next(forward.model.parameters()).device
    _, cache = forward(torch.tensor([ids], device=device), torch.arange(len(ids), device=device)[None], None, None)
    layers: list[Any] = getattr(cache, "layers", [])
    for layer in layers:
        if type(layer) is not DynamicLayer:
            raise NotShareableError(f"its cache has layers of type {type(layer).__name__}")
    return Prefix([layer.keys[0] for layer in layers], [layer.values[0] for layer in layers], len(ids))


class _OwnLayer(DynamicLayer):
    """A layer's keys and values of the rows' own tokens: written in place into buffers of the batch's final size.

    A pass writes `rows` of the buffers from column `filled` on, and attends to their columns from `first` on.
    """

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity
        self.total_rows = 0
        self.rows = slice(None)
        self.first = 0
        self.filled = 0
        self._buffers: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        _, heads, new, width = key_states.shape
        if self._buffers is None:
            # Zeros, not whatever memory holds: columns left of a short row are masked, and a weight of 0 times NaN would still be NaN.
            self._buffers = (
                key_states.new_zeros(self.total_rows, heads, self.capacity, width),
                value_states.new_zeros(self.total_rows, heads, self.capacity, value_states.shape[-1]),
            )
        keys, values = self._buffers
        end = self.filled + new
        keys[self.rows, :, self.filled : end] = key_states
        values[self.rows, :, self.filled : end] = value_states
        self.filled = end
        return keys[self.rows, :, self.first : end], values[self.rows, :, self.first : end]

    def get_seq_length(self) -> int:
        return self.filled

    def keep(self, rows: Tensor) -> None:
        # Rows move up inside the buffers, and only their filled part: compaction costs a fraction of a decoding step.
        if self._buffers is not None:
            for buffer in self._buffers:
                buffer[: len(rows), :, : self.filled] = buffer[rows, :, : self.filled]
            self._buffers = (self._buffers[0][: len(rows)], self._buffers[1][: len(rows)])


class SharedPrefixBatch:
    """Rows that begin with `prefix`; `longest` bounds the tokens of a row after it, answer included."""

    def __init__(self, forward: LastLogits, prefix: Prefix, longest: int) -> None:
        self._forward = forward
        self.prefix = prefix
        self._layers = [_OwnLayer(longest) for _ in prefix.keys]
        self._valid = torch.empty(0)
        self._next = torch.empty(0)
        self.mask = torch.empty(0)  # [rows, new tokens, own tokens], True where attention may look
        self.seen = 0  # layers that asked for attention in the present pass

    def prefill(self, ids: Tensor, valid: Tensor) -> Tensor:
        rows, length = ids.shape
        self._valid = valid
        positions = self.prefix.tokens + (valid.cumsum(1) - 1).clamp(min=0)
        self._next = positions[:, -1:] + 1
        causal = torch.ones(length, length, dtype=torch.bool, device=ids.device).tril()
        lot = _PREFILL_ROWS.get(ids.device.type, _PREFILL_ROWS_ELSEWHERE)
        slices = [slice(start, min(start + lot, rows)) for start in range(0, rows, lot)]
        return torch.cat([self._prefill_rows(part, ids, positions, causal) for part in slices])

    def _prefill_rows(self, part: slice, ids: Tensor, positions: Tensor, causal: Tensor) -> Tensor:
        """Some rows at a time, each lot only as wide as its longest row; they share one batch again when they decode."""
        length = ids.shape[1]
        first = length - int(self._valid[part].sum(1).max())
        for layer in self._layers:
            layer.total_rows, layer.rows, layer.first, layer.filled = len(ids), part, first, first
        mask = causal[first:, first:] & self._valid[part, None, first:]
        logits = self._run(ids[part, first:], positions[part, first:], mask)
        for layer in self._layers:
            layer.rows, layer.first, layer.filled = slice(None), 0, length
        return logits

    def step(self, tokens: Tensor) -> Tensor:
        self._valid = torch.nn.functional.pad(self._valid, (0, 1), value=True)
        positions, self._next = self._next, self._next + 1
        return self._run(tokens[:, None], positions, self._valid[:, None, :])

    def keep(self, rows: Tensor) -> None:
        self._valid, self._next = self._valid[rows], self._next[rows]
        for layer in self._layers:
            layer.keep(rows)

    def _run(self, ids: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        self.mask, self.seen = mask, 0
        with _attending_to(self, self._forward.base):
            logits, _ = self._forward(ids, positions, None, Cache(layers=list(self._layers)))
        if self.seen != len(self._layers):
            raise NotShareableError(f"only {self.seen} of its {len(self._layers)} layers use an exchangeable attention")
        return logits


class PlainBatch:
    """Rows with nothing in common, each with its whole prompt, in the cache and the attention of the model's own choice."""

    def __init__(self, forward: LastLogits) -> None:
        self._forward = forward
        self._cache: Any = DynamicCache(config=forward.base.config)
        self._valid = torch.empty(0)
        self._next = torch.empty(0)

    def prefill(self, ids: Tensor, valid: Tensor) -> Tensor:
        self._valid = valid
        positions = (valid.cumsum(1) - 1).clamp(min=0)
        self._next = positions[:, -1:] + 1
        return self._run(ids, positions)

    def step(self, tokens: Tensor) -> Tensor:
        self._valid = torch.nn.functional.pad(self._valid, (0, 1), value=True)
        positions, self._next = self._next, self._next + 1
        return self._run(tokens[:, None], positions)

    def keep(self, rows: Tensor) -> None:
        self._valid, self._next = self._valid[rows], self._next[rows]
        self._cache.batch_select_indices(rows)

    def _run(self, ids: Tensor, positions: Tensor) -> Tensor:
        logits, self._cache = self._forward(ids, positions, self._valid.long(), self._cache)
        return logits


_active: ContextVar[SharedPrefixBatch | None] = ContextVar("kp_shared_prefix_batch", default=None)


@contextmanager
def _attending_to(batch: SharedPrefixBatch, base: Any) -> Iterator[None]:
    """Exchange the model's attention for one pass: the same object may be training a moment later."""
    own_attention = base.config._attn_implementation
    token = _active.set(batch)
    base.set_attn_implementation(_ATTENTION)
    try:
        yield
    finally:
        base.set_attn_implementation(own_attention)
        _active.reset(token)


def _shared_prefix_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **traits: Any,
) -> tuple[Tensor, None]:
    """Attention of new tokens to the shared prefix and to their rows' own tokens.

    query [rows, heads, new, width]; key, value [rows, key heads, own, width], the new tokens last; returns [rows, new, heads, width].
    """
    batch = _active.get()
    if batch is None or attention_mask is not None:
        raise RuntimeError(f"{_ATTENTION} attention was called from outside a SharedPrefixBatch")
    if foreign := sorted(name for name, trait in traits.items() if trait is not None and name not in _HARMLESS):
        raise NotShareableError(f"its attention uses {', '.join(foreign)}")
    batch.seen += 1
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    prefix_key, prefix_value = batch.prefix.keys[layer], batch.prefix.values[layer]
    rows, heads, new, width = query.shape
    key_heads, shared = prefix_key.shape[:2]
    per_key_head = heads // key_heads * new
    grouped = (query * (width**-0.5 if scaling is None else scaling)).reshape(rows, key_heads, per_key_head, width)
    across_rows = grouped.transpose(0, 1).reshape(key_heads, rows * per_key_head, width)
    to_prefix = (across_rows @ prefix_key.transpose(1, 2)).view(key_heads, rows, per_key_head, shared).transpose(0, 1)
    to_own = (grouped @ key.transpose(2, 3)).view(rows, key_heads, -1, new, key.shape[2])
    to_own = to_own.masked_fill(~batch.mask[:, None, None], torch.finfo(to_own.dtype).min).view(rows, key_heads, per_key_head, -1)
    weights = torch.cat([to_prefix, to_own], dim=-1).softmax(dim=-1, dtype=torch.float32).to(query.dtype)
    on_prefix = weights[..., :shared].transpose(0, 1).reshape(key_heads, rows * per_key_head, shared)
    output = (on_prefix @ prefix_value).view(key_heads, rows, per_key_head, -1).transpose(0, 1) + weights[..., shared:] @ value
    return output.reshape(rows, heads, new, -1).transpose(1, 2).contiguous(), None


AttentionInterface.register(_ATTENTION, _shared_prefix_attention)
