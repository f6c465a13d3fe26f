"""Keys and values: of shared tokens (a `Prefix`), and of each row's own tokens, in its *slot* of preallocated buffers.

All layers' keys lie in one tensor and all layers' values in another. So moving a row to another slot, or copying what a row shares into its
slot, is one operation for all layers: on a GPU the time of such a small operation is that of its launch. A token's numbers in a layer are
those of all key heads, one head after another; in a layer that has fewer than others, zeros follow.

A `Line` holds everything that a pass needs to know of its tokens. Its numbers are made on the host and reach the device in one copy; what
layers derive from them (masks, indices) is made by the first layer and kept in the line for the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from kp.generation.folding import Folding, FoldPlan

ALL_LAYERS = slice(None)
COLUMNS_OF = 8
"""Keys that a mask covers are a multiple of these: fused attention on CUDA reads a mask in pieces of 16 bytes."""


class NotShareableError(Exception):
    """The model's attention has a feature that the packed attention does not support."""


@dataclass(frozen=True)
class Prefix:
    """Keys and values of shared tokens (shots, or a shared question prefix): [layers, tokens, key heads * width] each."""

    keys: Tensor
    values: Tensor

    @property
    def tokens(self) -> int:
        """How many tokens they are of."""
        return self.keys.shape[1]

    @property
    def tensors(self) -> tuple[Tensor, Tensor]:
        """Both."""
        return self.keys, self.values

    def of_layers(self, layers: slice) -> "Prefix":
        """The same tokens in some layers."""
        return Prefix(self.keys[layers], self.values[layers])

    def below(self, upper: "Prefix") -> "Prefix":
        """The same tokens with the layers of `upper` on top of these."""
        return Prefix(joined([self.keys, upper.keys]), joined([self.values, upper.values]))


@dataclass(frozen=True)
class Stack:
    """Several prefixes as a batch: keys and values [layers, prefixes, tokens of the longest, key heads * width].

    The bias [prefixes, 1, 1, tokens] is -inf after the end of a shorter one; None for a single prefix.
    """

    keys: Tensor
    values: Tensor
    bias: Tensor | None


@dataclass(frozen=True)
class LinePlan:
    """The numbers of a `Line`, which it explains, on the host."""

    ids: list[int]
    positions: list[int]
    slot: list[int]
    column: list[int]
    wanted: list[int]
    n_decode: int
    first_prefill: int
    own: FoldPlan | None
    behind: FoldPlan | None
    sources: list[int]
    targets: list[int]
    decode_columns: int
    prefill_columns: int

    def to(self, device: torch.device) -> "Line":
        """The line, with one copy to the device."""
        numbers = [self.ids, self.positions, self.slot, self.column, self.wanted, self.sources, self.targets]
        folds = [fold.numbers if fold is not None else [] for fold in (self.own, self.behind)]
        arrived = sent([*numbers, *chain.from_iterable(folds)], device)
        ids, positions, slot, column, wanted, sources, targets = arrived[: len(numbers)]
        own_at = len(numbers)
        own = None if self.own is None else Folding.of(self.own, arrived[own_at:])
        behind = None if self.behind is None else Folding.of(self.behind, arrived[own_at + len(folds[0]) :])
        return Line(
            ids=ids[None],
            positions=positions[None],
            slot=slot,
            column=column,
            wanted=wanted,
            n_decode=self.n_decode,
            first_prefill=self.first_prefill,
            own=own,
            behind=behind,
            sources=sources,
            targets=targets,
            decode_columns=self.decode_columns,
            prefill_columns=self.prefill_columns,
            farthest=max(self.positions),
        )


def sent(numbers: Sequence[list[int]], device: torch.device) -> tuple[Tensor, ...]:
    """Each list as a tensor on the device. Pinned memory is copied while the host goes on."""
    joined = torch.tensor([*chain.from_iterable(numbers)], dtype=torch.long, pin_memory=device.type == "cuda")
    return joined.to(device, non_blocking=True).split([len(one) for one in numbers])


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
    wanted: Tensor  # tokens after which logits are computed
    n_decode: int
    first_prefill: int  # slots of decode rows that this pass leaves out come before it
    own: Folding | None  # the prefill tokens, row by row; None without prefill rows
    behind: Folding | None  # the tokens behind prefixes, by prefix; None without prefixes
    sources: Tensor  # slots whose rows move before the pass
    targets: Tensor  # where they move
    decode_columns: int  # at least the most own tokens of a decode row, this one included
    prefill_columns: int  # the same of a prefill row, its shared prefix included
    farthest: int  # the greatest position
    stack: Stack | None = None  # the prefixes, if they are not those of the slots
    made: dict[Any, Any] = field(default_factory=dict)  # indices and masks that all layers share, made by the first layer


