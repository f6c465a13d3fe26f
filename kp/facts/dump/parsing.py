"""Lines of N-Triples by the million.

In Python, a loop over lines costs about a microsecond per line before it has done anything. So a block of some thousand lines is classified
by a fixed number of operations over all its bytes: where the blanks and line ends are, whether the characters next to them are those of a
statement between two IRIs in the usual form (`<s> <p> <o> .`, or with a graph before the dot), and whether there is any forbidden
character. Lines that pass are statements in the grammar of kp.facts.dump.statements, and their IRIs already have the canonical spelling.
All other lines, except the comments, literals and helper nodes that are recognised with the same certainty, go through that module one by
one; it returns the statements that it accepts in the usual form.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kp.facts.dump.judging import ANY_ESCAPE, CANONICAL_ESCAPE, JudgedLines, Mask, Pieces, ends_in_number
from kp.facts.dump.labels import Labels, labels_among, labels_of_odd, ranks_of
from kp.facts.dump.reasons import SetAside
from kp.facts.dump.spans import Hashes, Positions, Text
from kp.facts.dump.statements import Triple, read_statement

KEPT_EXAMPLES = 5  # per reason and file

ENTITY, OTHER_VALUE, SPELLED = 0, 1, 2  # kinds of a row: SPELLED is ENTITY with the two IRIs kept as text


@dataclass(frozen=True)
class Rows:
    """Statements, unordered: hashes of subject and object, number of the relation, kind; the texts are those of the SPELLED rows.

    A row of kind OTHER_VALUE says that a pair has another value that is no entity; its object hash is that of the value.
    """

    subjects: Hashes
    relations: npt.NDArray[np.uint32]
    objects: Hashes
    kinds: npt.NDArray[np.uint8]
    subject_texts: pa.LargeBinaryArray
    object_texts: pa.LargeBinaryArray


@dataclass(frozen=True)
class Example:
    """A line that was set aside."""

    line: int  # the file's first line is 1
    begins: str


@dataclass
class SetAsideLog:
    """The number of lines of a file that became no triple, by reason, and the first few of each."""

    counts: dict[SetAside, int] = field(default_factory=dict)
    examples: dict[SetAside, list[Example]] = field(default_factory=dict)

    def add(self, reason: SetAside, count: int, examples: Iterator[Example]) -> None:
        """Count lines; `examples` are kept until there are KEPT_EXAMPLES."""
        self.counts[reason] = self.counts.get(reason, 0) + count
        kept = self.examples.setdefault(reason, [])
        while len(kept) < KEPT_EXAMPLES and (example := next(examples, None)) is not None:
            kept.append(example)


class RelationNumbers:
    """Numbers of the relations of one file, in the order of their first occurrence; `names` are their IRIs."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._number_of: dict[int, int] = {}
        self._hashes = np.zeros(0, dtype=np.uint64)
        self._slots = np.zeros(1 << 16, dtype=np.uint32)  # by a hash's first 16 bits: the number of a relation with these bits

    def of(self, text: Text, starts: Positions, ends: Positions) -> npt.NDArray[np.uint32]:
        """The number of the relation in each piece."""
        hashes = text.hashes(starts, ends)
        if not len(hashes):
            return np.zeros(0, dtype=np.uint32)
        numbers = self._guess(hashes)
        missed = np.flatnonzero(self._hashes[numbers] != hashes) if len(self._hashes) else np.arange(len(hashes))
        if len(missed):
            for row in np.sort(missed[np.unique(hashes[missed], return_index=True)[1]]).tolist():
                self._learn(int(hashes[row]), text, int(starts[row]), int(ends[row]))
            numbers[missed] = [self._number_of[key] for key in hashes[missed].tolist()]
        return numbers

    def _guess(self, hashes: Hashes) -> npt.NDArray[np.uint32]:
        return self._slots[hashes >> np.uint64(48)]

    def _learn(self, key: int, text: Text, start: int, end: int) -> None:
        if key in self._number_of:
            return
        number = self._number_of[key] = len(self.names)
        self.names.append(text.bytes[start:end].tobytes().decode("utf-8"))
        self._hashes = np.append(self._hashes, np.uint64(key))
        self._slots[key >> 48] = number


