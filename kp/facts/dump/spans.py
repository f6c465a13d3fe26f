"""Pieces of a block of text, given by starts and ends: read, hashed and copied in bulk.

The cost of a dump is in its strings. Until a line is known to matter, its IRIs stay in the text and are represented by 64-bit hashes (the
probability that any two of a hundred million entities share one is 0.03%); what is needed as text is copied once, by arrow.
"""

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

Positions = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

PADDING = 8  # bytes after the text, so that a whole word can be read at its last byte


class Text:
    """A block of text with several views of its bytes."""

    def __init__(self, block: bytearray) -> None:
        """PADDING zeros are appended to `block`."""
        self.size = len(block)
        block += bytes(PADDING)
        self._all: npt.NDArray[np.uint8] = np.frombuffer(block, dtype=np.uint8)
        self.bytes = self._all[: self.size]
        # The four bytes from each position on.
        self.words: npt.NDArray[np.uint32] = np.ndarray((self.size + 1,), "<u4", buffer=self._all.data, strides=(1,))

    def pieces(self, starts: Positions, ends: Positions) -> pa.BinaryViewArray:
        """The bytes from each start up to its end; the pieces are valid only while this text exists."""
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
        """Arrow stores up to 12 bytes in the view itself, padded with zeros."""
        offsets = np.arange(INLINE)
        places = np.minimum(starts[:, None] + offsets, len(self._all) - 1)
        letters = np.where(offsets < lengths[:, None], self._all[places], 0).astype(np.uint8)
        views[rows, 1:] = letters.view("<u4")

    def hashes(self, starts: Positions, ends: Positions) -> Hashes:
        """A 64-bit hash of each piece; equal bytes have equal hashes in every text and process of one polars version."""
        pieces = pl.from_arrow(self.pieces(starts, ends))
        assert isinstance(pieces, pl.Series)
        return pieces.hash().to_numpy()

    def copied(self, starts: Positions, ends: Positions) -> pa.LargeBinaryArray:
        """The pieces as an independent array."""
        return self.pieces(starts, ends).cast(pa.large_binary())

    def is_utf8(self) -> bool:
        """Whether the whole text is UTF-8."""
        whole = self.pieces(np.zeros(1, dtype=np.int64), np.array([self.size])).view(pa.string_view())
        try:
            whole.validate(full=True)
        except pa.ArrowInvalid:
            return False
        return True

    def begins(self, start: int, end: int, most: int) -> str:
        """The first bytes of a piece, at most `most`, for people to read."""
        return self._all[start : min(end, start + most)].tobytes().decode("utf-8", "replace")


INLINE = 12
