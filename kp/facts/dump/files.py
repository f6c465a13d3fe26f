"""The files of a dump.

A source may be one file, a folder or a glob, local or at any address that fsspec supports. The files are sorted by address, and no later
result depends on the order in which they are read. A name's ending, in any case, says that a file is a dump and how it is compressed; what
is in it is decided by its content (see kp.facts.dump.contents).
"""

import re
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum

import fsspec

from kp.errors import MissingSourceError, UserError
from kp.facts.builtin import SOURCE as BUILTIN
from kp.facts.hub import PREFIX as HUB_PREFIX
from kp.facts.synthetic import SOURCE as SYNTHETIC

FIELD = "facts.source"  # names the graph, in messages
FORMATS = (".ttl", ".nt", ".nq", ".tql")
GLOB_CHARACTERS = "*?["
MOST_NAMED = 3  # endings in a message
DEEPEST = 4  # subfolders that are looked into for a message
_OF_A_GRAPH = re.compile(r"\.(ttl|nt|nq|tql|n3|trig|trix|rdf|owl|jsonld|hdt)(\.\w+)?\Z", re.IGNORECASE)


class Compression(StrEnum):
    """How a file of a dump is compressed, according to its name."""

    NONE = ""
    BZIP2 = ".bz2"
    GZIP = ".gz"


ENDINGS = tuple(f"{form}{compression}" for form in FORMATS for compression in Compression)
EXPECTED = f"a name that ends in {', '.join(FORMATS)}, plain or with {Compression.BZIP2} or {Compression.GZIP} after it"


@dataclass(frozen=True)
class DumpFile:
    """One file of a dump; the size is in bytes as stored."""

    address: str  # a path, or an address that fsspec opens
    size: int
    compression: Compression


def is_dump(source: str) -> bool:
    """Whether `source` is meant as a dump: a name with the ending of a graph (also of a form that is not read), a folder, or a glob."""
    if source in (BUILTIN, SYNTHETIC) or source.startswith(HUB_PREFIX):
        return False
    if _OF_A_GRAPH.search(source):
        return True
    filesystem, path = _located(source)
    return filesystem is not None and (filesystem.isdir(path) or (_has_glob(path) and not filesystem.exists(path)))


def find_files(source: str, field: str = FIELD) -> list[DumpFile]:
    """The files of a dump, sorted by address; raises UserError for the config field of the dump if there are none, and
    MissingSourceError if they cannot be accessed.
    """
    filesystem, path = _located(source)
    if filesystem is None:
        raise MissingSourceError(f"'{source}': no file system is known for this address", field=field)
    try:
        if _has_glob(path) and not filesystem.exists(path):
            paths = _with_endings(_matching(filesystem, path), source, field, lambda: "")
        elif filesystem.isdir(path):
            paths = _with_endings(filesystem.ls(path, detail=False), source, field, lambda: _below(filesystem, path))
        else:
            paths = [path]
        return [DumpFile(_address(filesystem, name), int(filesystem.size(name) or 0), _compression(name, field)) for name in paths]
    except OSError as error:
        raise MissingSourceError(f"'{source}': cannot be read: {error.strerror or 'there is no such file'}", field=field) from error


def _located(source: str) -> tuple[fsspec.AbstractFileSystem | None, str]:
    try:
        filesystem, path = fsspec.core.url_to_fs(source)
    except (ValueError, ImportError):  # an unknown protocol, or one whose package is not installed
        return None, source
    return filesystem, path


def _has_glob(path: str) -> bool:
    return any(character in path for character in GLOB_CHARACTERS)


def _has_ending(name: str) -> bool:
    return name.lower().endswith(ENDINGS)


def _matching(filesystem: fsspec.AbstractFileSystem, path: str) -> list[str]:
    return [name for name in filesystem.glob(path) if not filesystem.isdir(name)]


def _with_endings(names: Collection[str], source: str, field: str, below: Callable[[], str]) -> list[str]:
    """The names, sorted, that have the ending of a dump and are not hidden; UserError saying what there is instead if there is none.

    `below` says what is in subfolders; it may have to look at many files.
    """
    shown = sorted(name for name in names if not _base(name).startswith("."))
    found = [name for name in shown if _has_ending(name)]
    if not found:
        there = [said for said in (_named([name for name in shown if "." in _base(name)]), below()) if said] or ["there is none"]
        raise UserError(f"'{source}': no file in it is a dump; expected {EXPECTED}; {'; '.join(there)}", field=field)
    return found


def _below(filesystem: fsspec.AbstractFileSystem, folder: str) -> str:
    found = sorted(name for name in filesystem.find(folder, maxdepth=DEEPEST) if _has_ending(name))
    if not found:
        return ""
    return (
        f"files in subfolders are not read, such as {found[0].removeprefix(folder).lstrip('/')}: "
        f"name the folder '{found[0].rpartition('/')[0]}', or all of them as '{folder.rstrip('/')}/**'"
    )


def _named(names: Collection[str]) -> str:
    if not names:
        return ""
    endings = Counter(_base(name)[_base(name).index(".") :] for name in names)
    listed = ", ".join(f"{ending} ({count:,})" for ending, count in endings.most_common(MOST_NAMED))
    return f"the endings there are {listed}, for example {_base(min(names))}"


def _base(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2]


def _address(filesystem: fsspec.AbstractFileSystem, path: str) -> str:
    protocol = filesystem.protocol if isinstance(filesystem.protocol, str) else filesystem.protocol[0]
    return path if protocol in ("file", "local") else filesystem.unstrip_protocol(path)


def _compression(name: str, field: str) -> Compression:
    if not _has_ending(name):
        raise UserError(f"'{name}': expected {EXPECTED}; another form of a graph must be converted to N-Triples first", field=field)
    return next(compression for compression in reversed(Compression) if name.lower().endswith(compression))
