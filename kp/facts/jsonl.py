"""JSON lines, plain or gzipped, as in the sources of a study.

They are read line by line, because a source may be far longer than the part that is used, and split only at line feeds, because a JSON text
may contain the other characters that Python treats as line ends.
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
    """The objects of a .jsonl or .jsonl.gz file in their order; blank lines are skipped.

    Raises MissingSourceError naming the config field `field` if there is no such file, and UserError if it cannot be read, is not UTF-8, or
    if a line (1 is the first) is no JSON object.
    """
    try:
        with _opened(path) as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _object(line, f"{path}: line {number}", field)
    except FileNotFoundError as error:
        raise MissingSourceError(f"{path}: cannot be read: {error.strerror}", field=field) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text: {error}", field=field) from error
    except (OSError, EOFError, zlib.error) as error:  # the latter two if a gzip file is truncated or damaged
        raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}", field=field) from error


def _opened(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="\n")
    return path.open(encoding="utf-8-sig", newline="\n")


def _object(line: str, where: str, field: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not valid JSON: {error}", field=field) from error
    if not isinstance(row, dict):
        raise UserError(f"{where}: expected an object, got {line.strip()[:40]!r}", field=field)
    return row
