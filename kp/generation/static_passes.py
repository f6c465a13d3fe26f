"""Decode passes whose tensors stay where they are, so that a pass that was recorded once can be replayed.

A pass that only decodes launches the same operations on other numbers again and again. To be replayed, it must find its numbers in the same
place and in the same shape. So the rows of a pass are padded to a power of two, with rows that use free slots and whose logits nobody
reads; the prefixes behind which rows are, to a power of two as well, are copied to a fixed place; and the slots are kept from call to call.
What a pass needs to know of its rows is copied into one tensor.

How passes are recorded and replayed is up to a Recorder (kp.generation.cuda_graphs); everything here is plain tensors on any device.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

import torch
from torch import Tensor

from kp.generation.decoding import Live
from kp.generation.folding import PADDING_ALLOWED, Folding, FoldPlan
from kp.generation.forward import Forward
from kp.generation.slots import Line, Prefix, Slots, Stack

MOST_PREFIXES = 16
"""Prefixes of a pass; one with more is made in the usual way, and one in which most rows are behind one of several."""

_ROOM_TOKENS = 64  # the room for prefixes is a multiple: prompts of other lengths then find room where earlier ones had theirs
_ROOM_COLUMNS = 32  # that of slots


@dataclass(frozen=True)
class PassShape:
    """What one recording serves: rows, the prefixes that they are behind (0: none), and the most rows behind one of them, all padded."""

    rows: int
    prefixes: int
    widest: int


class Recorder(Protocol):
    """Makes passes, the first time of a shape and again."""

    def takes(self, shape: PassShape) -> bool:
        """Whether it makes the next pass of this shape; otherwise it is made in the usual way."""
        ...

    def run(self, shape: PassShape, work: Callable[[], None]) -> None:
        """Do the work of a pass, whose tensors are where they were when it last did that of this shape."""
        ...

    def forget(self) -> None:
        """No tensor is where it was."""
        ...


class StaticPasses:
    """The decode passes of one model with one adapter or none; see kp.generation.decoding.DecodePasses."""

    def __init__(self, forward: Forward, recorder: Recorder) -> None:
        self._forward, self._recorder = forward, recorder
        self._slots: Slots | None = None
        self._room: _Room | None = None
        self._numbers: dict[PassShape, Tensor] = {}
        self._logits: Tensor | None = None
        self._buffers: tuple[Tensor, Tensor] | None = None  # of the slots, as they were recorded

    def renew(self, forward: Forward) -> None:
        """The model has other weights, or memory has run out: everything is made anew."""
        self._forward = forward
        self._slots = self._room = self._logits = self._buffers = None
        self._numbers = {}
        self._recorder.forget()

    def slots(self, rows: int, columns: int, prefixes: list[Prefix]) -> Slots:
        """Slots for so many rows of so many tokens: those of the last call, if they have room."""
        wanted = max((prefix.tokens for prefix in prefixes), default=0)
        if self._slots is None or not self._slots.holds(rows, columns) or (wanted and not (self._room and self._room.holds(wanted))):
            had = self._slots.shape if self._slots else (0, 0)
            tokens = max(wanted, self._room.tokens if self._room else 0)
            self.renew(self._forward)
            columns = -(-max(columns, had[1]) // _ROOM_COLUMNS) * _ROOM_COLUMNS
            self._slots = Slots(self._forward.layers, padded(max(rows, had[0])), columns, prefixes)
            self._room = _Room(prefixes[0], -(-tokens // _ROOM_TOKENS) * _ROOM_TOKENS) if prefixes else None
        self._slots.renew(prefixes)
        return self._slots

    def shape_of(self, rows: Sequence[Live]) -> PassShape | None:
        """The shape of a pass over these rows; None if it is to be made in the usual way."""
        behind, count = Counter(live.row.prefix for live in rows), padded(len(rows))
        if None in behind:
            shape = PassShape(count, 0, 0)
        elif len(behind) == 1:
            shape = PassShape(count, 1, count)
        else:
            shape = PassShape(count, padded(len(behind)), padded(max(behind.values())))
        mixed = None in behind and len(behind) > 1
        if mixed or shape.prefixes > MOST_PREFIXES or shape.prefixes * shape.widest > PADDING_ALLOWED["cuda"] * count:
            return None
        return shape if self._recorder.takes(shape) else None

    def logits(self, shape: PassShape, rows: Sequence[Live]) -> Tensor:
        """Logits [rows, vocabulary] after the last token of each row; row i is in slot i. Valid until the next pass."""
        slots = self._slots
        assert slots is not None, "made before rows are"
        if slots.buffers is not self._buffers:
            self._buffers = slots.buffers
            self._recorder.forget()
        present = sorted({live.row.prefix for live in rows if live.row.prefix is not None})
        if self._room is not None:
            self._room.load([slots.prefixes[number] for number in present])
        host = torch.tensor(_numbers(shape, rows, present, slots.prefixes), pin_memory=self._forward.device.type == "cuda")
        if shape not in self._numbers:
            self._numbers[shape] = torch.zeros(len(host), dtype=torch.long, device=self._forward.device)
        numbers = self._numbers[shape]
        numbers.copy_(host, non_blocking=True)
        self._recorder.run(shape, lambda: self._pass(shape, numbers, slots))
        assert self._logits is not None
        return self._logits[: len(rows)]

    def _pass(self, shape: PassShape, numbers: Tensor, slots: Slots) -> None:
        """The pass itself: nothing in it depends on a number on the host."""
        logits = self._forward.packed(self._line(shape, numbers, slots), slots)
        if self._logits is None:  # one for all shapes, because a recording keeps what it returns
            self._logits = logits.new_empty(slots.shape[0], logits.shape[-1])
        self._logits[: shape.rows].copy_(logits)

    def _line(self, shape: PassShape, numbers: Tensor, slots: Slots) -> Line:
        laid = shape.prefixes * shape.widest
        ids, positions, column, slot, places, tokens = numbers.split([*[shape.rows] * 5, laid])
        columns = slots.shape[1]
        behind = None
        if shape.prefixes:
            # With one prefix all rows are in order, whose indices the device does not need.
            plan = FoldPlan(tuple(range(shape.prefixes)), ((shape.prefixes, shape.widest),), [*range(laid)], [*range(shape.rows)], [])
            behind = Folding(plan, tokens, places, numbers[:0])
        return Line(
            ids=ids[None],
            positions=positions[None],
            slot=slot,
            column=column,
            wanted=slot,
            n_decode=shape.rows,
            first_prefill=shape.rows,
            own=None,
            behind=behind,
            sources=numbers[:0],
            targets=numbers[:0],
            decode_columns=columns,
            prefill_columns=0,
            farthest=columns + (self._room.tokens if self._room else 0),  # the most there can be, or it would be a number on the host
            stack=self._room.stack(shape.prefixes) if self._room and shape.prefixes else None,
        )


def _numbers(shape: PassShape, rows: Sequence[Live], present: Sequence[int], prefixes: Sequence[Prefix]) -> list[int]:
    """Ids, positions, columns, slots, where each row's result is among the folded ones, and the rows that are folded."""
    more = [0] * (shape.rows - len(rows))
    lines = {number: [place for place, live in enumerate(rows) if live.row.prefix == number] for number in present}
    if len(present) == 1:
        lines = {present[0]: [*range(shape.rows)]}  # and the padding with them
    folded = [[*line, *line[-1:] * (shape.widest - len(line))] for line in lines.values()]
    folded += [[0] * shape.widest] * (shape.prefixes - len(folded))
    places = [0] * shape.rows
    for start, line in zip(range(0, shape.prefixes * shape.widest, shape.widest or 1), lines.values(), strict=False):
        for place, row in enumerate(line, start=start):
            places[row] = place
    shifts = [0 if live.row.prefix is None else prefixes[live.row.prefix].tokens for live in rows]
    return [
        *(live.made[-1] for live in rows),
        *more,
        *(live.own + shift for live, shift in zip(rows, shifts, strict=True)),
        *more,
        *(live.own for live in rows),
        *more,
        *range(shape.rows),
        *places,
        *chain.from_iterable(folded),
    ]


