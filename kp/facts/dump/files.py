"""The files of a dump.

A source may be one file, a folder or a glob, local or at any address that fsspec supports. The files are sorted by address, and no later
result depends on the order in which they are read.
"""

from dataclasses import dataclass
from enum import StrEnum

import fsspec

from kp.errors import MissingSourceError, UserError

FIELD = "facts.source"  # names the graph, in messages
FORMATS = (".ttl", ".nt")
GLOB_CHARACTERS = "*?["


class Compression(StrEnum):
    """How a file of a dump is compressed, according to its name."""

    NONE = ""
    BZIP2 = ".bz2"
    GZIP = ".gz"


ENDINGS = tuple(f"{form}{compression}" for form in FORMATS for compression in Compression)


@dataclass(frozen=True)
class DumpFile:
    """One file of a dump; the size is in bytes as stored."""

    address: str  # a path, or an address that fsspec opens
    size: int
    compression: Compression


def is_dump(source: str) -> bool:
    """Whether `source` is a dump: by its ending, or an existing folder with files that have such an ending."""
    if source.endswith(ENDINGS):
        return True
    filesystem, path = _located(source)
    return filesystem is not None and filesystem.isdir(path) and bool(_within(filesystem, path))


def find_files(source: str, field: str = FIELD) -> list[DumpFile]:
    """The files of a dump, sorted by address; raises UserError for the config field of the dump if there are none, and
    MissingSourceError if they cannot be accessed.
    """
    filesystem, path = _located(source)
    if filesystem is None:
        raise MissingSourceError(f"'{source}': no file system is known for this address", field=field)
    try:
        if any(character in path for character in GLOB_CHARACTERS) and not filesystem.exists(path):
            paths = sorted(name for name in filesystem.glob(path) if name.endswith(ENDINGS))
        elif filesystem.isdir(path):
            paths = _within(filesystem, path)
        else:
            paths = [path]
        found = [DumpFile(_address(filesystem, name), int(filesystem.size(name) or 0), _compression(name, field)) for name in paths]
    except OSError as error:
        raise MissingSourceError(f"'{source}': cannot be read: {error.strerror or 'there is no such file'}", field=field) from error
    if not found:
        raise UserError(f"'{source}': no file in it ends in {', '.join(ENDINGS)}", field=field)
    return found


def _located(source: str) -> tuple[fsspec.AbstractFileSystem | None, str]:
    try:
        filesystem, path = fsspec.core.url_to_fs(source)
    except (ValueError, ImportError):  # an unknown protocol, or one whose package is not installed
        return None, source
    return filesystem, path


def _within(filesystem: fsspec.AbstractFileSystem, folder: str) -> list[str]:
    return sorted(name for name in filesystem.ls(folder, detail=False) if name.endswith(ENDINGS))


def _address(filesystem: fsspec.AbstractFileSystem, path: str) -> str:
    protocol = filesystem.protocol if isinstance(filesystem.protocol, str) else filesystem.protocol[0]
    return path if protocol in ("file", "local") else filesystem.unstrip_protocol(path)


def _compression(name: str, field: str) -> Compression:
    if not name.endswith(ENDINGS):
        raise UserError(f"'{name}': expected a name that ends in {', '.join(ENDINGS)}", field=field)
    return next(compression for compression in reversed(Compression) if name.endswith(compression))
