"""The files of a pipeline's chunks: what Ray Data wrote, which of it can be trusted, and what is in it.

Ray Data writes a chunk's answers under a pending checkpoint and commits the chunk by renaming the checkpoint to its final name. When it
resumes, it removes what a killed process left between the two. But it trusts every checkpoint with a final name, and after a power failure
or on a full disk names may survive without contents. So before a run resumes, every committed chunk is read back here.
"""

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

PENDING_SUFFIX = ".pending.parquet"

ANSWERED_CHUNKS = pa.schema(
    [
        pa.field("chunk_id", pa.string(), nullable=False),
        pa.field("answers", pa.binary(), nullable=False),  # a table, by `packed`: chunks of one pipeline may have different columns
        pa.field("hardware", pa.string(), nullable=False),  # JSON: the machine of the process that made them
        pa.field("began", pa.float64(), nullable=False),  # seconds since 1970
        pa.field("ended", pa.float64(), nullable=False),
        pa.field("load_began", pa.float64(), nullable=False),  # when their process began to load its model
        pa.field("load_ended", pa.float64(), nullable=False),
    ]
)
"""What a pipeline writes, one row a chunk; a resumed run so knows who made what is there already, and in what time."""


@dataclass(frozen=True)
class ChunkTimes:
    """When actors worked on chunks and, before, loaded their models: (began, ended), in seconds since 1970."""

    working: tuple[tuple[float, float], ...] = ()
    loading: tuple[tuple[float, float], ...] = ()


NO_TIMES = ChunkTimes()


def times_of(chunks: Iterable[Mapping[str, Any]]) -> ChunkTimes:
    """Those of rows of ANSWERED_CHUNKS."""
    rows = list(chunks)
    loads = {(row["load_began"], row["load_ended"]) for row in rows}  # once an actor
    return ChunkTimes(tuple((row["began"], row["ended"]) for row in rows), tuple(sorted(loads)))


def packed(table: pa.Table) -> bytes:
    """A table as bytes."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return bytes(sink.getvalue())


def unpacked(data: bytes) -> pa.Table:
    """The table of which these are the bytes."""
    with pa.ipc.open_stream(data) as stream:
        return stream.read_all()


@dataclass(frozen=True)
class SettledChunks:
    """What remains of an interrupted run: the ids of the complete chunks, and the number of files whose chunks were dropped."""

    ids: frozenset[str]
    damaged: int


def settle_chunks(committed: Path, answers: Path) -> SettledChunks:
    """Read back every committed chunk; if its checkpoint or its answers are damaged, both are deleted, to be made again.

    `committed` has Ray Data's checkpoints, NAME.parquet with a column chunk_id, and `answers` the files that belong to them,
    NAME-*.parquet (ANSWERED_CHUNKS; a file with other columns counts as damaged).
    """
    ids: set[str] = set()
    damaged = 0
    answers_of = _answers_by_checkpoint(answers)
    for checkpoint in _checkpoints(committed):
        answered = answers_of.get(checkpoint.stem, [])
        found = _chunk_ids([checkpoint])
        if found is not None and found == _chunk_ids(answered, ANSWERED_CHUNKS):
            ids |= set(found)
            continue
        damaged += 1
        for path in (*answered, checkpoint):  # the checkpoint first would leave answers without one, which would be included
            path.unlink()
    return SettledChunks(frozenset(ids), damaged)


class ChunkFiles:
    """The folder `work` of a pipeline: `chunks` (what it has to do), `committed` (Ray Data's checkpoints) and `answers`."""

    def __init__(self, work: Path) -> None:
        self.chunks, self.committed, self.answers = (work / name for name in ("chunks", "committed", "answers"))
        for folder in (self.chunks, self.committed, self.answers):
            folder.mkdir(parents=True, exist_ok=True)
        self._checkpoint_of: dict[str, str] = {}  # by chunk
        self._known: set[str] = set()  # names of checkpoints

    def settle(self) -> SettledChunks:
        """Drop what is damaged; only before a run, which writes into the same folders."""
        return settle_chunks(self.committed, self.answers)

    def committed_since(self) -> frozenset[str]:
        """The ids of the chunks that were committed since the last call, the first time all of them."""
        new: dict[str, str] = {}
        # By name, because this is called several times a second, and a large study has tens of thousands of chunks.
        names = {name for name in os.listdir(self.committed) if name.endswith(".parquet") and not name.endswith(PENDING_SUFFIX)}
        for name in sorted(names - self._known):
            self._known.add(name)
            checkpoint = self.committed / name
            new |= dict.fromkeys(pq.read_table(checkpoint)["chunk_id"].to_pylist(), checkpoint.stem)
        self._checkpoint_of |= new
        return frozenset(new)

    def read(self, ids: Collection[str]) -> pa.Table:
        """ANSWERED_CHUNKS with these ids, all of which are committed; raises RuntimeError unless each of them is there once."""
        checkpoints = dict.fromkeys(self._checkpoint_of[chunk_id] for chunk_id in ids)
        # A chunk is one file, named here rather than looked for: on a shared file system a listing may be older than the checkpoint.
        files = [pq.read_table(self.answers / f"{name}-0.parquet").cast(ANSWERED_CHUNKS) for name in checkpoints]
        found = pa.concat_tables([ANSWERED_CHUNKS.empty_table(), *files])
        found = found.filter(pc.is_in(found["chunk_id"], pa.array(ids, pa.string())))
        if sorted(found["chunk_id"].to_pylist()) != sorted(ids):
            raise RuntimeError(f"{len(ids)} chunks were asked for, {len(found)} came back")
        return found


def _checkpoints(committed: Path) -> list[Path]:
    return [path for path in sorted(committed.glob("*.parquet")) if not path.name.endswith(PENDING_SUFFIX)]


def _answers_by_checkpoint(answers: Path) -> dict[str, list[Path]]:
    """The files of answers by the name of their checkpoint."""
    found: dict[str, list[Path]] = {}
    for path in sorted(answers.glob("*.parquet")):
        found.setdefault(path.stem.rpartition("-")[0], []).append(path)
    return found


def _chunk_ids(paths: Iterable[Path], columns: pa.Schema | None = None) -> list[str] | None:
    """The chunks in these files, sorted; None if a file is damaged, or does not have these columns."""
    contents = [path.read_bytes() for path in paths]  # a file that the system cannot read is not damaged, so this raises
    try:
        tables = [pq.read_table(pa.BufferReader(data)) for data in contents]
    except (pa.ArrowInvalid, OSError):  # pyarrow's two errors for a damaged file
        return None
    if columns is not None and any(table.schema.names != columns.names or table.schema.types != columns.types for table in tables):
        return None
    return sorted(chunk_id for table in tables for chunk_id in table["chunk_id"].to_pylist())
