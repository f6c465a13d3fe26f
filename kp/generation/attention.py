"""Attention over tokens packed into one line: the next token of each decode row, and the whole question of each prefill row.

Almost all of a few-shot prompt is shots, and the same shots precede thousands of questions. The keys and values of such a *prefix* are
computed once, and every row attends to that one copy. The keys and values of a row's own tokens are in its *slot* of preallocated buffers
(kp.generation.slots), after a copy of the *shared question prefix*, the first few tokens that its question has in common with others (if
any). So one pass of the model reads a line of tokens without padding, [1, tokens], whatever the lengths of the rows and whichever prefix
they follow. This module's attention function, registered with transformers, attends for each token to:

    its row's prefix      all tokens behind a prefix at once, and several prefixes in one batch
    its row's own tokens  in the slots, into which the keys and values of the new tokens have just been written

Each half returns its output and the logarithm of its softmax's denominator, which is all that is needed to combine the two into one
softmax. So the result is the model's own attention in another order of summation, for every architecture whose attention can be replaced,
including sliding windows and soft caps.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface

from kp.generation.attention_kernels import Kernel, combined
from kp.generation.folding import Folding
from kp.generation.slots import Line, NotShareableError, Slots

_ATTENTION = "kp_packed"
# Arguments that models pass to an attention function and that do not change its result.
_HARMLESS = frozenset({"position_ids", "cache_position", "use_cache", "is_causal", "output_attentions", "output_hidden_states", "dropout"})
_SLIDING = "sliding_attention"
_KNOWN_LAYERS = frozenset({"full_attention", _SLIDING})

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
    kernel = _Packed(
        slots, slots.line, layer, (key.shape[1], key.shape[3], value.shape[3]), sliding_window, Kernel(_scale(query, scaling), softcap)
    )
    return kernel(query[0].transpose(0, 1)).flatten(1, 2)[None], None


def _scale(query: Tensor, scaling: float | None) -> float:
    return float(query.shape[-1] ** -0.5 if scaling is None else scaling)


class _Packed:
    """The attention of one layer. Weights are the logarithms of denominators, float32; queries [tokens, heads, width] become outputs
    [tokens, key heads, heads per key head, width] with weights [tokens, key heads, heads per key head]."""

    def __init__(self, slots: Slots, line: Line, layer: int, shape: tuple[int, int, int], window: int | None, kernel: Kernel) -> None:
        """`shape` are the layer's key heads and the widths of its keys and values."""
        self._slots, self._line, self._layer = slots, line, layer
        self._key_heads, *self._widths = shape
        self._window, self._kernel = window, kernel

    def _by_head(self, keys: Tensor, values: Tensor) -> Iterator[Tensor]:
        """Keys and values [batch, key heads, tokens, width] of those that lie token by token, [batch, tokens, key heads * width]."""
        for states, width in zip((keys, values), self._widths, strict=True):
            yield states[..., : self._key_heads * width].unflatten(-1, (self._key_heads, width)).transpose(1, 2)

    def __call__(self, query: Tensor) -> Tensor:
        line = self._line
        own = []
        if line.n_decode:
            own.append(self._decode(query))
        if line.own is not None:
            own.append(self._prefill(query, line.own))
        output, weight = (torch.cat(parts) if len(parts) > 1 else parts[0] for parts in zip(*own, strict=True))
        if line.behind is None:
            return output
        return combined(self._prefixes(query, line.behind), (output, weight))

    def _decode(self, query: Tensor) -> tuple[Tensor, Tensor]:
        """Decode tokens, each attending to its slot."""
        line = self._line
        queries = query[: line.n_decode].unflatten(1, (self._key_heads, -1))
        keys, values = self._by_head(*self._slots.decode_kv(self._layer, line))
        if ("seen", self._window) not in line.made:
            mask = self._slots.mask(line.column[: line.n_decode], line.decode_columns, self._window)
            line.made["seen", self._window] = mask[:, None, None].expand(-1, 1, queries.shape[2], -1)
        return self._kernel(queries, keys, values, line.made["seen", self._window])

    def _prefill(self, query: Tensor, own: Folding) -> tuple[Tensor, Tensor]:
        """Prefill tokens, each attending to its own row up to itself, shared prefix included."""
        line = self._line
        (queries,) = own.folded(query, self._key_heads)
        keys, values = self._by_head(*self._slots.prefill_kv(self._layer, line, len(queries)))
        if ("causal", self._window) not in line.made:
            (newest,) = own.lines(line.column)
            mask = self._slots.mask(newest, line.prefill_columns, self._window)
            line.made["causal", self._window] = _for_heads(mask, query.shape[1] // self._key_heads)
        output, weight = self._kernel(queries, keys, values, line.made["causal", self._window])
        return own.unfolded([output], [weight], query.shape[1])

    def _prefixes(self, query: Tensor, behind: Folding) -> tuple[Tensor, Tensor]:
        """All tokens, each attending to its prefix."""
        left = behind.plan.keys
        outputs, weights = [], []
        for number, queries in enumerate(behind.folded(query, self._key_heads)):
            some, left = left[: len(queries)], left[len(queries) :]
            output, weight = self._to_prefixes(queries, some, behind, number)
            outputs.append(output)
            weights.append(weight)
        return behind.unfolded(outputs, weights, query.shape[1])

    def _to_prefixes(self, queries: Tensor, some: tuple[int, ...], behind: Folding, number: int) -> tuple[Tensor, Tensor]:
        """Queries [prefixes, key heads, queries, width] of batch `number`, attending to these prefixes."""
        stack = self._line.stack or self._slots.stacked(some)
        keys, values = self._by_head(stack.keys[self._layer], stack.values[self._layer])
        if self._window is None or self._line.farthest < self._window:
            return self._kernel(queries, keys, values, None if stack.bias is None else stack.bias.expand(-1, 1, queries.shape[2], -1))
        made = self._line.made
        if ("prefix", number, self._window) not in made:
            distance = behind.lines(self._line.positions[0])[number][..., None] - torch.arange(keys.shape[2], device=keys.device)
            bias = queries.new_zeros(distance.shape).masked_fill_(distance >= self._window, float("-inf"))
            if stack.bias is not None:
                bias = bias + stack.bias[:, 0]
            made["prefix", number, self._window] = _for_heads(bias, queries.shape[2] // bias.shape[1])
        return self._kernel.by_products(queries, keys, values, made["prefix", number, self._window])


def _for_heads(bias: Tensor, heads: int) -> Tensor:
    """[lines, 1, tokens * heads, keys] of a bias [lines, tokens, keys]."""
    return bias.repeat_interleave(heads, dim=1)[:, None]


def _validate_window(module: torch.nn.Module, layer: int, window: int | None) -> None:
    kinds = getattr(getattr(module, "config", None), "layer_types", None)
    if kinds and kinds[layer] == _SLIDING and window is None:
        raise NotShareableError("it does not pass the sliding window to its attention")


AttentionInterface.register(_ATTENTION, _packed_attention)
