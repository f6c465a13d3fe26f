"""A synthetic dump in the format of DBpedia's mappingbased-objects, of any size.

A reader's speed depends on what it reads: the length of lines, how often names recur, how many objects a pair has. The real dump is too
large for a repository and has only one size. So this one has the real one's properties: lines of about 140 bytes sorted by subject between
`# started` and `# completed`, degrees following Zipf's law, relations of very unequal frequency, a third of the triples alone in their
(subject, relation) pair, one line in twenty with a helper node, a few literals and a few broken lines. A name is a function of the entity's
number, so only the current block is in memory, and any number of processes can make blocks in any order.

The lines of a block (250,000, some 35 MB) are one bzip2 stream of the file, as with parallel compressors; if one stream is requested, a
single process compresses, as `bzip2` does. Either way a compressed block holds 900 kB of text, as in the real dump.
"""

import bz2
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kp.bench.options import Streams
from kp.bench.synthetic_names import FIRST_SLOT, FIRST_WORDS, KINDS, SLOTS, Entities, Integers, Kind
from kp.bench.synthetic_relations import HELPER_RELATION, HELPERS, relation_table
from kp.store.files import digest_file, read_json, write_json

STARTED = b"# started 2021-09-02T13:44:07Z\n"
COMPLETED = b"# completed 2021-09-02T15:12:44Z\n"
RESOURCE, ONTOLOGY = "http://dbpedia.org/resource/", "http://dbpedia.org/ontology/"

_TRIPLES_PER_ENTITY = 3
_OBJECT_EXPONENT = 0.9  # of Zipf's law, for how often an entity is an object
_SUBJECT_EXPONENT = 0.3  # for how often it is a subject: flatter, because the rows of an infobox are limited
_MORE = 0.33  # of the geometric number of objects beyond the first, if there are several
_NEAR = 0.02  # share of triples whose object is the entity before the subject, which sometimes has the same name
_HELPERS, _LITERALS, _BROKEN = 0.05, 0.002, 0.0005  # shares of the lines
_LITERAL_ENDS = ('"The {name}"@en', '"{name} \\"II\\""', '"1987"^^<http://www.w3.org/2001/XMLSchema#gYear>', '"Caf\\u00E9 {name}"@fr')


