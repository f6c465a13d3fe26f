"""The layers below the first one that has an adapter: what they compute is kept, and training begins above them.

Nothing below that layer changes while an adapter is trained, and neither does it from one trial to the next. So the layers below read each
beginning of a row once, without gradients. A step then takes what enters the first adapted layer from the store, and forward and backward
pass begin there, also those of the base model for the KL.

Rows that the store has no room for are read again in each step: that takes time and changes nothing. The order in which rows are read
depends on nothing but the rows, so that a trial that is resumed rounds like one that was not.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from kp.generation.adapters import first_layer
from kp.training.activations import ABSENT, PADDING_PLACE, ActivationStore
from kp.training.batches import Batch, make_batch
from kp.training.encoding import EncodedRow
from kp.training.loss import batch_loss, is_same_loss, model_inputs
from kp.vocabulary import Packing

_PASS_TOKENS = {"cpu": 256, "cuda": 2048}
"""Tokens in a pass beyond its first row: enough for fast matrix products, and not more, because attention in a tree costs their square."""


@dataclass(frozen=True)
class FrozenLayers:
    """The layers of `base`, the model inside PEFT's, below `first`; `store` has vectors of this model and this layer only."""

    base: Any
    first: int
    store: ActivationStore
    packing: Packing
    pad_token_id: int
    device: str

    def read(self, rows: Sequence[EncodedRow]) -> bool:
        """Keep what enters `first` at each token of these rows, as far as there is room; returns whether there was for all."""
        absent = {row.ids: row for row in rows if not self.store.has(row.ids)}
        for some in _passes(absent.values(), self.packing, _PASS_TOKENS[self.device]):
            if self.store.full:
                return False
            self._read(some, self.store)
        return all(self.store.has(ids) for ids in absent)

    @contextmanager
    def skipped(self, rows: Sequence[EncodedRow], batch: Batch) -> Iterator[None]:
        """A context in which the model reads `batch`, made of these rows, and computes nothing below `first`."""
        from kp.models.layers import entered_at

        with entered_at(self.base, self.first, self.entering(rows, batch)):
            yield

    def entering(self, rows: Sequence[EncodedRow], batch: Batch) -> Any:
        """(lines, length, width) of what enters `first` at each token of `batch`, which is made of these rows."""
        places = self.store.places(batch)
        if (places != ABSENT).all():
            return self.store.vectors(places).to(self.device)
        beyond = ActivationStore()
        self._read([row for row in rows if not self.store.has(row.ids)], beyond)
        hidden = beyond.vectors(np.where(places == ABSENT, beyond.places(batch), PADDING_PLACE))
        kept = places > PADDING_PLACE
        if kept.any():
            hidden[kept] = self.store.vectors(places[kept])
        return hidden.to(self.device)

    def _read(self, rows: Sequence[EncodedRow], store: ActivationStore) -> None:
        import torch

        from kp.models.layers import left_at

        batch = make_batch(rows, self.packing, self.pad_token_id)
        inputs = model_inputs(batch, self.device, self.base.dtype)
        inputs["logits_to_keep"] = inputs["logits_to_keep"][:1]  # none is used
        with torch.no_grad(), left_at(self.base, self.first) as reached:
            self.base(**inputs)
        store.add(batch, reached.hidden)

    def reason_against(self, rows: Sequence[EncodedRow]) -> str | None:
        """Why these layers must be computed in every step; None if the loss of these rows is the same without.

        Layers with their own dropout compute something else in every step. And upper layers may read more of the lower ones than hidden
        states: that is a property of a model's code, so it is measured.
        """
        import torch

        from kp.models.layers import has_own_dropout

        kind = self.base.config.model_type
        if has_own_dropout(self.base):
            return f"a {kind} has dropout of its own"
        self.base.eval()
        self.read(rows)
        batch = make_batch(rows, self.packing, self.pad_token_id)
        with torch.no_grad():
            whole = float(batch_loss(self.base, None, batch, self.device, self.base.dtype).cross_entropy)
            with self.skipped(rows, batch):
                entered = float(batch_loss(self.base, None, batch, self.device, self.base.dtype).cross_entropy)
        if is_same_loss(entered, whole, self.base.dtype):
            return None
        return f"a {kind} has another loss if it is entered at layer {self.first} ({entered:.6g} for {whole:.6g})"


def above(frozen: FrozenLayers | None, rows: Sequence[EncodedRow], batch: Batch) -> AbstractContextManager[None]:
    """`skipped`; without frozen layers, a context in which the model computes all."""
    return nullcontext() if frozen is None else frozen.skipped(rows, batch)


def first_adapted_layer(base: Any) -> int:
    """The first layer with a trained parameter, of the model inside PEFT's; 0 if anything outside the layers is trained."""
    return first_layer(name for name, weights in base.named_parameters() if weights.requires_grad)


def _passes(rows: Iterable[EncodedRow], packing: Packing, most: int) -> Iterator[list[EncodedRow]]:
    """The rows in groups that the model reads in one pass, of about `most` tokens in addition to the first row of each.

    Rows that begin alike come together in a tree, rows of one length where they are padded.
    """
    tree = packing is Packing.PREFIX_TREE
    group: list[EncodedRow] = []
    tokens = 0
    for row in sorted(rows, key=lambda row: row.ids if tree else (len(row.ids), row.ids)):
        more = len(row.ids) - (_shared(group[-1].ids, row.ids) if tree and group else 0)
        if group and tokens + more > most:
            yield group
            group, tokens = [], 0
        elif group:
            tokens += more
        group.append(row)
    if group:
        yield group


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """The number of first tokens that two rows share."""
    return next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
