"""From the spilled files of a dump to its reduced graph: pairs.parquet, relations.parquet, aliases.parquet, set_aside.parquet.

Popularity needs every entity's density, the number of distinct triples with the entity as subject or object (a triple with the entity as
both counts once; lines that were set aside, including helper nodes and literals, do not count). Entities are sorted by decreasing density
and divided where the sum of densities reaches its thirds, as in Sun et al., by the rule of kp.facts.popularity.

There are four passes over hash partitions, with one partition in memory at a time: count, add up mentions, divide, write. Results are in
the order of the partitions, which depends only on the dump, not on the number of workers or the order of files or lines.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kp.facts.dump.counting import Counted, Counts, Statements, count
from kp.facts.dump.entity_names import local_name
from kp.facts.dump.naming import ALIASES_FILE, ENTITY_LABELS, NamedEntities, named_entities, relation_labels
from kp.facts.dump.parsing import SetAsideLog
from kp.facts.dump.reasons import SetAside
from kp.facts.dump.schema import GRAPH_ALIASES, GRAPH_PAIRS, GRAPH_RELATIONS, SET_ASIDE
from kp.facts.dump.spans import Hashes
from kp.facts.dump.spill import NUMBERS, TEXTS, Partitions, read_batch, spilled, write_batches
from kp.facts.popularity import BUCKETS, buckets_of_counts
from kp.schema import write_table

PAIRS_FILE, RELATIONS_FILE, SET_ASIDE_FILE = "pairs.parquet", "relations.parquet", "set_aside.parquet"
SLICE = 1 << 24  # densities processed together
MOST_EXAMPLES = 20  # per reason
ONTOLOGY = "http://dbpedia.org/ontology/"  # its relations keep a local name that other vocabularies share

T = TypeVar("T")


@dataclass(frozen=True)
class FileReading:
    """The result of reading one file: rows in `folder`, and what is small in memory. `relations` are IRIs in the order of their numbers."""

    address: str
    folder: Path
    lines: int
    triples: int  # repeated ones count each time
    relations: tuple[str, ...]
    set_aside: SetAsideLog


@dataclass(frozen=True)
class Merged:
    """The sums over a whole dump."""

    distinct_triples: int
    entities: int
    relations: int
    pairs: int


@dataclass(frozen=True)
class _Entities:
    """All entities of a dump, on disk: sorted hashes, and the density and the label (or null) of each."""

    hashes: Hashes
    degrees: npt.NDArray[np.uint32]
    labels: pa.ChunkedArray

    def degrees_and_labels(self, hashes: Hashes) -> tuple[Counts, pa.Array]:
        """Those of each of these entities, which must exist. They are looked up in sorted order, which suits the page cache."""
        order = pl.Series(hashes).arg_sort().to_numpy()
        places = np.empty(len(hashes), dtype=np.int64)
        places[order] = np.searchsorted(self.hashes, hashes[order])
        if self.labels.null_count == len(self.labels):
            return self.degrees[places].astype(np.int64), pa.nulls(len(places), pa.string())
        return self.degrees[places].astype(np.int64), self.labels.take(pa.array(places)).cast(pa.string()).combine_chunks()


def merge(readings: list[FileReading], folder: Path, spill: Path, partitions: Partitions, workers: int) -> Merged:
    """Write the four tables of the reduced graph into `folder`; `spill` is for the files between passes."""
    iris = sorted({iri for reading in readings for iri in reading.relations})
    folders = [reading.folder for reading in readings]
    with ThreadPoolExecutor(workers) as pool:
        sums = [np.zeros(len(iris), dtype=np.int64) for _ in range(3)]
        for counted in _in_order(pool, lambda number: _count(number, readings, iris, spill, partitions), range(partitions.count), workers):
            sums = [total + more for total, more in zip(sums, (counted.triples, counted.subjects, counted.pairs), strict=True)]
        triples, subjects, pairs = sums
        names = _names_if_used(iris, triples)
        entities = _add_up(folders, folder, spill, partitions, pool, workers)
        least = least_degrees(entities.degrees)
        with pq.ParquetWriter(folder / PAIRS_FILE, GRAPH_PAIRS, compression="zstd", use_dictionary=["relation", "popularity"]) as writer:
            tables = _in_order(
                pool, lambda number: _pairs(number, readings, names, spill, entities, least), range(partitions.count), workers
            )
            for table in tables:
                writer.write_table(table)
    labels = relation_labels(iris, folders, partitions)
    columns = {"relation": names, "iri": iris, "label": labels, "triples": triples, "subjects": subjects, "pairs": pairs}
    relations = pa.table(columns).filter(pc.field("triples") > 0).sort_by([("triples", "descending"), ("iri", "ascending")])
    write_table(relations, GRAPH_RELATIONS, folder / RELATIONS_FILE)
    write_table(set_aside_table(readings), SET_ASIDE, folder / SET_ASIDE_FILE)
    return Merged(int(triples.sum()), len(entities.hashes), relations.num_rows, int(pairs.sum()))


def _names_if_used(iris: list[str], triples: Counts) -> list[str]:
    """The name of each of these sorted IRIs, empty for those that no triple has: an unreadable line may have any IRI as its second one."""
    used = [iri for iri, count_ in zip(iris, triples.tolist(), strict=True) if count_]
    names = dict(zip(used, relation_names(used), strict=True))
    return [names.get(iri, "") for iri in iris]


def relation_names(iris: list[str]) -> list[str]:
    """The name of each of these sorted IRIs: its local name. If several share one, DBpedia's ontology has it, otherwise the first."""
    owner: dict[str, str] = {}
    for iri in sorted(iris, key=lambda iri: (not iri.startswith(ONTOLOGY), iri)):
        owner.setdefault(local_name(iri), iri)
    return [local_name(iri) if owner[local_name(iri)] == iri else iri for iri in iris]


