"""The chunks of a pipeline whose work is kept in a bucket: an object each, put by the actor that answered it and found by the chunk's name.

The driver knows the names of all chunks, so nothing is listed: it asks for each of them when it starts, and hears of the others from the
pipeline. A chunk is whole or not there, since an object is; parquet's own checksums tell one that was changed.
"""

import hashlib
import threading
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq

from kp.inference.chunk_files import ANSWERED_CHUNKS, ChunkFiles, SettledChunks
from kp.store.bucket import CONCURRENT
from kp.store.bucket_folder import BucketFolder, WorkFolder


class BucketChunks:
    """As `ChunkFiles`, of the chunks with these ids."""

    def __init__(self, folder: BucketFolder, ids: Sequence[str]) -> None:
        self.folder = folder
        self._ids = ids
        self._tables: dict[str, pa.Table] = {}  # of chunks that an earlier run has answered, until they are read
        self._new: set[str] = set()
        self._lock = threading.Lock()

    def settle(self) -> SettledChunks:
        """Ask for every chunk; one whose object is damaged is made again, in its place."""
        with ThreadPoolExecutor(CONCURRENT) as pool:
            found = list(pool.map(lambda chunk_id: kept_chunk(self.folder, chunk_id), self._ids))
        self._tables = {chunk_id: table for chunk_id, table in zip(self._ids, found, strict=True) if isinstance(table, pa.Table)}
        self.note(self._tables)
        return SettledChunks(frozenset(self._tables), sum(table is DAMAGED for table in found))

    def note(self, ids: Iterable[str]) -> None:
        """These chunks are in the bucket."""
        with self._lock:
            self._new |= set(ids)

    def committed_since(self) -> frozenset[str]:
        """The ids of the chunks that were committed since the last call, the first time all of them."""
        with self._lock:
            new, self._new = self._new, set()
        return frozenset(new)

    def read(self, ids: Collection[str]) -> pa.Table:
        """ANSWERED_CHUNKS with these ids, all of which are committed; raises RuntimeError unless each of them is there."""
        with ThreadPoolExecutor(CONCURRENT) as pool:
            found = list(pool.map(lambda one: self._tables.pop(one, None) or kept_chunk(self.folder, one), ids))
        for chunk_id, table in zip(ids, found, strict=True):
            if not isinstance(table, pa.Table):
                raise RuntimeError(f"chunk {chunk_id} was committed and cannot be read: {self.folder}/{_name(chunk_id)}")
        return pa.concat_tables([ANSWERED_CHUNKS.empty_table(), *found])


DAMAGED = "damaged"
Chunks = ChunkFiles | BucketChunks


def chunks_in(work: WorkFolder, ids: Sequence[str]) -> Chunks:
    """The chunks with these ids, of which some may have been answered by an earlier run."""
    return BucketChunks(work, ids) if isinstance(work, BucketFolder) else ChunkFiles(work)


def keep_chunk(folder: BucketFolder, answered: pa.Table) -> None:
    """Put a chunk (one row of ANSWERED_CHUNKS)."""
    sink = pa.BufferOutputStream()
    pq.write_table(answered, sink, compression="zstd", write_page_checksum=True)
    (chunk_id,) = answered["chunk_id"].to_pylist()
    folder.write(_name(chunk_id), sink.getvalue().to_pybytes())


def kept_chunk(folder: BucketFolder, chunk_id: str) -> pa.Table | str | None:
    """The chunk's row of ANSWERED_CHUNKS; None if there is none, DAMAGED if it is not what `keep_chunk` has put."""
    content = folder.read(_name(chunk_id))
    if content is None:
        return None
    try:
        table = pq.read_table(pa.BufferReader(content), page_checksum_verification=True)
    except (pa.ArrowInvalid, OSError):  # pyarrow's two errors for a damaged file
        return DAMAGED
    whole = table.schema.names == ANSWERED_CHUNKS.names and table["chunk_id"].to_pylist() == [chunk_id]
    return table.cast(ANSWERED_CHUNKS) if whole else DAMAGED


def _name(chunk_id: str) -> str:
    return f"answers/{hashlib.sha256(chunk_id.encode()).hexdigest()[:32]}.parquet"
