"""The chunk files of an interrupted run, and which of them can be trusted.

Ray Data writes a chunk's answers under a pending checkpoint and commits the chunk by renaming the checkpoint to its final name. When it
resumes, it removes what a killed process left between the two. But it trusts every checkpoint with a final name, and after a power failure
or on a full disk names may survive without contents. So before a run resumes, every committed chunk is read back here.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

PENDING_SUFFIX = ".pending.parquet"


@dataclass(frozen=True)
class SettledChunks:
    """What remains of an interrupted run: the ids of the complete chunks, and the number of files whose chunks were dropped."""

    ids: frozenset[str]
    damaged: int


def settle_chunks(committed: Path, answers: Path) -> SettledChunks:
    """Read back every committed chunk; if its checkpoint or its answers are damaged, both are deleted, to be made again.

    `committed` has Ray Data's checkpoints, NAME.parquet with a column chunk_id, and `answers` the files that belong to them,
    NAME-*.parquet.
    """
    ids: set[str] = set()
    damaged = 0
    for checkpoint in sorted(committed.glob("*.parquet")):
        if checkpoint.name.endswith(PENDING_SUFFIX):
            continue
        answered = sorted(answers.glob(f"{checkpoint.stem}-*.parquet"))
        found = _chunk_ids([checkpoint])
        if found is not None and found == _chunk_ids(answered):
            ids |= set(found)
            continue
        damaged += 1
        for path in (*answered, checkpoint):  # the checkpoint first would leave answers without one, which would be included
            path.unlink()
    return SettledChunks(frozenset(ids), damaged)


def _chunk_ids(paths: Iterable[Path]) -> list[str] | None:
    """The chunks in these files, sorted; None if a file is damaged."""
    contents = [path.read_bytes() for path in paths]  # a file that the system cannot read is not damaged, so this raises
    try:
        return sorted(chunk_id for data in contents for chunk_id in pq.read_table(pa.BufferReader(data))["chunk_id"].to_pylist())
    except (pa.ArrowInvalid, OSError):  # pyarrow's two errors for a damaged file
        return None
