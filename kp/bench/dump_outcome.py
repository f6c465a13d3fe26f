"""From measurements to the saved result: plain JSON, every ratio with the counts and seconds that it was computed from.

dump           lines (comments not counted), bytes, bytes of text, streams
implementations
               by name: way, lines, seconds, lines_per_s, peak_memory (bytes, the most of all rounds), rounds
ratios         kp to loop: lines_per_s, over all rounds and in each; peak memory
whole_way      from dump to facts: seconds and the share of reading, lines_per_s, peak_memory, facts, relations
decompression  by library: seconds, text_bytes_per_s, and their share of kp's seconds
agreement      of the two graphs, over the lines that both read: counts, and whether they and the sets of pairs are equal
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from kp import __version__
from kp.bench.dump_implementations import Decompressed, Floor, GraphSummary, Reader, Way
from kp.bench.options import DumpOptions
from kp.store.hardware import hardware

WAYS = {
    Reader.KP: "kp.facts.dump.reading: one pass in bounded memory, all workers; the graph ends as parquet files",
    Reader.LOOP: "three passes of bz2.open, one regular expression a line, dictionaries; the graph ends in memory",
}
_COUNTS = ("triples", "set_aside", "entities", "pairs")


@dataclass(frozen=True)
class Turn:
    """One round of an implementation; memory in bytes."""

    seconds: float
    peak_memory: int


@dataclass
class Record:
    """The measurements, one entry per round; the graphs are those of the first round."""

    turns: dict[Reader, list[Turn]] = field(default_factory=lambda: {reader: [] for reader in Reader})
    ways: list[tuple[Way, int]] = field(default_factory=list)  # with the peak memory
    floors: dict[Floor, list[Decompressed]] = field(default_factory=lambda: {floor: [] for floor in Floor})
    graphs: dict[Reader, GraphSummary] = field(default_factory=dict)


def outcome(options: DumpOptions, size: int, record: Record) -> dict[str, Any]:
    """The result of a benchmark over a file of `size` bytes."""
    lines = {Reader.KP: options.triples, Reader.LOOP: options.loop_lines}
    implementations = {reader: _implementation(reader, lines[reader], turns) for reader, turns in record.turns.items()}
    return {
        "bench": "dump",
        "machine": hardware() | {"workers": options.processes},
        "versions": {"kp": __version__} | {name: version(name) for name in ("polars", "pyarrow", Floor.KP.value)},
        "settings": {name: getattr(options, name) for name in ("triples", "loop_triples", "rounds", "seed", "workers", "streams")},
        "dump": {
            "lines": options.triples,
            "bytes": size,
            "text_bytes": record.floors[Floor.STDLIB][0].text_bytes,
            "streams": options.streams.value,
        },
        "implementations": {reader.value: entry for reader, entry in implementations.items()},
        "ratios": {Reader.LOOP.value: _ratio(implementations)},
        "whole_way": _whole_way(options.triples, record.ways),
        "decompression": _decompression(record.floors, record.turns[Reader.KP]),
        "agreement": agreement_of_graphs(options.loop_lines, record.graphs[Reader.KP], record.graphs[Reader.LOOP]),
    }


def _implementation(reader: Reader, lines: int, turns: Sequence[Turn]) -> dict[str, Any]:
    seconds = sum(turn.seconds for turn in turns)
    return {
        "way": WAYS[reader],
        "lines": lines,
        "seconds": seconds,
        "lines_per_s": lines * len(turns) / seconds,
        "peak_memory": max(turn.peak_memory for turn in turns),
        "rounds": [{"seconds": turn.seconds, "lines_per_s": lines / turn.seconds, "peak_memory": turn.peak_memory} for turn in turns],
    }


def _ratio(implementations: Mapping[Reader, Mapping[str, Any]]) -> dict[str, Any]:
    kp, loop = implementations[Reader.KP], implementations[Reader.LOOP]
    return {
        "all": kp["lines_per_s"] / loop["lines_per_s"],
        "rounds": [ours["lines_per_s"] / theirs["lines_per_s"] for ours, theirs in zip(kp["rounds"], loop["rounds"], strict=True)],
        "peak_memory": kp["peak_memory"] / loop["peak_memory"],
    }


def _whole_way(lines: int, ways: Sequence[tuple[Way, int]]) -> dict[str, Any]:
    seconds, last = sum(way.seconds for way, _ in ways), ways[-1][0]
    return {
        "seconds": seconds,
        "share_of_reading": sum(way.reading_seconds for way, _ in ways) / seconds,
        "lines_per_s": lines * len(ways) / seconds,
        "peak_memory": max(peak for _, peak in ways),
        "rounds": [{"seconds": way.seconds, "reading_seconds": way.reading_seconds, "peak_memory": peak} for way, peak in ways],
        "facts": last.facts,
        "relations": last.relations,
    }


def _decompression(floors: Mapping[Floor, Sequence[Decompressed]], kp_turns: Sequence[Turn]) -> dict[str, Any]:
    kp_seconds = sum(turn.seconds for turn in kp_turns)
    found = {}
    for floor, runs in floors.items():
        seconds = sum(run.seconds for run in runs)
        found[floor.value] = {
            "seconds": seconds,
            "text_bytes_per_s": sum(run.text_bytes for run in runs) / seconds,
            "share_of_kp": seconds / kp_seconds,
        }
    return found


def agreement_of_graphs(lines: int, kp: GraphSummary, loop: GraphSummary) -> dict[str, Any]:
    """Whether two graphs read from the same `lines` lines are equal."""
    cells = kp.cells.keys() | loop.cells.keys()
    return {
        "lines": lines,
        **{name: {"kp": getattr(kp, name), "loop": getattr(loop, name)} for name in _COUNTS},
        "cells": len(cells),  # of a relation and a bucket
        "equal_cells": sum(kp.cells.get(cell) == loop.cells.get(cell) for cell in cells),
        "pairs_digest": {"kp": kp.digest, "loop": loop.digest},
        "equal": kp == loop,
    }