class _Room:
    """A fixed place for the prefixes of a pass, of at most `tokens` tokens each."""

    def __init__(self, like: Prefix, tokens: int) -> None:
        self.tokens = tokens
        self._keys, self._values = (part.new_zeros(len(part), MOST_PREFIXES, tokens, part.shape[-1]) for part in like.tensors)
        self._bias = like.keys.new_zeros(MOST_PREFIXES, 1, 1, tokens)
        self._loaded: list[Prefix | None] = [None] * MOST_PREFIXES

    def holds(self, tokens: int) -> bool:
        """Whether a prefix of so many tokens has room."""
        return tokens <= self.tokens

    def load(self, prefixes: Sequence[Prefix]) -> None:
        """These prefixes, one after the other; what lies there from the last pass stays. What lies behind the end of one is hidden."""
        for place, prefix in enumerate(prefixes):
            if self._loaded[place] is prefix:
                continue
            for room, part in zip((self._keys, self._values), prefix.tensors, strict=True):
                room[:, place, : prefix.tokens].copy_(part)
            self._bias[place].fill_(float("-inf"))
            self._bias[place, ..., : prefix.tokens].zero_()
            self._loaded[place] = prefix

    def stack(self, count: int) -> Stack:
        """The first `count` of them."""
        return Stack(self._keys[:, :count], self._values[:, :count], self._bias[:count])


def padded(count: int) -> int:
    """The next power of two."""
    return 1 << max(0, count - 1).bit_length()
