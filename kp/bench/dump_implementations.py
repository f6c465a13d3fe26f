"""What `kp bench dump` times, each a function that runs in its own process: kp's reader, the Python loop, everything from dump to facts,
and decompression alone, which is a lower limit for every reader.

Packages are imported inside the functions, before the clock starts: the loop's process must not have polars in its memory. Both readers end
with a `GraphSummary`, made after the clock has stopped.
"""

import bz2
import hashlib
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from kp.bench.options import Streams

PER_BUCKET = 1000
_PIECE = 1 << 20  # bytes, of text


class Reader(StrEnum):
    """The readers that take part."""

    KP = "kp"
    LOOP = "python loop"


class Floor(StrEnum):
    """What only decompresses the file."""

    KP = "rapidgzip"
    STDLIB = "bz2 (stdlib)"


@dataclass(frozen=True)
class GraphSummary:
    """A reduced graph in a few numbers; if they are equal, the graphs are equal."""

    triples: int  # between entities
    set_aside: int  # lines, comments not counted
    entities: int
    pairs: int  # single-valued
    cells: dict[tuple[str, str], int]  # single-valued pairs by relation and bucket of the subject
    digest: str  # of the set of these pairs, with objects, buckets and degrees


@dataclass(frozen=True)
class Read:
    """One turn of kp's reader: seconds, and the counts that it returns."""

    seconds: float
    triples: int
    set_aside: int
    entities: int


@dataclass(frozen=True)
class Way:
    """Everything from dump to facts: seconds, the seconds of reading, and the result."""

    seconds: float
    reading_seconds: float
    facts: int
    relations: int  # with facts


@dataclass(frozen=True)
class Decompressed:
    """Seconds, and the bytes of decompressed text."""

    seconds: float
    text_bytes: int


def make_dump(folder: Path, triples: int, seed: int, streams: Streams, workers: int) -> Path:
    """The dump, made or found in `folder`."""
    from kp.bench.synthetic_dump import DumpParameters, made_dump

    return made_dump(folder, DumpParameters(triples, seed, streams), workers)


def make_prefix(dump: Path, triples: int) -> Path:
    """Its first lines as a file next to it, made or found."""
    from kp.bench.synthetic_dump import made_prefix

    return made_prefix(dump, triples)


def kp_reads(dump: Path, folder: Path, workers: int) -> Read:
    """kp's reader, which writes the reduced graph to `folder`."""
    from kp.facts.dump.reading import read_graph

    start = time.perf_counter()
    counts = read_graph(str(dump), folder, workers)
    return Read(time.perf_counter() - start, counts.triples, counts.set_aside, counts.entities)


def loop_reads(dump: Path) -> tuple[float, GraphSummary]:
    """Seconds of the Python loop, and the graph that it built in memory."""
    from kp.bench.python_loop import read_dump

    start = time.perf_counter()
    graph = read_dump(dump)
    seconds = time.perf_counter() - start
    rows = (
        (subject, relation, value, bucket, graph.density[subject], graph.density[value])
        for (relation, bucket), pairs in graph.pairs.items()
        for subject, value in pairs
    )
    cells = {cell: len(pairs) for cell, pairs in graph.pairs.items()}
    return seconds, GraphSummary(graph.triples, graph.set_aside, len(graph.density), sum(cells.values()), cells, set_digest(rows))


def kp_goes_all_the_way(dump: Path, folder: Path, workers: int) -> Way:
    """From dump to facts, at most PER_BUCKET of each relation and bucket, far more than any study measures."""
    from kp.config.study import GraphConfig
    from kp.facts.dump.facts import facts_of_graph
    from kp.facts.dump.reading import read_graph

    start = time.perf_counter()
    read_graph(str(dump), folder, workers)
    read = time.perf_counter()
    made = facts_of_graph(folder, GraphConfig(per_bucket=PER_BUCKET), 0, dump.name)
    end = time.perf_counter()
    relations = len(set(made.facts["relation"].to_pylist()))
    return Way(end - start, read - start, made.facts.num_rows, relations)


def kp_decompresses(dump: Path, workers: int) -> Decompressed:
    """The library with which kp reads bzip2, using all workers."""
    import rapidgzip

    start, size, piece = time.perf_counter(), 0, bytearray(_PIECE)
    with rapidgzip.IndexedBzip2File(str(dump), parallelization=workers) as text:
        while got := text.readinto(piece):
            size += got
    return Decompressed(time.perf_counter() - start, size)


def stdlib_decompresses(dump: Path) -> Decompressed:
    """The standard library's bz2, which has one thread."""
    start, size, piece = time.perf_counter(), 0, bytearray(_PIECE)
    with bz2.open(dump) as text:
        while got := text.readinto(piece):
            size += got
    return Decompressed(time.perf_counter() - start, size)


def set_digest(rows: Iterable[tuple[str, str, str, str, int, int]]) -> str:
    """A 128-bit digest of rows that does not depend on their order: the sum of the rows' digests."""
    total = 0
    for row in rows:
        total += int.from_bytes(hashlib.blake2b("\t".join(map(str, row)).encode(), digest_size=16).digest())
    return f"{total % 2**128:032x}"


def summary_of_folder(folder: Path, read: Read) -> GraphSummary:
    """The summary of what kp's reader wrote to `folder`; read in portions, because there may be millions of pairs."""
    import pyarrow.parquet as pq

    columns = ["subject", "relation", "object", "popularity", "subject_degree", "object_degree"]
    cells: Counter[tuple[str, str]] = Counter()

    def rows() -> Iterator[tuple[str, str, str, str, int, int]]:
        for batch in pq.ParquetFile(folder / "pairs.parquet").iter_batches(columns=columns):
            subjects, relations, objects, buckets, subject_degrees, object_degrees = (batch[name].to_pylist() for name in columns)
            cells.update(zip(relations, buckets, strict=True))
            yield from zip(subjects, relations, objects, buckets, subject_degrees, object_degrees, strict=True)

    digest = set_digest(rows())
    return GraphSummary(read.triples, read.set_aside, read.entities, cells.total(), dict(cells), digest)
