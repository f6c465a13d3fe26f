"""Attention over tokens packed into one line: the next token of each decode row, and the whole question of each prefill row.

Almost all of a few-shot prompt is shots, and the same shots precede thousands of questions. The keys and values of such a *prefix* are
computed once, and every row attends to that one copy. The keys and values of a row's own tokens are in its *slot* of preallocated buffers,
after a copy of the *shared question prefix*, the first few tokens that its question has in common with others (if any). So one pass of the
model reads a line of tokens without padding, [1, tokens], whatever the lengths of the rows and whichever prefix they follow. This module's
attention function, registered with transformers, attends for each token to:

    its row's prefix      one matrix product for all tokens behind the same prefix
    its row's own tokens  in the slots, into which the keys and values of the new tokens have just been written

Each half returns its output and the logarithm of its softmax's denominator, which is all that is needed to combine the two into one
softmax. So the result is the model's own attention in another order of summation, for every architecture whose attention can be replaced,
including sliding windows and soft caps.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.cache_utils import Cache, DynamicLayer

_ATTENTION = "kp_packed"
# Arguments that models pass to an attention function and that do not change its result.
_HARMLESS = frozenset({"position_ids", "cache_position", "use_cache", "is_causal", "output_attentions", "output_hidden_states", "dropout"})
_SLIDING = "sliding_attention"
_KNOWN_LAYERS = frozenset({"full_attention", _SLIDING})
ALL_LAYERS = slice(None)


class NotShareableError(Exception):
    """The model's attention has a feature that the packed attention does not support."""


@dataclass(frozen=True)
class Prefix:
    """Keys and values of shared tokens (shots, or a shared question prefix): per layer [key heads, tokens, width]."""

    keys: list[Tensor]
    values: list[Tensor]
    tokens: int

    def below(self, upper: "Prefix") -> "Prefix":
        """The same tokens with the layers of `upper` on top of these."""
        return Prefix([*self.keys, *upper.keys], [*self.values, *upper.values], self.tokens)


@dataclass(frozen=True)
class Line:
    """The tokens of one pass and where each belongs.

    The first `n_decode` tokens are the next tokens of the decode rows; token i belongs to slot i. The prefill rows follow, one after
    another, in the slots from `first_prefill` on.
    """

    ids: Tensor  # [1, tokens]
    positions: Tensor  # [1, tokens]
    slot: Tensor  # [tokens], the slot of a token's keys and values
    column: Tensor  # [tokens], the column in that slot
    n_decode: int
    first_prefill: int  # slots of decode rows that this pass leaves out come before it
    order: Tensor  # [tokens], the tokens sorted by prefix
    behind: list[tuple[int | None, int]]  # for each prefix in that order, its index (None: no prefix) and how many tokens follow it
    starts: Tensor  # [prefill rows], where they begin in the line
    lengths: Tensor  # [prefill rows], without their shared prefixes
    wanted: Tensor  # tokens after which logits are computed
    decode_columns: int  # the most own tokens of a decode row, this one included
    prefill_columns: int  # the same of a prefill row, its shared prefix included
    farthest: int  # the greatest position
    made: dict[Any, Any] = field(default_factory=dict)  # indices and masks that all layers share, made by the first layer


