"""JSON lines, plain or gzipped, as the sources of a study come in.

Read line by line, since a source may be far longer than what is used of it, and split at line feeds only: a JSON text may hold the other
characters that Python takes for a line's end.
"""

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from kp.errors import MissingSourceError, UserError

SUFFIXES = (".jsonl", ".jsonl.gz")


def read_jsonl(path: Path, field: str) -> Iterator[dict[str, Any]]:
    """The objects of a .jsonl or .jsonl.gz file in their order; lines that are blank are passed over.

    Raises MissingSourceError naming the config field `field` where there is no such file, and UserError where it cannot be read, is not
    UTF-8, or a line (1 is the first) holds no JSON object.
    """
    try:
        with _opened(path) as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _object(line, f"{path}: line {number}")
    except FileNotFoundError as error:
        raise MissingSourceError(f"{path}: cannot be read: {error.strerror}", field=field) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text: {error}", field=field) from error
    except (OSError, EOFError, zlib.error) as error:  # the latter two where a gzip file was cut short or damaged
        raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}", field=field) from error


def _opened(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="\n")
    return path.open(encoding="utf-8-sig", newline="\n")


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not valid JSON: {error}") from error
    if not isinstance(row, dict):
        raise UserError(f"{where}: expected an object, got {line.strip()[:40]!r}")
    return row