class Parser:
    """Parses the blocks of one file in their order; labels are those of one language (see kp.facts.dump.labels)."""

    def __init__(self, language: str = "en") -> None:
        self.relations = RelationNumbers()
        self._language, self._labels = language, list[Labels]()
        self.set_aside = SetAsideLog()
        self.lines = 0  # seen so far

    def parse(self, block: bytearray) -> list[Rows]:
        """The statements of a block of whole lines (a tab counts as a blank, "\\r\\n" as a line end); the block is modified."""
        if b"\r" in block:
            block = block.replace(b"\r\n", b"\n")
        if b"\t" in block:
            block = block.replace(b"\t", b" ")
        judged = JudgedLines(Text(block), CANONICAL_ESCAPE)
        rows = [self._usual(judged), *self._others(judged)]
        self.lines += len(judged.ends)
        return [some for some in rows if len(some.kinds)]

    def taken_labels(self) -> list[Labels]:
        """The labels of entities found since the last call."""
        taken, self._labels = self._labels, []
        return taken

    def _usual(self, judged: JudgedLines) -> Rows:
        pieces = judged.usual
        of_helper, to_helper = (ends_in_number(judged.text, *span) for span in (pieces.subjects, pieces.objects))
        helped = np.flatnonzero(of_helper | to_helper)
        if len(helped):
            self._log(SetAside.HELPER_NODE, judged, judged.usual_lines[helped])
            kept = np.flatnonzero(~of_helper)
            pieces, to_helper = pieces.take(kept), to_helper[kept]
        return self._rows(judged.text, pieces, to_helper)

    def _others(self, judged: JudgedLines) -> Iterator[Rows]:
        for reason, lines in judged.recognised.items():
            self._log(reason, judged, lines)
        if len(judged.literal_lines):
            of_helper = ends_in_number(judged.text, *judged.literals.subjects)
            self._log(SetAside.HELPER_NODE, judged, judged.literal_lines[of_helper])
            self._log(SetAside.LITERAL, judged, judged.literal_lines[~of_helper])
            literals = judged.literals.take(np.flatnonzero(~of_helper))
            rows = self._rows(judged.text, literals, np.ones(len(literals), dtype=bool))
            self._add_labels(labels_among(judged.text, literals, ranks_of(self.relations.names)[rows.relations], self._language))
            yield rows
        if len(judged.odd):
            triples, others = self._read_one_by_one(judged)
            for lines, other in ((triples, False), (others, True)):
                if lines:
                    again = JudgedLines(Text(bytearray(b"".join(lines))), ANY_ESCAPE)
                    yield self._rows(again.text, again.usual, np.full(len(lines), other))

    def _read_one_by_one(self, judged: JudgedLines) -> tuple[list[bytes], list[bytes]]:
        """The statements that the grammar finds in the odd lines, as lines in the usual form; other values have a stand-in IRI."""
        triples, others, literals = [], [], []
        for line in judged.odd.tolist():
            read = read_statement(judged.line(line))
            if isinstance(read, Triple):
                triples.append(read.line())
                continue
            self._log(read.reason, judged, np.array([line]))
            others += [Triple(*pair, _stand_in(read.value)).line() for pair in read.pairs]
            if read.reason is SetAside.LITERAL:
                literals += [(*pair, read.value) for pair in read.pairs]
        self._add_labels(labels_of_odd(literals, self._language))
        return triples, others

    def _add_labels(self, labels: Labels | None) -> None:
        if labels is not None:
            self._labels.append(labels)

    def _rows(self, text: Text, pieces: Pieces, other: Mask) -> Rows:
        subjects, objects = text.hashes(*pieces.subjects), text.hashes(*pieces.objects)
        relations = self.relations.of(text, *pieces.relations)
        spelled = ~(_beside_another_value(subjects, relations, objects) | other)
        kinds = np.where(other, OTHER_VALUE, np.where(spelled, SPELLED, ENTITY)).astype(np.uint8)
        kept = pieces.take(np.flatnonzero(spelled))
        return Rows(subjects, relations, objects, kinds, text.copied(*kept.subjects), text.copied(*kept.objects))

    def _log(self, reason: SetAside, judged: JudgedLines, lines: Positions) -> None:
        if not len(lines):
            return
        examples = (Example(self.lines + line + 1, judged.begins(line)) for line in lines.tolist())
        self.set_aside.add(reason, len(lines), examples)


def _beside_another_value(subjects: Hashes, relations: npt.NDArray[np.uint32], objects: Hashes) -> Mask:
    """Which rows have another object of the same pair in the row before or after: these pairs are certainly many-valued."""
    found = np.zeros(len(subjects), dtype=bool)
    other = (subjects[1:] == subjects[:-1]) & (relations[1:] == relations[:-1]) & (objects[1:] != objects[:-1])
    found[1:] |= other
    found[:-1] |= other
    return found


def _stand_in(value: str) -> str:
    """An IRI that stands for this value only."""
    return hashlib.sha256(value.encode("utf-8", "surrogateescape")).hexdigest()
