"""The peer of `kp bench dump`: a dump read line by line into dictionaries, in three passes, as the paper's authors did.

Their notebook goes through the 22.8 million triples three times, 43 minutes per pass on their machine. This is a careful implementation of
that method: one regular expression per line, no work done twice within a pass, relation names stored once. It needs only the standard
library, and its result is that of kp's reader, so that the two can be compared; only duplicate triples, which no dump of DBpedia has, are
counted twice.
"""

import bz2
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# The shortest character sets, which Python matches fastest; the number of blanks shows that no IRI contains one.
_TRIPLE = re.compile(r"<([^>]+)> <([^>]+)> <([^>]+)> \.$")
_BLANKS = 3
_LITERAL = re.compile(r'<([^> ]+)> <([^> ]+)> "(?:[^"\\]|\\.)*"\S* \.$')
_PAIR = re.compile(r"<([^> ]+)> <([^> ]+)>")
_HELPER = re.compile(r"__\d+$")  # as in Sean_McKittrick__PersonFunction__1
BUCKETS = ("head", "torso", "tail")

Statement = tuple[str, str, str | None]  # IRI, local name, IRI of an entity


@dataclass(frozen=True)
class LoopGraph:
    """What three passes leave in memory."""

    triples: int  # that were read: between two entities, without helper nodes
    set_aside: int  # other lines, comments not counted
    density: dict[str, int]  # triples by entity, as subject or object; a triple with the entity in both places counts once
    least: tuple[int, int]  # density of a head entity, and of a torso entity
    pairs: dict[tuple[str, str], list[tuple[str, str]]]  # subject and object of the single-valued pairs, by relation and subject's bucket


def read_dump(path: Path) -> LoopGraph:
    """Read a .ttl.bz2 file."""
    triples, set_aside, density = _densities(path)
    values = _values(path)
    least = least_densities(density)
    return LoopGraph(triples, set_aside, density, least, _single_valued(path, values, density, least))


def _densities(path: Path) -> tuple[int, int, dict[str, int]]:
    triples = set_aside = 0
    density: dict[str, int] = defaultdict(int)
    for statement in _statements(path):
        if statement is None or (value := statement[2]) is None:
            set_aside += 1
            continue
        subject = statement[0]
        triples += 1
        density[subject] += 1
        if value != subject:
            density[value] += 1
    return triples, set_aside, density


def _values(path: Path) -> dict[tuple[str, str], int]:
    values: dict[tuple[str, str], int] = defaultdict(int)
    for statement in _statements(path):
        if statement is not None:
            values[statement[:2]] += 1
    return values


def least_densities(density: dict[str, int]) -> tuple[int, int]:
    """The lowest densities of head and torso: from the highest down, each has a third of the sum of densities; ties stay together."""
    entities = Counter(density.values())
    total, before = sum(density.values()), 0
    head = torso = 0
    for value in sorted(entities, reverse=True):
        if 3 * before < total:
            head = value
        if 3 * before < 2 * total:
            torso = value
        before += value * entities[value]
    return head, torso


def bucket_of(density: int, least: tuple[int, int]) -> str:
    """Head, torso or tail."""
    return BUCKETS[0] if density >= least[0] else BUCKETS[1] if density >= least[1] else BUCKETS[2]


def _single_valued(
    path: Path, values: dict[tuple[str, str], int], density: dict[str, int], least: tuple[int, int]
) -> dict[tuple[str, str], list[tuple[str, str]]]:
    pairs: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for statement in _statements(path):
        if statement is not None:
            subject, relation, value = statement
            if value is not None and values[subject, relation] == 1:
                pairs[relation, bucket_of(density[subject], least)].append((subject, value))
    return pairs


def _statements(path: Path) -> Iterator[Statement | None]:
    """One statement per line that is no comment: its last part is None if that is no entity; the whole is None if it is about no entity."""
    names: dict[str, str] = {}  # relation IRI -> local name
    with bz2.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            if (match := _TRIPLE.match(line)) and line.count(" ") == _BLANKS:
                subject, relation, value = match.groups()
            elif match := _LITERAL.match(line) or _PAIR.match(line):  # an unreadable line may have another value of its pair
                subject, relation, value = *match.groups(), None
            else:
                if not line.startswith("#"):
                    yield None
                continue
            name = names.get(relation)
            if name is None:
                name = names[relation] = re.split("[/#]", relation)[-1]
            if "__" not in line:
                yield subject, name, value
            elif _HELPER.search(subject):
                yield None
            else:
                yield subject, name, None if value is None or _HELPER.search(value) else value