def least_degrees(degrees: npt.NDArray[np.uint32]) -> tuple[int, int]:
    """The lowest densities of head and torso entities; both are 0 if there are no entities."""
    entities: Counter[int] = Counter()
    for start in range(0, len(degrees), SLICE):
        values, counts = np.unique(degrees[start : start + SLICE], return_counts=True)
        entities.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
    buckets = buckets_of_counts(entities)
    head, torso = ([degree for degree, bucket in buckets.items() if bucket in BUCKETS[:number]] for number in (1, 2))
    return min(head, default=0), min(torso, default=0)


def set_aside_table(readings: list[FileReading]) -> pa.Table:
    """SET_ASIDE, by decreasing number of lines; the examples are those of the first files."""
    lines: Counter[SetAside] = Counter()
    examples: dict[SetAside, list[dict[str, object]]] = {}
    for reading in readings:
        lines.update(reading.set_aside.counts)
        for reason, found in reading.set_aside.examples.items():
            examples.setdefault(reason, []).extend({"file": reading.address, "line": one.line, "begins": one.begins} for one in found)
    rows = [
        {"reason": reason.value, "lines": lines[reason], "examples": examples[reason][:MOST_EXAMPLES]}
        for reason in sorted(lines, key=lambda reason: (-lines[reason], reason))
    ]
    return pa.Table.from_pylist(rows, schema=SET_ASIDE)


def _in_order(pool: ThreadPoolExecutor, work: Callable[[int], T], numbers: Iterable[int], ahead: int) -> Iterator[T]:
    """Results in order, with at most `ahead` of them in progress or waiting."""
    waiting: deque[Future[T]] = deque()
    for number in numbers:
        waiting.append(pool.submit(work, number))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _count(number: int, readings: list[FileReading], iris: list[str], spill: Path, partitions: Partitions) -> Counted:
    statements = _statements(number, readings, iris)
    counted = count(statements, len(iris))
    single = counted.single
    columns = {
        "subjects": statements.subjects[single],
        "relations": statements.relations[single],
        "objects": statements.objects[single],
        "texts": counted.texts,
    }
    write_batches(_singles(spill, number), columns, np.array([0, len(single)]))
    order, bounds = partitions.sorted(counted.mentions)
    write_batches(_mentions(spill, number), {"entity": counted.mentions[order]}, bounds)
    return counted


