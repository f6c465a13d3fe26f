"""Lines of N-Triples for tests: a grammar of its own, written letter by letter, and dumps in the several forms."""

import bz2
import gzip
from collections.abc import Iterable
from pathlib import Path

RESOURCE = "http://dbpedia.org/resource/"
ONTOLOGY = "http://dbpedia.org/ontology/"
HEX = "0123456789abcdefABCDEF"


def statement(subject: str, relation: str, object_: str) -> str:
    """A line about DBpedia entities, by local names."""
    return f"<{RESOURCE}{subject}> <{ONTOLOGY}{relation}> <{RESOURCE}{object_}> ."


def neighbours() -> list[tuple[int, int]]:
    """Each of the first ten of thirty has four of them, each of the second ten three: so there are head, torso and tail."""
    rings = [(0, 4), (10, 3)]
    return [(first + number, first + (number + step) % 10) for first, most in rings for number in range(10) for step in range(1, most + 1)]


def write_dump(path: Path, lines: Iterable[str], end: str = "\n") -> Path:
    """A dump with these lines, compressed as its name says."""
    data = "".join(line + end for line in lines).encode()
    compress = {".bz2": bz2.compress, ".gz": gzip.compress}.get(path.suffix, bytes)
    path.write_bytes(compress(data))
    return path


def parts_of_triple(line: str) -> tuple[str, str, str] | None:
    """The first three IRIs, escapes as they stand, of a line that the N-Quads grammar takes for a statement between IRIs; else None."""
    place, iris = _skip(line, 0), []
    for _ in range(3):
        iri, place = _iri(line, place)
        if iri is None:
            return None
        iris.append(iri)
        place = _skip(line, place)
    place = _skip(line, _graph(line, place))
    if line[place : place + 1] != ".":
        return None
    place = _skip(line, place + 1)
    return (iris[0], iris[1], iris[2]) if place == len(line) or (line[place] == "#" and "\n" not in line) else None


def _graph(line: str, place: int) -> int:
    """The place after the name of a graph, an IRI or a blank node, or the same place if there is none."""
    if line[place : place + 1] == "<":
        return _iri(line, place)[1]
    if line[place : place + 2] != "_:" or not _in_label(line[place + 2 : place + 3]):
        return place
    end = place + 2
    while end < len(line) and (_in_label(line[end]) or line[end] in ".-·"):
        end += 1
    return place + len(line[place:end].rstrip("."))


def _in_label(letter: str) -> bool:
    return letter.isalnum() or letter in ("_", ":")


def _skip(line: str, place: int) -> int:
    while line[place : place + 1] in (" ", "\t"):
        place += 1
    return place


def _iri(line: str, place: int) -> tuple[str | None, int]:
    if line[place : place + 1] != "<":
        return None, place
    start = place = place + 1
    while place < len(line) and line[place] != ">":
        if line[place] == "\\":
            digits = {"u": 4, "U": 8}.get(line[place + 1 : place + 2], 0)
            code = line[place + 2 : place + 2 + digits]
            if not digits or len(code) < digits or any(letter not in HEX for letter in code) or not _may_stand(int(code, 16)):
                return None, place
            place += 2 + digits
        elif not _may_stand(ord(line[place])):
            return None, place
        else:
            place += 1
    return (line[start:place], place + 1) if start < place < len(line) else (None, place)


def _may_stand(code: int) -> bool:
    return 0x20 < code <= 0x10FFFF and not 0xD800 <= code < 0xE000 and chr(code) not in '<>"{}|^`\\'
