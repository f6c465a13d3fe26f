"""Hidden states that do not change in training, kept from batch to batch: one vector for each beginning of a row.

Below the first layer with an adapter, a model computes the same in every epoch and trial: what enters that layer at a token follows from
the tokens up to it. An `ActivationStore` keeps these vectors by token path, as a tree: (path before, token) -> path. No digest stands for a
path, so two paths never share a vector; beginnings that rows share, such as few-shot prompts, are kept once.

The vectors lie in main memory, also for a model on a GPU: those of a batch are few, and a GPU's memory is needed for the model.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from kp.training.batches import NO_TOKEN, PADDING, Batch

ABSENT = -1
PADDING_PLACE = 0
"""The place of padding, whose vector is 0; the tree begins here, too."""
INDEX_BYTES = 200
"""What the tree takes for one path in addition to its vector, roughly: an entry of a dict, its key and value."""
_FIRST_BLOCK = 4096  # vectors; each further block has room for twice as many, so that few blocks hold all and none is ever moved


class ActivationStore:
    """Vectors by token path, of one dtype and width, up to `limit` bytes; what is beyond that is not kept."""

    def __init__(self, limit: int = sys.maxsize) -> None:
        self.limit = limit
        """Bytes; what is kept stays, also if it is lowered."""
        self._paths: dict[tuple[int, int], int] = {}  # (place of the path before, token) -> place
        self._blocks: list[Any] = []  # tensors (vectors, width): those of all places in order

    @property
    def tokens(self) -> int:
        """Paths that are kept."""
        return len(self._paths)

    @property
    def token_bytes(self) -> int:
        """Bytes of one path; 0 before the first."""
        return _token_bytes(self._blocks[0]) if self._blocks else 0

    @property
    def bytes(self) -> int:
        """Bytes of what is kept."""
        return self.tokens * self.token_bytes

    @property
    def full(self) -> bool:
        """Whether there is no room for one more path."""
        return self.bytes + self.token_bytes > self.limit

    def has(self, ids: Sequence[int]) -> bool:
        """Whether the vectors of all tokens of a row are kept."""
        place = PADDING_PLACE
        for token in ids:
            place = self._paths.get((place, token), ABSENT)
        return place != ABSENT

    def places(self, batch: Batch) -> np.ndarray:
        """(lines, length) int64: where `vectors` finds each token of a batch, ABSENT for tokens that are not kept."""
        return self._walk(batch, self.tokens)

    def vectors(self, places: np.ndarray) -> Any:
        """(*places.shape, width) tensor; 0 for padding. No place may be ABSENT."""
        import torch

        found = torch.empty(*places.shape, self._blocks[0].shape[-1], dtype=self._blocks[0].dtype)
        for here, there, block in self._parts(places):
            found[here] = block[there]
        return found

    def add(self, batch: Batch, hidden: Any) -> None:
        """Keep the vectors `hidden` (lines, length, width) of a batch, from left to right as long as there is room."""
        import torch

        kept, most = self.tokens, self.limit // _token_bytes(hidden)
        places = self._walk(batch, most)
        self._make_room(hidden)
        new, first = np.unique(places, return_index=True)  # lines may share a new path: the first of them gives its vector
        new, first = new[new > kept], first[new > kept]
        vectors = hidden.detach().flatten(0, 1)[torch.from_numpy(first).to(hidden.device)].cpu()
        for here, there, block in self._parts(new):
            block[there] = vectors[here]

    def _make_room(self, hidden: Any) -> None:
        """Have a block for each path. The system gives memory to what is written, so room that is not used takes none."""
        import torch

        while sum(map(len, self._blocks)) <= self.tokens:
            self._blocks.append(torch.empty(_FIRST_BLOCK << len(self._blocks), hidden.shape[-1], dtype=hidden.dtype))
        self._blocks[0][PADDING_PLACE] = 0

    def _parts(self, places: np.ndarray) -> Iterator[tuple[Any, Any, Any]]:
        """For each block with some of the places: which places these are, and where in the block they lie, as tensors; and the block."""
        import torch

        blocks = np.log2(places // _FIRST_BLOCK + 1).astype(np.int64)
        for number in np.unique(blocks):
            here = blocks == number
            start = _FIRST_BLOCK * (2**number - 1)
            yield torch.from_numpy(here), torch.from_numpy(places[here] - start), self._blocks[number]

    def _walk(self, batch: Batch, most: int) -> np.ndarray:
        """The places of a batch's tokens, after adding its paths until there are `most`."""
        places = np.zeros(batch.input_ids.shape, dtype=np.int64)
        for line, (tokens, parents) in enumerate(zip(batch.input_ids.tolist(), batch.parents.tolist(), strict=True)):
            found: list[int] = []
            for token, above in zip(tokens, parents, strict=True):
                found.append(
                    PADDING_PLACE if above == PADDING else self._place(PADDING_PLACE if above == NO_TOKEN else found[above], token, most)
                )
            places[line] = found
        return places

    def _place(self, before: int, token: int, most: int) -> int:
        if before == ABSENT:
            return ABSENT
        place = self._paths.get((before, token))
        if place is None and len(self._paths) < most:
            place = self._paths[before, token] = len(self._paths) + 1
        return ABSENT if place is None else place


def _token_bytes(vectors: Any) -> int:
    return int(vectors.shape[-1]) * int(vectors.element_size()) + INDEX_BYTES
