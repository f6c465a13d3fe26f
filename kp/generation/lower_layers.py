"""The lower layers' part of a call's prompts, computed once for all adapters that leave these layers alone.

An adapter of upper layers changes nothing below its first layer: not the hidden states that enter that layer, and not the lower layers'
keys and values, to which answers attend while they are decoded. So both are computed once for each prompt, with the draft of its answer,
and kept in an ActivationCache. For each further adapter only the layers from its first one on read the prompts.

Whole answers of another model are no drafts: an adapter that has learned facts keeps little of the base's answers beyond their label, and
a token of a draft that does not hold costs its logits.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import torch

from kp.generation.activations import ActivationCache, LowerPass, LowerRow, bytes_of, path_key
from kp.generation.decoding import Live, Row, Work, batches, copy_shared_prefixes, make_line
from kp.generation.forward import Forward
from kp.generation.shared_prefixes import with_shared_prefixes
from kp.generation.slots import Prefix, Slots

Beginning = tuple[int, ...]
"""The tokens of a prefix."""


_T = TypeVar("_T")


class ReadWithin(Protocol):
    """Calls `read` with the most tokens of a pass, and again with fewer if memory runs out."""

    def __call__(self, read: Callable[[int], list[_T]], rows: Sequence[Row]) -> list[_T]:
        """What `read` returns."""
        ...


@dataclass(frozen=True)
class _Question:
    """A shared question prefix: its tokens, and what the lower layers computed for them."""

    ids: list[int]
    lower: LowerRow


@dataclass(frozen=True)
class _KeptRow:
    ids: list[int]  # behind its shared question prefix
    draft: list[int]
    shared: _Question | None
    lower: LowerRow


@dataclass(frozen=True)
class LaidOut:
    """Rows that are ready to enter a layer, and the keys and values of what they share, of all layers."""

    rows: list[Row]
    prefixes: list[Prefix]
    shared_prefixes: list[Prefix]


class LowerLayers:
    """Reads rows below `layer`, or finds them in the cache; call it inside `Forward.exchanged`."""

    def __init__(self, forward: Forward, layer: int, cache: ActivationCache, work: Work, within: ReadWithin) -> None:
        self._forward, self._layer, self._cache, self._work, self._within = forward, layer, cache, work, within

    def lay_out(self, rows: Sequence[Row], beginnings: Sequence[Beginning], adapter: str | None) -> LaidOut | None:
        """The rows, each behind the prefix of its number in `beginnings`; None if the cache is too small for them.

        What the layers above compute for the prefixes is kept under the name of the adapter; with None it is not kept.
        """
        lower = self._prefixes(beginnings)
        tokens = sum(len(row.ids) + len(row.draft) for row in rows)
        if lower and tokens * bytes_of(lower[0].read.tensors) / len(beginnings[0]) > (self._cache.most_bytes or 0):
            return None
        kept = self._kept_rows(rows, beginnings, [one.kv() for one in lower])
        prefixes = self._complete_prefixes(beginnings, lower, adapter)
        questions = {id(one.shared): (row.prefix, one.shared) for row, one in zip(rows, kept, strict=True) if one.shared is not None}
        numbers = {question: number for number, question in enumerate(questions)}
        laid = [
            replace(row, ids=one.ids, lower=one.lower, shared_prefix=None if one.shared is None else numbers[id(one.shared)])
            for row, one in zip(rows, kept, strict=True)
        ]
        asked = [Row(0, prefix, question.ids, [], lower=question.lower) for prefix, question in questions.values()]
        self._work.prompt_tokens += sum(len(row.ids) for row in asked)
        return LaidOut(laid, prefixes, self._completed(asked, prefixes))

    def _prefixes(self, beginnings: Sequence[Beginning]) -> list[LowerRow]:
        keys = [("prefix", self._layer, path_key(ids)) for ids in beginnings]
        found: dict[Hashable, Any] = {key: self._cache.find(key) for key in keys}
        missing = {key: Row(0, None, list(ids), []) for key, ids in zip(keys, beginnings, strict=True) if found[key] is None}
        rows = list(missing.values())
        for key, read in zip(missing, self._within(lambda tokens: self._read_apart(rows, [], tokens), rows), strict=True):
            found[key] = read
            self._cache.keep({key: read}, bytes_of(read.read.tensors))
        return [found[key] for key in keys]

    def _complete_prefixes(self, beginnings: Sequence[Beginning], lower: Sequence[LowerRow], adapter: str | None) -> list[Prefix]:
        """The prefixes' keys and values of all layers."""
        keys = [("upper", self._layer, adapter, path_key(ids)) for ids in beginnings]
        found: dict[tuple[object, ...], Prefix] = {}
        missing = {}
        for key, ids, below in zip(keys, beginnings, lower, strict=True):
            upper = None if adapter is None else self._cache.find(key)
            if upper is None:
                missing[key] = Row(0, None, list(ids), [], lower=below)
            else:
                found[key] = below.kv().below(upper)
        rows = list(missing.values())
        self._work.prefix_tokens += sum(len(row.ids) for row in rows)
        for key, prefix in zip(missing, self._completed(rows, []), strict=True):
            found[key] = prefix
            if adapter is not None:
                view = prefix.of_layers(slice(self._layer, None))
                upper = Prefix(view.keys.clone(), view.values.clone())  # a view would keep the lower layers as well
                self._cache.keep({key: upper}, bytes_of(upper.tensors))
        return [found[key] for key in keys]

    def _completed(self, rows: Sequence[Row], prefixes: list[Prefix]) -> list[Prefix]:
        """The keys and values of all layers of rows with `lower`, each behind its prefix."""
        return self._within(lambda tokens: self._read_upper(rows, prefixes, tokens), rows)

    def _kept_rows(self, rows: Sequence[Row], beginnings: Sequence[Beginning], prefixes: list[Prefix]) -> list[_KeptRow]:
        keys = [("row", self._layer, path_key([*(() if row.prefix is None else beginnings[row.prefix]), *row.ids])) for row in rows]
        kept: list[_KeptRow | None] = [self._cache.find(key) for key in keys]
        missing = [place for place, one in enumerate(kept) if one is None or one.draft != rows[place].draft]
        read = self._read_rows([rows[place] for place in missing], prefixes)
        for place, one in zip(missing, read, strict=True):
            kept[place] = one
        passes = {id(one.read): one.read for row in read for one in (row.lower, row.shared and row.shared.lower) if one}
        if read:
            size = sum(bytes_of(one.tensors) for one in passes.values())
            self._cache.keep({keys[place]: kept[place] for place in missing}, size)
        return [one for one in kept if one is not None]

    def _read_rows(self, rows: list[Row], prefixes: list[Prefix]) -> list[_KeptRow]:
        shorter, asked = with_shared_prefixes(rows)
        lower = self._within(lambda tokens: self._read_apart(asked, prefixes, tokens), asked)
        shared = [one.kv() for one in lower]
        read = self._within(lambda tokens: self._read_together(shorter, prefixes, shared, tokens), shorter)
        questions = [_Question(row.ids, one) for row, one in zip(asked, lower, strict=True)]
        kept = {
            row.index: _KeptRow(row.ids, row.draft, None if row.shared_prefix is None else questions[row.shared_prefix], one)
            for row, one in zip(shorter, read, strict=True)
        }
        return [kept[row.index] for row in rows]

    # --- passes ---

    def _read_apart(self, rows: Sequence[Row], prefixes: list[Prefix], most_tokens: int) -> list[LowerRow]:
        """The rows below the layer, each with its own tensors."""
        made = []
        for batch in batches(rows, most_tokens):
            slots, hidden = self._pass_below(batch, prefixes, ())
            lengths = [len(live.row.ids) for live in batch]
            for slot, part in enumerate(hidden.split(lengths)):
                made.append(LowerRow(LowerPass(part.clone(), slots.as_prefix(slot, len(part))), 0, len(part)))
        return made

    def _read_together(self, rows: Sequence[Row], prefixes: list[Prefix], shared: list[Prefix], most_tokens: int) -> list[LowerRow]:
        """The rows and their drafts below the layer, with common tensors for each pass."""
        made = []
        for batch in batches(rows, most_tokens, shared):
            slots, hidden = self._pass_below(batch, prefixes, shared)
            assert slots.line is not None
            read = LowerPass(hidden, slots.of_line(slots.line))
            start = 0
            for live in batch:
                end = start + len(live.row.ids) + len(live.row.draft)
                made.append(LowerRow(read, start, end))
                start = end
        return made

    def _pass_below(self, batch: list[Live], prefixes: list[Prefix], shared: Sequence[Prefix]) -> tuple[Slots, torch.Tensor]:
        line = make_line([], batch, prefixes, self._forward.device, keep=1)
        slots = Slots(self._forward.layers[: self._layer], len(batch), line.prefill_columns, prefixes)
        copy_shared_prefixes(slots, batch, 0, shared)
        self._work.lower_tokens += line.ids.numel()
        self._work.passes += 1
        return slots, self._forward.packed_below(self._layer, line, slots)

    def _read_upper(self, rows: Sequence[Row], prefixes: list[Prefix], most_tokens: int) -> list[Prefix]:
        made = []
        for batch in batches(rows, most_tokens):
            lower = [live.row.lower for live in batch if live.row.lower is not None]
            line = make_line([], batch, prefixes, self._forward.device, keep=1)
            slots = Slots(self._forward.layers[self._layer :], len(batch), line.prefill_columns, prefixes)
            self._forward.packed(line, slots, (self._layer, torch.cat([one.hidden for one in lower])))
            made += [one.kv().below(slots.as_prefix(slot, one.tokens)) for slot, one in enumerate(lower)]
            self._work.passes += 1
            self._work.logits += 1
        return made
