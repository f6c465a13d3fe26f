"""Statements on disk, by partition, so that a dump of any size can be grouped by subject in the memory of one partition.

A partition is a range of subject hashes, the same for every file of a dump. About a million rows at a time are written as one arrow file
with a record batch per partition. Nothing is compressed, because these files exist for minutes and mostly in the page cache.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kp.facts.dump.labels import Labels
from kp.facts.dump.parsing import SPELLED, Rows
from kp.facts.dump.spans import Hashes

HELD_ROWS = 1 << 20  # statements in memory before they are written
NUMBERS = ("subjects", "relations", "objects", "kinds")
TEXTS = ("subject_text", "object_text")
LABELS = ("subjects", "ranks", "subject_texts", "texts")

Column = npt.NDArray[np.generic]


@dataclass(frozen=True)
class Partitions:
    """2 ** bits ranges of 64-bit hashes."""

    bits: int

    @property
    def count(self) -> int:
        """The number of partitions."""
        return 1 << self.bits

    def of(self, hashes: Hashes) -> npt.NDArray[np.uint16]:
        """The partition of each hash."""
        return (hashes >> np.uint64(64 - self.bits)).astype(np.uint16)

    def sorted(self, hashes: Hashes) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """The rows in the order of their partitions, and the start of each partition among them, followed by the number of rows."""
        partition = self.of(hashes)
        bounds = np.concatenate(([0], np.cumsum(np.bincount(partition, minlength=self.count))))
        return np.argsort(partition, kind="stable"), bounds


class Spill:
    """Collects the rows of one file and writes them into a separate folder."""

    def __init__(self, folder: Path, partitions: Partitions) -> None:
        self._folder, self._partitions = folder, partitions
        self._held: list[Rows] = []
        self._held_labels: list[Labels] = []
        self._written = self._written_labels = 0
        folder.mkdir(parents=True)

    def add(self, rows: Sequence[Rows], labels: Sequence[Labels] = ()) -> None:
        """Add some rows and labels."""
        self._held += rows
        self._held_labels += labels
        if sum(len(some.kinds) for some in self._held) >= HELD_ROWS:
            self.write()

    def write(self) -> None:
        """Write what is in memory."""
        if self._held:
            self._write_rows()
        if self._held_labels:
            self._write_labels()

    def _write_labels(self) -> None:
        """A label has a row too, as another value of its pair, so labels are never more than the rows held."""
        columns = {name: _joined([getattr(labels, name) for labels in self._held_labels]) for name in LABELS}
        self._held_labels = []
        order, bounds = self._partitions.sorted(columns["subjects"].to_numpy())
        taken = {name: column.take(pa.array(order)) for name, column in columns.items()}
        write_batches(self._folder / f"labels-{self._written_labels}.arrow", taken, bounds)
        self._written_labels += 1

    def _write_rows(self) -> None:
        joined = {name: np.concatenate([getattr(rows, name) for rows in self._held]) for name in NUMBERS}
        texts = [pa.concat_arrays([getattr(rows, f"{text}s") for rows in self._held]) for text in TEXTS]
        self._held = []
        order, bounds = self._partitions.sorted(joined["subjects"])
        columns = {name: column[order] for name, column in joined.items()}
        spelled = columns["kinds"] == SPELLED
        ordinal = np.cumsum(joined["kinds"] == SPELLED) - 1
        text_order = pa.array(ordinal[order[spelled]])
        text_bounds = np.concatenate(([0], np.cumsum(spelled)))[bounds]
        write_batches(self._folder / f"rows-{self._written}.arrow", columns, bounds)
        taken = {name: text.take(text_order) for name, text in zip(TEXTS, texts, strict=True)}
        write_batches(self._folder / f"texts-{self._written}.arrow", taken, text_bounds)
        self._written += 1


def _joined(arrays: Sequence[Column | pa.Array]) -> pa.Array:
    return pa.concat_arrays([pa.array(array) for array in arrays])


def write_batches(path: Path, columns: Mapping[str, Column | pa.Array], bounds: npt.NDArray[np.intp]) -> None:
    """An arrow file with a record batch for each pair of neighbouring bounds."""
    batch = pa.record_batch({name: pa.array(column) for name, column in columns.items()})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            writer.write_batch(batch.slice(start, end - start))


def read_batch(path: Path, number: int) -> pa.RecordBatch:
    """One record batch of a memory-mapped arrow file."""
    return pa.ipc.open_file(pa.memory_map(str(path))).get_batch(number)


def spilled(folder: Path, kind: str) -> Iterator[Path]:
    """The files of one kind ("rows", "texts", "labels") that a Spill wrote to `folder`, in the order of writing."""
    number = 0
    while (path := folder / f"{kind}-{number}.arrow").exists():
        yield path
        number += 1
