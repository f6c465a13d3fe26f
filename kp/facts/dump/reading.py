"""From a dump to its reduced graph: one pass over the files, then passes over hashes on disk, all in bounded memory.

The text is gone through once. What each line states leaves as a few numbers and, where its pair may yet turn out to be single-valued, as
two IRIs (see kp.facts.dump.parsing and spill); the rest is counting (see merging). Reading a file knows nothing of other files, so files
can be read anywhere: one after the other here, or as tasks of a Ray cluster (kp.study.dump_reading).
"""

import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from kp.facts.dump.blocks import reading_blocks
from kp.facts.dump.files import Compression, DumpFile, find_files
from kp.facts.dump.merging import FileReading, merge
from kp.facts.dump.parsing import OTHER_VALUE, Parser
from kp.facts.dump.spill import Partitions, Spill
from kp.facts.dump.statements import NO_STATEMENT, UNREADABLE
from kp.store.files import write_json

COUNTS_FILE = "counts.json"
PARTITION_ROWS = 1 << 20  # statements wanted in a partition: some 150 MB where it is worked on
MOST_BITS = 12
_TEXT_OF = {Compression.NONE: 1, Compression.GZIP: 12, Compression.BZIP2: 17}  # bytes of text in a stored byte, on DBpedia's files
_LINE = 140  # bytes


@dataclass(frozen=True)
class GraphCounts:
    """What a dump was found to hold; also written as counts.json."""

    files: int
    lines: int
    triples: int  # read, between two entities; repeated ones count again
    distinct_triples: int
    entities: int
    relations: int
    pairs: int  # single-valued (subject, relation) pairs between entities
    set_aside: int  # lines that are statements, or should be, and became no triple
    unreadable: int  # of these, malformed or not UTF-8


def read_graph(source: str, folder: Path, workers: int | None = None) -> GraphCounts:
    """Read a dump and write its reduced graph into `folder` (made where it is not there).

    pairs.parquet (GRAPH_PAIRS), relations.parquet (GRAPH_RELATIONS), set_aside.parquet (SET_ASIDE), counts.json. A pair is single-valued if
    the dump gives it one distinct object, which is an entity: a helper node, a literal or a blank node is one more value. A triple that
    comes again counts once, in all tables. `workers` cores are used, all of them when None; they change nothing but the time. Space for
    about a third of the dump's text is needed in `folder` meanwhile. Raises UserError naming `facts.source` and the file where one cannot
    be read, is damaged or ends early.
    """
    workers = workers or os.cpu_count() or 1
    files = find_files(source)
    folder.mkdir(parents=True, exist_ok=True)
    partitions = partitions_for(files)
    with tempfile.TemporaryDirectory(prefix=".spill-", dir=folder) as name:
        spill = Path(name)
        readings = [read_file(file, spill / f"file-{number}", partitions, workers) for number, file in enumerate(files)]
        return finish(readings, folder, spill, partitions, workers)


def partitions_for(files: list[DumpFile]) -> Partitions:
    """How finely a dump is cut, by its size as stored."""
    statements = sum(file.size * _TEXT_OF[file.compression] for file in files) // _LINE
    return Partitions(min(MOST_BITS, max(1, (statements // PARTITION_ROWS).bit_length())))


def read_file(file: DumpFile, folder: Path, partitions: Partitions, workers: int) -> FileReading:
    """Read one file; its rows go into `folder`, which must not exist."""
    parser, spill, triples = Parser(), Spill(folder, partitions), 0
    with reading_blocks(file, workers) as blocks:
        for block in blocks:
            rows = parser.parse(block)
            triples += sum(int((some.kinds != OTHER_VALUE).sum()) for some in rows)
            spill.add(rows)
    spill.write()
    return FileReading(file.address, folder, parser.lines, triples, tuple(parser.relations.names), parser.set_aside)


def finish(readings: list[FileReading], folder: Path, spill: Path, partitions: Partitions, workers: int) -> GraphCounts:
    """Merge what was read of all files, and write what was found."""
    merged = merge(readings, folder, spill, partitions, workers)
    counts = [reading.set_aside.counts for reading in readings]
    graph = GraphCounts(
        files=len(readings),
        lines=sum(reading.lines for reading in readings),
        triples=sum(reading.triples for reading in readings),
        **asdict(merged),
        set_aside=sum(lines for some in counts for reason, lines in some.items() if reason not in NO_STATEMENT),
        unreadable=sum(some.get(reason, 0) for some in counts for reason in UNREADABLE),
    )
    write_json(folder / COUNTS_FILE, asdict(graph))
    return graph
