"""Pieces of a block of text by where they start and how long they are: read, hashed and taken out in bulk.

A dump's cost is in its strings. Until a line is known to matter its IRIs stay where they are in the text and are known by 64-bit hashes
(two of a hundred million entities share one with a chance of 0.03%); what is wanted as text is copied once, by arrow.
"""

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

Positions = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

PADDING = 8  # bytes that must follow a text, so that a word can be read at its last byte


class Text:
    """A block of text under its several readings."""

    def __init__(self, block: bytearray) -> None:
        """`block` grows by PADDING zeros."""
        self.size = len(block)
        block += bytes(PADDING)
        self._all: npt.NDArray[np.uint8] = np.frombuffer(block, dtype=np.uint8)
        self.bytes = self._all[: self.size]
        # The four bytes from each place on.
        self.words: npt.NDArray[np.uint32] = np.ndarray((self.size + 1,), "<u4", buffer=self._all.data, strides=(1,))

    def pieces(self, starts: Positions, ends: Positions) -> pa.BinaryViewArray:
        """The bytes from each start to before its end; pieces must be valid while this text lives."""
        views = np.zeros((len(starts), 4), dtype=np.uint32)
        lengths = ends - starts
        views[:, 0] = lengths
        views[:, 1] = self.words[starts]
        views[:, 3] = starts
        short = np.flatnonzero(lengths <= INLINE)
        if len(short):
            self._inline(views, short, starts[short], lengths[short])
        return pa.Array.from_buffers(pa.binary_view(), len(starts), [None, pa.py_buffer(views), pa.py_buffer(self._all)])

    def _inline(self, views: npt.NDArray[np.uint32], rows: Positions, starts: Positions, lengths: Positions) -> None:
        """Arrow keeps up to 12 bytes in the view itself, filled up with zeros."""
        offsets = np.arange(INLINE)
        places = np.minimum(starts[:, None] + offsets, len(self._all) - 1)
        letters = np.where(offsets < lengths[:, None], self._all[places], 0).astype(np.uint8)
        views[rows, 1:] = letters.view("<u4")

    def hashes(self, starts: Positions, ends: Positions) -> Hashes:
        """A 64-bit hash of each piece; the same bytes have the same hash in every text and process of one polars version."""
        pieces = pl.from_arrow(self.pieces(starts, ends))
        assert isinstance(pieces, pl.Series)
        return pieces.hash().to_numpy()

    def copied(self, starts: Positions, ends: Positions) -> pa.LargeBinaryArray:
        """The pieces as an array of their own."""
        return self.pieces(starts, ends).cast(pa.large_binary())

    def is_utf8(self) -> bool:
        """Whether the whole text is."""
        whole = self.pieces(np.zeros(1, dtype=np.int64), np.array([self.size])).view(pa.string_view())
        try:
            whole.validate(full=True)
        except pa.ArrowInvalid:
            return False
        return True

    def begins(self, start: int, end: int, most: int) -> str:
        """How a piece begins, at most `most` bytes of it, for people to read."""
        return self._all[start : min(end, start + most)].tobytes().decode("utf-8", "replace")


INLINE = 12
