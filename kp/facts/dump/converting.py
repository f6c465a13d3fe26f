"""A separate program that writes the statements of one Turtle file to its standard output, as N-Triples.

Turtle has prefixes, and statements that span lines, so its lines cannot be read alone; Oxigraph's parser reads it. That takes many times
as long as reading N-Triples, so larger files are rejected: whoever has one can convert it once, and every study reads it fast.

It is a separate process for the reasons of `decompressing.py`, and like it does not import kp. IRIs are not checked here: one that is not
valid becomes an unreadable line of N-Triples, which is counted where all lines are. Any other fault stops the conversion, because a parser
cannot know where the next statement begins.
"""

import bz2
import gzip
import os
import sys
import zlib
from collections.abc import Callable
from typing import Any

import pyoxigraph

MOST_TEXT = 1 << 30  # bytes
FAULTY = 3  # exit status; the fault is on standard error
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_OPENERS: dict[str, Callable[..., Any]] = {"": open, ".bz2": bz2.open, ".gz": gzip.open}


class TooLargeError(Exception):
    """The text is longer than MOST_TEXT."""


class _Text:
    """The text of a file without its byte-order mark, as far as it is allowed to be read."""

    def __init__(self, file: Any, most: int) -> None:
        self._file, self._left, self._begins = file, most, True

    def read(self, size: int = -1) -> bytes:
        """The next bytes, at most `size`; TooLargeError if more than allowed have been read."""
        piece: bytes = self._file.read(size)
        if self._begins:
            piece, self._begins = piece.removeprefix(_BYTE_ORDER_MARK) or self._file.read(size), False
        self._left -= len(piece)
        if self._left < 0:
            raise TooLargeError
        return piece


def convert(path: str, compression: str, output: Any, most: int = MOST_TEXT) -> None:
    """Write the file's statements to `output`; raises SyntaxError, TooLargeError, or what the decoders raise."""
    if os.path.getsize(path) > most:
        raise TooLargeError
    with _OPENERS[compression](path, "rb") as file:
        text: Any = _Text(file, most)
        statements = pyoxigraph.parse(text, format=pyoxigraph.RdfFormat.TURTLE, lenient=True)
        pyoxigraph.serialize(statements, output, format=pyoxigraph.RdfFormat.N_TRIPLES)


def fault_of_converting(path: str, compression: str, output: Any, most: int = MOST_TEXT) -> str | None:
    """Convert, and return what went wrong, in one line."""
    try:
        convert(path, compression, output, most)
    except TooLargeError:
        return (
            f"it has more than {most >> 20:,} MiB of text, the most that is converted here; "
            "convert it to N-Triples, for example with `rapper -i turtle -o ntriples` or `riot --output=ntriples`"
        )
    except SyntaxError as error:
        return str(error).splitlines()[0]
    except BrokenPipeError:
        return None  # the reader has closed the pipe
    except (OSError, EOFError, ValueError, zlib.error) as error:
        return f"damaged or cut short: {str(error).splitlines()[0]}"
    return None


def main() -> int:
    """Arguments: a path, and the ending of its kind of compression."""
    _, path, compression = sys.argv
    fault = fault_of_converting(path, compression, sys.stdout.buffer)
    if fault:
        print(fault, file=sys.stderr)
    return FAULTY if fault else 0


if __name__ == "__main__":
    sys.exit(main())
