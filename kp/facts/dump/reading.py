"""From a dump to its reduced graph: one pass over the files, then passes over hashes on disk, all in bounded memory.

The text is read once. Each statement becomes a few numbers and, if its pair may still be single-valued, two IRIs (see kp.facts.dump.parsing
and spill); the rest is counting (see merging). A file is read independently of other files, so files can be read anywhere: one after the
other here, or as tasks of a Ray cluster (kp.study.dump_reading).
"""

import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from kp.facts.dump.blocks import reading_blocks
from kp.facts.dump.files import Compression, DumpFile, find_files
from kp.facts.dump.merging import FileReading, merge
from kp.facts.dump.parsing import OTHER_VALUE, Parser
from kp.facts.dump.reasons import NO_STATEMENT, UNREADABLE
from kp.facts.dump.spill import Partitions, Spill
from kp.store.files import write_json

COUNTS_FILE = "counts.json"
PARTITION_ROWS = 1 << 20  # target number of statements per partition: some 150 MB while it is processed
MOST_BITS = 12
_TEXT_OF = {Compression.NONE: 1, Compression.GZIP: 12, Compression.BZIP2: 17}  # bytes of text per stored byte, for DBpedia's files
_LINE = 140  # bytes


@dataclass(frozen=True)
class GraphCounts:
    """The counts of a dump; also written as counts.json."""

    files: int
    lines: int
    triples: int  # between two entities; repeated ones count each time
    distinct_triples: int
    entities: int
    relations: int
    pairs: int  # single-valued (subject, relation) pairs between entities
    set_aside: int  # lines that are (or should be) statements and became no triple
    unreadable: int  # of these, for a reason of UNREADABLE

    @property
    def statements(self) -> int:
        """Lines that are or should be statements: all but comments and blank lines."""
        return self.triples + self.set_aside


def read_graph(source: str, folder: Path, workers: int | None = None, language: str = "en") -> GraphCounts:
    """Read a dump and write its reduced graph into `folder` (created if missing).

    The files are pairs.parquet (GRAPH_PAIRS), relations.parquet (GRAPH_RELATIONS), aliases.parquet (GRAPH_ALIASES), set_aside.parquet
    (SET_ASIDE) and counts.json. Labels and aliases are those that the dump states in `language`, a code such as "en". A pair is
    single-valued if the dump has one distinct object for it, which is an entity: a helper node, a literal or a blank node is another value.
    A repeated triple counts once, in all tables. `workers` is the number of cores to use (all if None); it changes only the time. `folder`
    temporarily needs space for about a third of the dump's text. Raises UserError naming `facts.source` and the file if one cannot be read,
    is damaged or is truncated.
    """
    workers = workers or os.cpu_count() or 1
    files = find_files(source)
    folder.mkdir(parents=True, exist_ok=True)
    partitions = partitions_for(files)
    with tempfile.TemporaryDirectory(prefix=".spill-", dir=folder) as name:
        spill = Path(name)
        readings = [read_file(file, spill / f"file-{number}", partitions, workers, language) for number, file in enumerate(files)]
        return finish(readings, folder, spill, partitions, workers)


def partitions_for(files: list[DumpFile]) -> Partitions:
    """The number of partitions of a dump, from its stored size."""
    statements = sum(file.size * _TEXT_OF[file.compression] for file in files) // _LINE
    return Partitions(min(MOST_BITS, max(1, (statements // PARTITION_ROWS).bit_length())))


def read_file(file: DumpFile, folder: Path, partitions: Partitions, workers: int, language: str) -> FileReading:
    """Read one file; its rows go into `folder`, which must not exist."""
    parser, spill, triples = Parser(language), Spill(folder, partitions), 0
    with reading_blocks(file, workers) as blocks:
        for block in blocks:
            rows = parser.parse(block)
            triples += sum(int((some.kinds != OTHER_VALUE).sum()) for some in rows)
            spill.add(rows, parser.taken_labels())
    spill.write()
    return FileReading(file.address, folder, parser.lines, triples, tuple(parser.relations.names), parser.set_aside)


def finish(readings: list[FileReading], folder: Path, spill: Path, partitions: Partitions, workers: int) -> GraphCounts:
    """Merge the readings of all files, and write the reduced graph."""
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