class _SlotLayer(DynamicLayer):
    """A layer's keys and values of the rows' own tokens: [slots, key heads, columns, width], written in place."""

    def __init__(self, slots: int, columns: int) -> None:
        super().__init__()
        self.shape = (slots, columns)
        self.line: Line | None = None
        self.buffers: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        assert self.line is not None
        columns, heads = self.shape[1], key_states.shape[1]
        buffers = self._made(key_states[0], value_states[0])
        line = self.line
        if ("write", heads) not in line.made:
            rows = (line.slot[:, None] * heads + torch.arange(heads, device=line.slot.device)) * columns + line.column[:, None]
            line.made["write", heads] = rows.flatten()
        rows = line.made["write", heads]
        for buffer, states in zip(buffers, (key_states, value_states), strict=True):
            width = states.shape[-1]
            buffer.view(-1, width).index_copy_(0, rows, states[0].transpose(0, 1).reshape(-1, width))
        return key_states, value_states

    def copy_kv(self, first: int, end: int, key: Tensor, value: Tensor, column: int) -> None:
        """Write keys and values [key heads, tokens, width] into some slots, from `column` on."""
        for buffer, states in zip(self._made(key, value), (key, value), strict=True):
            buffer[first:end, :, column : column + states.shape[1]] = states

    def _made(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """The buffers, made on first use for keys and values like these [key heads, tokens, width]."""
        if self.buffers is None:
            slots, columns = self.shape
            # Zeros, not uninitialised memory: a masked column contributes 0 times its value, and 0 times NaN would still be NaN.
            keys, values = (states.new_zeros(slots, states.shape[0], columns, states.shape[-1]) for states in (key, value))
            self.buffers = keys, values
        return self.buffers

    def get_seq_length(self) -> int:
        return 0


class Slots:
    """Buffers for the own tokens of `slots` rows, at most `columns` tokens each, behind any of `prefixes`."""

    def __init__(self, layers: int, slots: int, columns: int, prefixes: list[Prefix]) -> None:
        self.prefixes = prefixes
        self._layers = [_SlotLayer(slots, columns) for _ in range(layers)]
        self.line: Line | None = None
        self.seen = 0  # layers that called the attention function in the current pass

    def decode_kv(self, layer: int, line: Line) -> tuple[Tensor, Tensor]:
        """Keys and values of the decode rows: [slots, key heads, columns, width]."""
        return self._own(layer, slice(0, line.n_decode), line.decode_columns)

    def prefill_kv(self, layer: int, line: Line) -> tuple[Tensor, Tensor]:
        """The same for the prefill rows."""
        return self._own(layer, slice(line.first_prefill, line.first_prefill + len(line.lengths)), line.prefill_columns)

    def _own(self, layer: int, rows: slice, columns: int) -> tuple[Tensor, Tensor]:
        buffers = self._layers[layer].buffers
        assert buffers is not None
        return buffers[0][rows, :, :columns], buffers[1][rows, :, :columns]

    def copy_kv(self, first: int, end: int, copied: Prefix, layers: slice = ALL_LAYERS, column: int = 0) -> None:
        """Copy `copied`, or some of its layers, into these slots from `column` on."""
        for layer, key, value in zip(self._layers[layers], copied.keys[layers], copied.values[layers], strict=False):
            layer.copy_kv(first, end, key, value, column)

    def move(self, sources: list[int], targets: list[int], columns: int) -> None:
        """Move rows of at most `columns` tokens from their slots to others."""
        if not sources:
            return
        for layer in self._layers:
            for buffer in layer.buffers or ():
                buffer[targets, :, :columns] = buffer[sources, :, :columns]

    def as_prefix(self, slot: int, tokens: int) -> Prefix:
        """The content of a slot, as a prefix for later rows; of the layers that were run, if some were skipped."""
        pairs = [layer.buffers for layer in self._layers if layer.buffers is not None]
        keys, values = ([pair[side][slot, :, :tokens].clone() for pair in pairs] for side in (0, 1))
        return Prefix(keys, values, tokens)

    def of_line(self, line: Line) -> tuple[list[Tensor], list[Tensor]]:
        """Keys and values of the tokens of a line: [key heads, tokens, width] for each layer that was run."""
        pairs = [layer.buffers for layer in self._layers if layer.buffers is not None]
        keys, values = ([pair[side][line.slot, :, line.column].transpose(0, 1).contiguous() for pair in pairs] for side in (0, 1))
        return keys, values

    def begin(self, line: Line) -> Cache:
        """The cache with which the model reads this line."""
        self.line, self.seen = line, 0
        for layer in self._layers:
            layer.line = line
        return Cache(layers=list(self._layers))

    def end(self, layers: int) -> None:
        """Raise NotShareableError unless each of the `layers` layers that were run called the attention function once."""
        if self.seen != layers:
            raise NotShareableError(f"only {self.seen} of its {layers} layers use an exchangeable attention")


_active: ContextVar[Slots | None] = ContextVar("kp_packed_slots", default=None)


@contextmanager
def exchanged_attention(base: Any) -> Iterator[None]:
    """Replace the model's attention within the context: the same object may be training a moment later."""
    own_attention = base.config._attn_implementation
    base.set_attn_implementation(_ATTENTION)
    try:
        yield
    finally:
        base.set_attn_implementation(own_attention)


@contextmanager
def attending_to(slots: Slots) -> Iterator[None]:
    """One pass over the line that `slots` has begun."""
    token = _active.set(slots)
    try:
        yield
    finally:
        _active.reset(token)


def validate_layer_types(config: Any) -> None:
    """Raise NotShareableError if the config has layer types with a different kind of attention (chunks, recurrences)."""
    odd = sorted(set(getattr(config, "layer_types", None) or ()) - _KNOWN_LAYERS)
    if odd:
        raise NotShareableError(f"it has layers of kind {', '.join(odd)}")


def _packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **traits: Any,
) -> tuple[Tensor, None]:
    """query [1, heads, tokens, width]; key, value [1, key heads, tokens, width]; returns [1, tokens, heads, width]."""
    slots = _active.get()
    if slots is None or slots.line is None or attention_mask is not None:
        raise RuntimeError(f"{_ATTENTION} attention was called from outside a pass over packed tokens")
    if foreign := sorted(name for name, trait in traits.items() if trait is not None and name not in _HARMLESS):
        raise NotShareableError(f"its attention uses {', '.join(foreign)}")
    slots.seen += 1
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    _validate_window(module, layer, sliding_window)
    kernel = _Kernel(query.shape[-1] ** -0.5 if scaling is None else scaling, softcap)
    line, heads, key_heads = slots.line, query.shape[1], key.shape[1]
    # [tokens, key heads, heads per key head, width]
    grouped = query[0].transpose(0, 1).unflatten(1, (key_heads, heads // key_heads))
    own = []
    if line.n_decode:
        own.append(_decode_attention(grouped, *slots.decode_kv(layer, line), line, sliding_window, kernel))
    if len(line.lengths):
        own.append(_prefill_attention(grouped, *slots.prefill_kv(layer, line), line, sliding_window, kernel))
    output, weight = (torch.cat(parts) if len(parts) > 1 else parts[0] for parts in zip(*own, strict=True))
    if any(index is not None for index, _ in line.behind):
        output = _with_prefixes(output, weight, grouped, slots, layer, sliding_window, kernel)
    return output.flatten(1, 2)[None], None


@dataclass(frozen=True)
class _Kernel:
    """Attention of a batch of queries to the same number of keys, with the logarithm of the softmax's denominator."""

    scaling: float
    softcap: float | None

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """query [batch, heads, queries, width], key and value [batch, heads, keys, width], bias [batch, 1, queries, keys], -inf where
        a query must not attend; returns [batch, heads, queries, width] and float32 [batch, heads, queries]."""
        scores = (query @ key.transpose(-1, -2)).float().mul_(self.scaling)
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

    def of_many(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """The same for a few heads with very many queries, for which a CPU has a faster kernel."""
        if query.device.type == "cpu" and self.softcap is None and bias is None and key.shape[-1] == value.shape[-1]:
            # PyTorch's fused kernel, called by the name that also returns the denominator, which scaled_dot_product_attention does not.
            return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, scale=self.scaling)
        return self(query, key, value, bias)


def _bias(seen: Tensor) -> Tensor:
    return torch.zeros(seen.shape, dtype=torch.float32, device=seen.device).masked_fill_(~seen, float("-inf"))


def _decode_attention(
    grouped: Tensor, keys: Tensor, values: Tensor, line: Line, window: int | None, kernel: _Kernel
) -> tuple[Tensor, Tensor]:
    """Decode tokens, each attending to its slot; returns [tokens, key heads, heads per key head, width] and the same without width."""
    if ("seen", window) not in line.made:
        seen = _seen_columns(line, window)[:, None, None].expand(-1, 1, grouped.shape[2], -1)
        line.made["seen", window] = _bias(seen)
    return kernel(grouped[: line.n_decode], keys, values, line.made["seen", window])


def _seen_columns(line: Line, window: int | None) -> Tensor:
    """[rows, columns]: a row sees its own columns up to the newest one."""
    return _seen(line.column[: line.n_decode], line.decode_columns, window)


def _seen(newest: Tensor, columns: int, window: int | None) -> Tensor:
    """[..., columns]: which columns are visible to a token in column `newest` [...]."""
    column = torch.arange(columns, device=newest.device)
    seen = column <= newest[..., None]
    return seen if window is None else seen & (column > newest[..., None] - window)


def _prefill_attention(
    grouped: Tensor, keys: Tensor, values: Tensor, line: Line, window: int | None, kernel: _Kernel
) -> tuple[Tensor, Tensor]:
    """Prefill tokens, each attending to its own row up to itself, shared prefix included; shapes as in `_decode_attention`."""
    if "padded" not in line.made:
        line.made["padded"] = _padding(line)
    padded, flat = line.made["padded"]  # [prefill rows, longest], and the flat index of each token in it
    longest, per_key_head = padded.shape[1], grouped.shape[2]
    if ("causal", window) not in line.made:
        seen = _seen(line.column[padded], line.prefill_columns, window)  # what the padding of a short row sees does not matter
        line.made["causal", window] = _bias(seen.repeat(1, per_key_head, 1)[:, None])
    queries = grouped[padded].permute(0, 2, 3, 1, 4).flatten(2, 3)
    output, weight = kernel(queries, keys, values, line.made["causal", window])
    output = output.unflatten(2, (per_key_head, longest)).permute(0, 3, 1, 2, 4).flatten(0, 1)
    weight = weight.unflatten(2, (per_key_head, longest)).permute(0, 3, 1, 2).flatten(0, 1)
    return output[flat], weight[flat]


def _padding(line: Line) -> tuple[Tensor, Tensor]:
    longest = int(line.lengths.max())
    within = torch.arange(longest, device=line.ids.device)
    there = within < line.lengths[:, None]
    padded = (line.starts[:, None] + within).where(there, line.starts[:, None])
    return padded, there.flatten().nonzero()[:, 0]


def _with_prefixes(
    own: Tensor, own_weight: Tensor, grouped: Tensor, slots: Slots, layer: int, window: int | None, kernel: _Kernel
) -> Tensor:
    """The own half [tokens, key heads, heads per key head, width] combined with attention to the prefixes; same shape and order."""
    line = slots.line
    assert line is not None
    if "back" not in line.made:
        line.made["back"] = line.order.argsort()
    ordered, positions = grouped[line.order], line.positions[0, line.order]
    outputs, weights = [], []
    end = 0
    for index, tokens in line.behind:
        start, end = end, end + tokens
        queries = ordered[start:end]
        if index is None:
            outputs.append(torch.zeros_like(queries))
            weights.append(queries.new_full(queries.shape[:3], float("-inf"), dtype=torch.float32))
            continue
        output, weight = _prefix(queries, slots.prefixes[index], layer, positions[start:end], window, line.farthest, kernel)
        outputs.append(output)
        weights.append(weight)
    to_prefix, weight = torch.cat(outputs)[line.made["back"]], torch.cat(weights)[line.made["back"]]
    # If two softmaxes have the denominators e^a and e^b, the share of the second in the joint one is e^b / (e^a + e^b).
    share = torch.sigmoid(weight - own_weight)[..., None]
    return torch.lerp(own.float(), to_prefix.float(), share).to(own.dtype)


def _prefix(
    queries: Tensor, prefix: Prefix, layer: int, positions: Tensor, window: int | None, farthest: int, kernel: _Kernel
) -> tuple[Tensor, Tensor]:
    """Tokens [tokens, key heads, heads per key head, width] at `positions`, attending to their prefix; shapes as in
    `_decode_attention`."""
    tokens, _, per_key_head, _ = queries.shape
    bias = None
    if window is not None and farthest >= window:
        distance = positions[:, None] - torch.arange(prefix.tokens, device=positions.device)
        bias = _bias((distance < window).repeat_interleave(per_key_head, dim=0)[None, None])
    by_head = queries.transpose(0, 1).flatten(1, 2)[None]
    output, weight = kernel.of_many(by_head, prefix.keys[layer][None], prefix.values[layer][None], bias)
    output = output[0].unflatten(1, (tokens, per_key_head)).transpose(0, 1)
    return output, weight[0].unflatten(1, (tokens, per_key_head)).transpose(0, 1)


def _validate_window(module: torch.nn.Module, layer: int, window: int | None) -> None:
    kinds = getattr(getattr(module, "config", None), "layer_types", None)
    if kinds and kinds[layer] == _SLIDING and window is None:
        raise NotShareableError("it does not pass the sliding window to its attention")


AttentionInterface.register(_ATTENTION, _packed_attention)