@dataclass(frozen=True)
class DumpParameters:
    """Everything that determines a synthetic dump; `triples` counts its lines without the two comments."""

    triples: int
    seed: int
    streams: Streams
    block_lines: int = 250_000  # made at one time; with many streams, each block is a stream

    @property
    def blocks(self) -> int:
        """The number of blocks; each has its own first words, so there are at most as many blocks as first words."""
        return min(len(FIRST_WORDS), -(-self.triples // self.block_lines))

    @property
    def file_name(self) -> str:
        """A name for people; the record next to the file is what counts."""
        return f"synthetic-{self.triples}-seed{self.seed}-{self.streams.value}.ttl.bz2"


def made_dump(folder: Path, parameters: DumpParameters, workers: int) -> Path:
    """The dump with these parameters in `folder`, made unless it is already there with its record."""
    path = folder / parameters.file_name
    sources = [Path(__file__).with_name(f"synthetic_{part}.py") for part in ("dump", "names", "relations")]
    wanted = asdict(parameters) | {"generator": [digest_file(source) for source in sources]}
    return _with_record(path, wanted, lambda staged: _write(staged, parameters, workers))


def made_prefix(dump: Path, triples: int) -> Path:
    """The dump's first `triples` lines that are no comments, as a file next to it, made unless it is already there with its record."""
    path = dump.with_name(f"{dump.name.removesuffix('.ttl.bz2')}-first-{triples}.ttl.bz2")
    wanted = {"triples": triples, "prefix_of": digest_file(dump)}
    return _with_record(path, wanted, lambda staged: _write_prefix(staged, dump, triples))


def _with_record(path: Path, wanted: dict[str, object], write: Callable[[Path], None]) -> Path:
    """The record is written last: a file without the right one was left by a killed run, or by another generator."""
    record = path.with_name(f"{path.name}.json")
    if path.exists() and read_json(record) == wanted:
        return path
    record.unlink(missing_ok=True)
    staged = path.with_name(f".{path.name}.part")
    write(staged)
    staged.replace(path)
    write_json(record, wanted)
    return path


def _write(path: Path, parameters: DumpParameters, workers: int) -> None:
    make = _compressed_block if parameters.streams is Streams.MANY else block_text
    compressor = bz2.BZ2Compressor() if parameters.streams is Streams.ONE else None
    with path.open("wb") as file, ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        for part in _in_order(pool, partial(make, parameters), range(parameters.blocks), workers + 1):
            file.write(compressor.compress(part) if compressor else part)
        if compressor:
            file.write(compressor.flush())


def _in_order(pool: ProcessPoolExecutor, make: Callable[[int], bytes], blocks: Iterable[int], ahead: int) -> Iterator[bytes]:
    """Results in the order of the blocks; at most `ahead` are in progress, because each takes tens of megabytes."""
    waiting: deque[Future[bytes]] = deque()
    for block in blocks:
        waiting.append(pool.submit(make, block))
        if len(waiting) == ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _write_prefix(path: Path, dump: Path, triples: int) -> None:
    left = triples
    with bz2.open(dump) as lines, bz2.open(path, "wb") as prefix:
        for line in lines:
            if not line.startswith(b"#"):
                if not left:
                    return
                left -= 1
            prefix.write(line)


def _compressed_block(parameters: DumpParameters, block: int) -> bytes:
    return bz2.compress(block_text(parameters, block))


def block_text(parameters: DumpParameters, block: int) -> bytes:
    """One block's lines, sorted by their bytes; the first and the last block also have the comment lines."""
    triples, blocks = parameters.triples, parameters.blocks
    lines = triples * (block + 1) // blocks - triples * block // blocks
    entities = Entities(max(SLOTS, triples // _TRIPLES_PER_ENTITY))
    first, end = (entities.start_of_word(len(FIRST_WORDS) * number // blocks) for number in (block, block + 1))
    text = _Block(entities, np.random.default_rng([parameters.seed, block]), np.arange(first, end), lines).text()
    return (STARTED if block == 0 else b"") + text + (COMPLETED if block == blocks - 1 else b"")


class _Block:
    """Random lines about a range of entities."""

    def __init__(self, entities: Entities, random: np.random.Generator, subjects: Integers, lines: int) -> None:
        self._entities, self._random, self._subjects, self._lines = entities, random, subjects, lines
        self._table = relation_table()
        names = list(self._table.names)
        self._first_of_name = np.array([names.index(name) for name in names])

    def text(self) -> bytes:
        """The lines, sorted."""
        subjects, relations, objects = self._triples()
        columns = [self._entities.names(subjects), pa.array(self._table.names).take(pa.array(relations)), self._entities.names(objects)]
        lives = np.flatnonzero(self._entities.kinds(subjects) == KINDS.index(Kind.PERSON))
        helped = self._random.permutation(lives)[: round(_HELPERS * self._lines)]
        columns = _with_helpers(columns, subjects, np.sort(helped))
        lines = pc.binary_join_element_wise(
            f"<{RESOURCE}", columns[0], f"> <{ONTOLOGY}", columns[1], f"> <{RESOURCE}", columns[2], "> .\n", ""
        )
        odd = self._random.permutation(np.setdiff1d(np.arange(self._lines), helped))
        literals = max(1, round(_LITERALS * self._lines))
        broken = max(1, round(_BROKEN * self._lines))
        lines = _replaced(lines, np.sort(odd[:literals]), _as_literal)
        lines = _replaced(lines, np.sort(odd[literals : literals + broken]), _as_broken)
        return _bytes(lines.take(pc.sort_indices(lines)))

    def _triples(self) -> tuple[Integers, Integers, Integers]:
        """Subjects, relations and objects, without duplicates, sorted by subject; exactly as many as there are lines."""
        drawn = np.empty(0, dtype=np.int64)
        while len(drawn) < self._lines:
            drawn = np.union1d(drawn, self._drawn(self._lines + 100))
        kept = np.sort(self._random.permutation(len(drawn))[: self._lines])
        rest, objects = np.divmod(drawn[kept], self._entities.count)
        places, relations = np.divmod(rest, len(self._table.names))
        return self._subjects[places], relations, objects

    def _drawn(self, lines: int) -> Integers:
        """Triples, each packed into one number: index of the subject, relation, object."""
        places = self._chosen_subjects(lines)  # one for each pair of subject and relation; more than needed
        relations = self._chosen_relations(self._entities.kinds(self._subjects[places]))
        alone = self._random.random(lines) < self._table.alone[relations]
        sizes = np.where(alone, 1, 1 + self._random.geometric(_MORE, lines))
        pairs = np.repeat(np.arange(lines), sizes)[:lines]
        objects = self._chosen_objects(self._table.objects[relations[pairs]])
        near = self._random.random(lines) < _NEAR
        objects[near] = np.maximum(self._subjects[places[pairs[near]]] - 1, 0)
        named = self._first_of_name[relations[pairs]]  # a relation of two kinds of subject or object is identified by its name
        packed = (places[pairs] * len(self._table.names) + named) * self._entities.count + objects
        return packed[self._subjects[places[pairs]] != objects]

    def _chosen_subjects(self, count: int) -> Integers:
        weights = (self._entities.ranks(self._subjects) + SLOTS) ** -_SUBJECT_EXPONENT
        shares = np.cumsum(weights)
        return np.searchsorted(shares, self._random.random(count) * shares[-1], side="right")

    def _chosen_relations(self, kinds: Integers) -> Integers:
        chance = self._random.random(len(kinds))
        chosen = np.empty(len(kinds), dtype=np.int64)
        for kind, (relations, shares) in enumerate(self._table.of_kind):
            those = kinds == kind
            chosen[those] = relations[np.searchsorted(shares, chance[those], side="right")]
        return chosen

    def _chosen_objects(self, kinds: Integers) -> Integers:
        """Ranks drawn from Zipf's law by the inverse of its continuous distribution, moved to the nearest ranks of these kinds."""
        power = 1 - _OBJECT_EXPONENT
        whole = self._entities.count // SLOTS * SLOTS
        ranks = (1 + self._random.random(len(kinds)) * ((whole + 1) ** power - 1)) ** (1 / power) - 1
        slots = self._random.integers(FIRST_SLOT[kinds], FIRST_SLOT[kinds + 1])
        return self._entities.at_rank(np.minimum(ranks.astype(np.int64), whole - 1) // SLOTS * SLOTS + slots)


def _with_helpers(columns: list[pa.Array], subjects: Integers, rows: Integers) -> list[pa.Array]:
    """Names, relations and names with helper nodes in these rows: alternately as object and as subject of the next row."""
    names, relations, objects = columns
    _, firsts = np.unique(subjects, return_index=True)
    numbers = rows - firsts[np.searchsorted(firsts, rows, side="right") - 1] + 1  # the row's index among those of its subject
    leading = np.arange(len(rows)) % 2 == 0
    relation_of, words = zip(*(HELPERS[number % len(HELPERS)] for number in range(len(rows))), strict=True) if len(rows) else ((), ())
    nodes = pc.binary_join_element_wise(
        names.take(pa.array(rows)), pa.array(words, pa.string()), pc.cast(pa.array(numbers), pa.string()), "__"
    )
    first, second = rows[leading], rows[~leading]
    nodes_first, nodes_second = nodes.filter(pa.array(leading)), nodes.filter(pa.array(~leading))
    relations = _put(relations, first, pa.array(relation_of, pa.string()).filter(pa.array(leading)))
    relations = _put(relations, second, pa.array([HELPER_RELATION] * len(second), pa.string()))
    return [_put(names, second, nodes_second), relations, _put(objects, first, nodes_first)]


def _replaced(lines: pa.Array, rows: Integers, change: Callable[[int, str], str]) -> pa.Array:
    changed = [change(number, line) for number, line in enumerate(lines.take(pa.array(rows)).to_pylist())]
    return _put(lines, rows, pa.array(changed, pa.string()))


def _put(column: pa.Array, rows: Integers, values: pa.Array) -> pa.Array:
    mask = np.zeros(len(column), dtype=bool)
    mask[rows] = True
    return pc.replace_with_mask(column, pa.array(mask), values)


def _as_literal(number: int, line: str) -> str:
    subject, relation, rest = line.split(" ", 2)
    name = rest.removeprefix(f"<{RESOURCE}").removesuffix("> .\n").replace("_", " ")
    return f"{subject} {relation} {_LITERAL_ENDS[number % len(_LITERAL_ENDS)].format(name=name)} .\n"


def _as_broken(number: int, line: str) -> str:
    """In turn: no full stop, no object, an unterminated IRI, an IRI with a blank."""
    subject, relation, rest = line.split(" ", 2)
    ends = (rest.removesuffix(" .\n") + "\n", ".\n", rest.replace("> .", " ."), rest.replace("_", " ", 1).replace("> .", " II> ."))
    return f"{subject} {relation} {ends[number % len(ends)]}"


def _bytes(lines: pa.Array) -> bytes:
    """The concatenated texts, as they are in memory."""
    _, offsets, data = lines.buffers()
    ends = np.frombuffer(offsets, dtype=np.int32)[lines.offset : lines.offset + len(lines) + 1]
    return data.to_pybytes()[ends[0] : ends[-1]]
