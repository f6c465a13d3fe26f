"""`kp bench dump`: how fast a dump becomes a reduced graph, with kp's reader and with the notebook's loop over the same file.

The speed of a shared machine changes from minute to minute, so all implementations take a turn in every round, and their order rotates.
Each turn has a new process, the only one that computes. That both readers read the same is checked once: counts, single-valued pairs by
relation and bucket, and a digest of the whole set of pairs.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from kp.bench.dump_implementations import (
    Floor,
    GraphSummary,
    Reader,
    kp_decompresses,
    kp_goes_all_the_way,
    kp_reads,
    loop_reads,
    make_dump,
    make_prefix,
    stdlib_decompresses,
    summary_of_folder,
)
from kp.bench.dump_outcome import Record, Turn, outcome
from kp.bench.dump_table import markdown, text
from kp.bench.measured import measured
from kp.bench.options import DumpOptions
from kp.bench.output import log, save_result, validate_folder


def run_dump(options: DumpOptions) -> int:
    """Run the benchmark, print its table, and write the requested files; returns the exit code, 1 if the two graphs differ."""
    validate_folder(options.json)
    result = benchmark(options)
    save_result(result, text, markdown, options.json)
    return 0 if result["agreement"]["equal"] else 1


def benchmark(options: DumpOptions) -> dict[str, Any]:
    """The result of a benchmark, as `kp.bench.dump_outcome` describes it."""
    with _temporary(options.folder) as scratch:
        log(f"makes or finds a dump of {options.triples:,} lines")
        dump = measured(make_dump, options.folder or scratch, options.triples, options.seed, options.streams, options.processes).result
        prefix = dump if options.loop_lines == options.triples else measured(make_prefix, dump, options.loop_lines).result
        record = Record()
        turns: list[Callable[[], str]] = [
            lambda: _kp_turn(options, dump, scratch, record),
            lambda: _loop_turn(prefix, record),
            lambda: _whole_way_turn(options, dump, scratch, record),
            lambda: _floor_turn(options, dump, record),
        ]
        for number in range(options.rounds):
            first = number % len(turns)
            for turn in [*turns[first:], *turns[:first]]:
                log(f"round {number + 1}: {turn()}")
        record.graphs[Reader.KP] = _kp_graph(options, prefix, scratch)
        return outcome(options, dump.stat().st_size, record)


@contextmanager
def _temporary(folder: Path | None) -> Iterator[Path]:
    """A folder for graphs, and for the dump if it need not be kept."""
    with TemporaryDirectory(prefix="kp-bench-", dir=folder) as name:
        yield Path(name)


def _kp_turn(options: DumpOptions, dump: Path, scratch: Path, record: Record) -> str:
    with _temporary(scratch) as folder:
        read = measured(kp_reads, dump, folder, options.processes)
    record.turns[Reader.KP].append(Turn(read.result.seconds, read.peak_memory))
    return f"kp in {read.result.seconds:.1f} s"


def _loop_turn(prefix: Path, record: Record) -> str:
    read = measured(loop_reads, prefix)
    seconds, record.graphs[Reader.LOOP] = read.result
    record.turns[Reader.LOOP].append(Turn(seconds, read.peak_memory))
    return f"python loop in {seconds:.1f} s"


def _whole_way_turn(options: DumpOptions, dump: Path, scratch: Path, record: Record) -> str:
    with _temporary(scratch) as folder:
        gone = measured(kp_goes_all_the_way, dump, folder, options.processes)
    record.ways.append((gone.result, gone.peak_memory))
    return f"kp from dump to facts in {gone.result.seconds:.1f} s"


def _floor_turn(options: DumpOptions, dump: Path, record: Record) -> str:
    ours, stdlib = measured(kp_decompresses, dump, options.processes).result, measured(stdlib_decompresses, dump).result
    record.floors[Floor.KP].append(ours)
    record.floors[Floor.STDLIB].append(stdlib)
    return f"decompression alone in {ours.seconds:.1f} s, by the standard library in {stdlib.seconds:.1f} s"


def _kp_graph(options: DumpOptions, prefix: Path, scratch: Path) -> GraphSummary:
    """kp's graph of the lines that the loop read, for the comparison; made in an untimed run, so that all turns are alike."""
    with _temporary(scratch) as folder:
        counts = measured(kp_reads, prefix, folder, options.processes).result
        return measured(summary_of_folder, folder, counts).result