class _SlotLayer(DynamicLayer):
    """What transformers' cache holds for a layer: keys and values go into the slots, in place."""

    def __init__(self, slots: "Slots", layer: int) -> None:
        super().__init__()
        self._slots, self._layer = slots, layer

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        self._slots.write(self._layer, key_states, value_states)
        return key_states, value_states

    def get_seq_length(self) -> int:
        return 0


class Slots:
    """Buffers for the own tokens of `slots` rows, at most `columns` tokens each, in `layers`, behind any of `prefixes`."""

    def __init__(self, layers: range, slots: int, columns: int, prefixes: list[Prefix]) -> None:
        self.prefixes = prefixes
        self.line: Line | None = None
        self.seen = 0  # layers that called the attention function in the current pass
        self._layers = layers
        self._shape = (slots, rounded_up(columns))
        self._buffers: tuple[Tensor, Tensor] | None = None  # [layers, slots, columns, key heads * width] each
        self._masks: dict[int | None, Tensor] = {}  # by window
        self._cache = Cache(layers=[_SlotLayer(self, layer) for layer in range(layers.stop)])
        self._stacks: dict[tuple[int, ...], Stack] = {}

    @property
    def shape(self) -> tuple[int, int]:
        """How many there are, and the columns of each."""
        return self._shape

    @property
    def buffers(self) -> tuple[Tensor, Tensor] | None:
        """Keys and values, once some are there. Wider ones of a later layer take their place."""
        return self._buffers

    def holds(self, slots: int, columns: int) -> bool:
        """Whether so many rows of so many tokens have room."""
        return slots <= self._shape[0] and columns <= self._shape[1]

    def renew(self, prefixes: list[Prefix]) -> None:
        """The same buffers for other rows, behind these prefixes."""
        self.prefixes, self._stacks = prefixes, {}

    def write(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Write the keys and values [1, key heads, tokens, width] of the current line's tokens."""
        line = self.line
        assert line is not None
        if layer not in self._layers:
            raise NotShareableError(f"it keeps keys for a layer {layer}")
        if "write" not in line.made:
            line.made["write"] = torch.add(line.column, line.slot, alpha=self._shape[1])
        by_token = [states[0].transpose(0, 1).flatten(1) for states in (keys, values)]
        for buffer, states in zip(self._made(*by_token), by_token, strict=True):
            rows = buffer[layer - self._layers.start].flatten(0, 1)
            rows[:, : states.shape[1]].index_copy_(0, line.made["write"], states)

    def decode_kv(self, layer: int, line: Line) -> tuple[Tensor, Tensor]:
        """Keys and values of the decode rows: [slots, columns, key heads * width]."""
        return self._own(layer, 0, line.n_decode, line.decode_columns)

    def prefill_kv(self, layer: int, line: Line, rows: int) -> tuple[Tensor, Tensor]:
        """The same for the prefill rows."""
        return self._own(layer, line.first_prefill, rows, line.prefill_columns)

    def _own(self, layer: int, first: int, rows: int, columns: int) -> tuple[Tensor, Tensor]:
        if self._buffers is None or layer not in self._layers:
            raise NotShareableError("a layer attends to keys that it does not keep")
        keys, values = (buffer[layer - self._layers.start, first : first + rows, :columns] for buffer in self._buffers)
        return keys, values

    def mask(self, newest: Tensor, columns: int, window: int | None) -> Tensor:
        """[..., columns]: 0 where a token in column `newest` [...] sees a column, -inf elsewhere, in the dtype of keys."""
        if window not in self._masks:
            assert self._buffers is not None
            keys = self._buffers[0]
            number = torch.arange(self._shape[1], device=keys.device)
            distance = number[:, None] - number
            hidden = (distance < 0) if window is None else (distance < 0) | (distance >= window)
            self._masks[window] = keys.new_zeros(distance.shape).masked_fill_(hidden, float("-inf"))
        return self._masks[window].index_select(0, newest.flatten()).view(*newest.shape, -1)[..., :columns]

    def stacked(self, numbers: tuple[int, ...]) -> "Stack":
        """Some of the prefixes, as one batch of keys; passes after one another mostly have the same."""
        if numbers not in self._stacks:
            chosen = [self.prefixes[number] for number in numbers]
            if len(chosen) > 1:  # several stacks at once are of one prefix each, which are views
                self._stacks = {key: stack for key, stack in self._stacks.items() if len(key) == 1}
            self._stacks[numbers] = _stack(chosen)
        return self._stacks[numbers]

    def copy_kv(self, first: int, end: int, copied: Prefix, layers: slice = ALL_LAYERS, column: int = 0) -> None:
        """Copy `copied`, or some of its layers, into these slots from `column` on; both have the same first layer."""
        copied = copied.of_layers(layers)
        for buffer, states in zip(self._made(*copied.tensors), copied.tensors, strict=True):
            part = buffer[layers][: len(states), first:end, column : column + copied.tokens, : states.shape[-1]]
            part.copy_(states[:, None])

    def move(self, sources: Tensor, targets: Tensor, columns: int) -> None:
        """Move rows of at most `columns` tokens from their slots to others."""
        for buffer in self._buffers or ():
            used = buffer[:, :, :columns]
            used[:, targets] = used[:, sources]  # index_copy_ would copy all slots of such a view

    def as_prefix(self, slot: int, tokens: int) -> Prefix:
        """The content of a slot, as a prefix for later rows."""
        assert self._buffers is not None
        keys, values = (buffer[:, slot, :tokens].clone() for buffer in self._buffers)
        return Prefix(keys, values)

    def of_line(self, line: Line) -> Prefix:
        """Keys and values of the tokens of a line."""
        assert self._buffers is not None
        keys, values = (buffer[:, line.slot, line.column] for buffer in self._buffers)
        return Prefix(keys, values)

    def _made(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """The buffers, with room for keys and values as wide as these."""
        if self._buffers is None:
            # Zeros, not uninitialised memory: a masked column contributes 0 times its value, and 0 times NaN would still be NaN.
            made = (states.new_zeros(len(self._layers), *self._shape, states.shape[-1]) for states in (keys, values))
            self._buffers = next(made), next(made)
        elif any(states.shape[-1] > buffer.shape[-1] for states, buffer in zip((keys, values), self._buffers, strict=True)):
            pairs = zip(self._buffers, (keys, values), strict=True)
            wider = (widened(buffer, max(buffer.shape[-1], states.shape[-1])) for buffer, states in pairs)
            self._buffers = next(wider), next(wider)
        return self._buffers

    def begin(self, line: Line) -> Cache:
        """The cache with which the model reads this line."""
        self.line, self.seen = line, 0
        return self._cache

    def end(self, layers: int) -> None:
        """Raise NotShareableError unless each of the `layers` layers that were run called the attention function once."""
        if self.seen != layers:
            raise NotShareableError(f"only {self.seen} of its {layers} layers use an exchangeable attention")


def rounded_up(columns: int) -> int:
    """The next multiple of COLUMNS_OF."""
    return -(-columns // COLUMNS_OF) * COLUMNS_OF


def widened(part: Tensor, numbers: int, tokens: int | None = None) -> Tensor:
    """A tensor [..., tokens, numbers] with zeros up to so many numbers, and tokens."""
    return torch.nn.functional.pad(part, (0, numbers - part.shape[-1], 0, 0 if tokens is None else tokens - part.shape[-2]))


def joined(layers: Sequence[Tensor]) -> Tensor:
    """Layers [layers, tokens, numbers] after one another, as wide as the widest."""
    widest = max(part.shape[-1] for part in layers)
    return torch.cat([widened(part, widest) for part in layers])


def _stack(prefixes: Sequence[Prefix]) -> Stack:
    if len(prefixes) == 1:
        return Stack(prefixes[0].keys[:, None], prefixes[0].values[:, None], None)
    longest = rounded_up(max(prefix.tokens for prefix in prefixes))
    keys, values = (
        torch.stack([widened(part, part.shape[-1], longest) for part in parts], dim=1)
        for parts in ([one.keys for one in prefixes], [one.values for one in prefixes])
    )
    bias = keys.new_zeros(len(prefixes), 1, 1, longest)
    for number, prefix in enumerate(prefixes):
        bias[number, ..., prefix.tokens :] = float("-inf")
    return Stack(keys, values, bias)
