"""What the layers below an adapter computed for tokens, and a bounded store of it.

Nothing is recomputed for as long as it is kept, and nothing is kept that the model would no longer compute: everything is found by the
tokens that it was computed from, and all of it is dropped when a weight that it depends on has changed.
"""

from array import array
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor

from kp.generation.slots import Prefix


@dataclass(frozen=True)
class LowerPass:
    """What the lower layers computed for tokens, one after another: the hidden states [tokens, width] that enter the layer above, and the
    lower layers' keys and values."""

    hidden: Tensor
    kv: Prefix

    @property
    def tensors(self) -> list[Tensor]:
        """All of it."""
        return [self.hidden, *self.kv.tensors]


@dataclass(frozen=True)
class LowerRow:
    """One row's own tokens, with its draft, in such a pass."""

    read: LowerPass
    start: int
    end: int

    @property
    def tokens(self) -> int:
        """How many they are."""
        return self.end - self.start

    @property
    def hidden(self) -> Tensor:
        """What enters the layer above: [tokens, width]."""
        return self.read.hidden[self.start : self.end]

    def kv(self, tokens: int | None = None) -> Prefix:
        """The keys and values of the first `tokens` tokens, by default of all."""
        own = slice(self.start, self.start + (self.tokens if tokens is None else tokens))
        return Prefix(self.read.kv.keys[:, own], self.read.kv.values[:, own])


class ActivationCache:
    """Keeps at most `most_bytes` of activations; what was used least recently is dropped first.

    With None, the generator that gets it sets the limit from the memory of its device. Several generators of the same base model may use
    the same cache, one after another.
    """

    def __init__(self, most_bytes: int | None = None) -> None:
        self.most_bytes = most_bytes
        self._groups: OrderedDict[int, tuple[list[Hashable], int]] = OrderedDict()  # kept and dropped together, with their bytes
        self._values: dict[Hashable, tuple[int, Any]] = {}  # with the number of the group
        self._made_groups = 0
        self._weights: Any = None

    @property
    def bytes_held(self) -> int:
        """Bytes of the tensors that are kept."""
        return sum(size for _, size in self._groups.values())

    def find(self, key: Hashable) -> Any | None:
        """The value kept under this key; None if there is none."""
        if key not in self._values:
            return None
        group, value = self._values[key]
        self._groups.move_to_end(group)
        return value

    def keep(self, values: Mapping[Any, Any], size: int) -> None:
        """Keep these values of together `size` bytes, instead of others under the same keys; too large ones are not kept."""
        assert self.most_bytes is not None, "set by the generator"
        if size > self.most_bytes:
            return
        replaced = {self._values[key][0] for key in values if key in self._values}
        for group in replaced:
            self._drop(group)
        while self._groups and self.bytes_held + size > self.most_bytes:
            self._drop(next(iter(self._groups)))
        self._made_groups += 1
        self._groups[self._made_groups] = (list(values), size)
        self._values |= {key: (self._made_groups, value) for key, value in values.items()}

    def _drop(self, group: int) -> None:
        keys, _ = self._groups.pop(group)
        for key in keys:
            del self._values[key]

    def clear(self) -> None:
        """Drop all activations."""
        self._groups.clear()
        self._values.clear()

    def validate(self, base: Any) -> None:
        """Drop all activations if this is not the model of the last call, or one of its weights has changed since; adapters may."""
        weights = _weights(base)
        if weights != self._weights:
            self.clear()
        self._weights = weights


def path_key(ids: Iterable[int]) -> bytes:
    """A key for these tokens from the first one on."""
    return blake2b(array("l", ids).tobytes(), digest_size=16).digest()


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Bytes of these tensors."""
    return sum(tensor.element_size() * tensor.numel() for tensor in tensors)


def _weights(base: Any) -> list[tuple[int, int, int, float]]:
    """What shows that a weight of the model without adapters has changed: the object, its place in memory, how often it was changed in
    place, and one of its values, because changes through `.data` are not counted."""
    weights = [weight for name, weight in base.named_parameters() if "lora_" not in name]
    values = torch.stack([weight.detach().reshape(-1)[:1].float().sum() for weight in weights]).tolist()  # a partitioned weight is empty
    return [(id(weight), weight.data_ptr(), weight._version, value) for weight, value in zip(weights, values, strict=True)]
