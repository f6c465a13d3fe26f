"""The files in which an interrupted run left its chunks, and which of them can be trusted.

Ray Data writes a chunk's answers under a pending checkpoint and commits the chunk by giving the checkpoint its final name. What a killed
process leaves between the two Ray Data clears away when it resumes. But it believes a checkpoint that has its name, and a machine that went
down, or a disk that was full, may keep names and lose contents. So before a run resumes, every committed chunk is read back here.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

PENDING_SUFFIX = ".pending.parquet"


@dataclass(frozen=True)
class SettledChunks:
    """What an interrupted run is worth: the ids of the chunks that are wholly there, and how many files' chunks had to be dropped."""

    ids: frozenset[str]
    damaged: int


def settle_chunks(committed: Path, answers: Path) -> SettledChunks:
    """Read back every committed chunk; the files of one whose checkpoint and answers are not both whole are deleted, to be made again.

    `committed` holds Ray Data's checkpoints, NAME.parquet with a column chunk_id, and `answers` what belongs to them, NAME-*.parquet.
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
        for path in (*answered, checkpoint):  # the checkpoint last: answers without one would be taken along
            path.unlink()
    return SettledChunks(frozenset(ids), damaged)


def _chunk_ids(paths: Iterable[Path]) -> list[str] | None:
    """The chunks in these files, sorted; None where the contents of one make no sense."""
    contents = [path.read_bytes() for path in paths]  # what the system refuses to read is no damage, and raises
    try:
        return sorted(chunk_id for data in contents for chunk_id in pq.read_table(pa.BufferReader(data))["chunk_id"].to_pylist())
    except (pa.ArrowInvalid, OSError):  # pyarrow's two words for that
        return None