def _singles(spill: Path, number: int) -> Path:
    return spill / f"singles-{number}.arrow"


def _mentions(spill: Path, number: int) -> Path:
    return spill / f"mentions-{number}.arrow"


def _statements(number: int, readings: list[FileReading], iris: list[str]) -> Statements:
    parts: dict[str, list[npt.NDArray[np.generic]]] = {name: [] for name in NUMBERS}
    for reading in readings:
        renumbered = np.searchsorted(np.array(iris, dtype=object), np.array(reading.relations, dtype=object)).astype(np.uint32)
        for path in spilled(reading.folder, "rows"):
            batch = read_batch(path, number)
            for name in NUMBERS:
                column = batch.column(name).to_numpy()
                parts[name].append(renumbered[column] if name == "relations" else column)
    kinds = (np.uint64, np.uint32, np.uint64, np.uint8)
    joined = [np.concatenate([np.zeros(0, dtype=kind), *parts[name]]) for name, kind in zip(NUMBERS, kinds, strict=True)]
    return Statements(*joined)


def _add_up(folders: list[Path], folder: Path, spill: Path, partitions: Partitions, pool: ThreadPoolExecutor, workers: int) -> _Entities:
    """The entities of all files, whose rows are in `folders`; their aliases are written to `folder`."""

    def added(number: int) -> tuple[pl.DataFrame, NamedEntities]:
        parts = [read_batch(_mentions(spill, other), number).column("entity") for other in range(partitions.count)]
        mentions = pl.Series("entity", pa.chunked_array(parts))
        counts = mentions.value_counts().sort("entity")
        return counts, named_entities(counts["entity"], folders, number)

    files = [spill / name for name in ("hashes.bin", "degrees.bin", "entity-labels.arrow")]
    hashes_file, degrees_file, labels_file = files
    with (
        hashes_file.open("wb") as hashes,
        degrees_file.open("wb") as degrees,
        pa.OSFile(str(labels_file), "wb") as sink,
        pa.ipc.new_file(sink, ENTITY_LABELS) as labels,
        pq.ParquetWriter(folder / ALIASES_FILE, GRAPH_ALIASES, compression="zstd") as aliases,
    ):
        for counts, named in _in_order(pool, added, range(partitions.count), workers):
            counts["entity"].to_numpy().tofile(hashes)
            counts["count"].to_numpy().astype(np.uint32).tofile(degrees)
            labels.write_batch(named.labels)
            if named.aliases.num_rows:
                aliases.write_table(named.aliases)
    stated = pa.ipc.open_file(pa.memory_map(str(labels_file))).read_all().column(0)
    if not hashes_file.stat().st_size:
        return _Entities(np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.uint32), stated)
    return _Entities(np.memmap(hashes_file, dtype=np.uint64, mode="r"), np.memmap(degrees_file, dtype=np.uint32, mode="r"), stated)


def _pairs(
    number: int, readings: list[FileReading], names: list[str], spill: Path, entities: _Entities, least: tuple[int, int]
) -> pa.Table:
    single = read_batch(_singles(spill, number), 0)
    if not single.num_rows:
        return GRAPH_PAIRS.empty_table()
    texts = pa.Table.from_batches([read_batch(path, number) for reading in readings for path in spilled(reading.folder, "texts")])
    taken = texts.take(single.column("texts"))
    subject, object_ = (taken.column(name).cast(pa.large_string()).cast(pa.string()) for name in TEXTS)
    found = [entities.degrees_and_labels(single.column(name).to_numpy()) for name in ("subjects", "objects")]
    degrees, labels = zip(*found, strict=True)
    bucket = np.searchsorted(np.array([-least[0], -least[1]]), -degrees[0])
    relation, popularity = pc.take(pa.array(names), single.column("relations")), pc.take(pa.array(BUCKETS), pa.array(bucket))
    columns = [subject, relation, object_, *degrees, popularity, *labels]
    return pa.table(dict(zip(GRAPH_PAIRS.names, columns, strict=True)), schema=GRAPH_PAIRS)
