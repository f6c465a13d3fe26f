"""Foreign files as text: decompressed, and in the encoding in which they were written.

An encoding is not recorded in a file. Almost all are UTF-8, which no other text is by chance, so a file is UTF-8 if any of its lines that
are not ASCII is; other lines in it are damaged, and their rows are told. Excel writes the encoding of its country, though. If no line is
UTF-8, charset-normalizer finds the encoding by the language that the text would be, and what it finds is said, because it can be wrong.
"""

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from kp.errors import MissingSourceError, UserError

MOST_TEXT = 1 << 30  # bytes of a table without its compression
MOST_LINE = 16 << 20  # bytes
MOST_DOCUMENT = 256 << 20  # bytes of a file that is read as a whole, such as JSON
_PIECE = 1 << 17  # bytes
UTF8 = "utf-8-sig"  # with or without a byte order mark
COMPRESSIONS: Mapping[str, Callable[[Path, str], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_WESTERN = "cp1252"  # what Excel writes in most of the countries with Latin letters
_ICELANDIC = frozenset("ðÐþÞýÝ")  # in its place, the Turkish and Baltic encodings have letters that are far more common
_WRITTEN = (*(f"cp125{last}" for last in range(9)), "cp932", "cp949", "gb18030", "big5")  # by Excel in one country or another
_MARKS = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_BINARY = {b"PK\x03\x04": ".xlsx", b"PAR1": ".parquet", b"\x1f\x8b": ".gz", b"BZh": ".bz2", b"\xfd7zXZ": ".xz"}
_HEAD = 65_536  # bytes
_MOST_ZEROS = 20  # one zero byte in so many is a damaged text; in UTF-16 it is every other one
_MOST_LINES = 2_000  # that the encoding is found by
_NOT_UTF8 = "surrogateescape"  # how bytes that cannot be decoded reach the cells, which tell them


def suffix_of(path: Path) -> str:
    """The ending of a file's name that says its format, in lower case and without that of its compression."""
    name = Path(path.name.casefold())
    return name.with_suffix("").suffix if name.suffix in COMPRESSIONS else name.suffix


@contextmanager
def reading(path: Path, field: str) -> Iterator[None]:
    """What reading a file raises becomes MissingSourceError or UserError, naming the config field."""
    try:
        yield
    except FileNotFoundError as error:
        raise MissingSourceError(f"{path}: cannot be read: {error.strerror}", field=field) from error
    except _TooLargeError as error:
        raise UserError(f"{path}: {error}", field=field) from None
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:  # all but the first if a compressed file is truncated or damaged
        raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}", field=field) from error


class _TooLargeError(Exception):
    """A file whose content kp does not read; its text says how much it is, as the end of a sentence."""


class _Bounded(io.RawIOBase):
    """A file's content as far as it is read: a small compressed file may hold more than any memory has, and all of it in one line."""

    def __init__(self, content: Any, most_line: int) -> None:
        self._content, self._most_line = content, most_line
        self._read = self._line = 0  # bytes of all, and of the line that has not ended yet

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        size: int = self._content.readinto(view)
        self._read += size
        last = bytes(view[:size]).rfind(b"\n")
        self._line = self._line + size if last < 0 else size - last - 1
        if self._read > MOST_TEXT:
            raise _TooLargeError(f"has more than {MOST_TEXT >> 20:,} MiB of content; leave out rows, or name a part of it")
        if self._line > self._most_line:
            raise _TooLargeError(f"has more than {self._most_line >> 20:,} MiB without a line end, which is no table")
        return size

    def close(self) -> None:
        self._content.close()
        super().close()


def open_bytes(path: Path, most_line: int = MOST_LINE) -> IO[bytes]:
    """A file without its compression, for use within `reading`, which raises UserError if it or a line of it is too large."""
    opened = COMPRESSIONS.get(path.suffix.casefold(), open)
    return io.BufferedReader(_Bounded(opened(path, "rb"), most_line), _PIECE)


def open_text(path: Path, encoding: str, newline: str, most_line: int = MOST_LINE) -> IO[str]:
    """The same as text; bytes that are not in the encoding become lone surrogates."""
    content = cast(io.BufferedReader, open_bytes(path, most_line))
    return io.TextIOWrapper(content, encoding=encoding, errors=_NOT_UTF8, newline=newline)


def whole(path: Path) -> bytes:
    """All of a file without its compression, for use within `reading`, which raises UserError if it is too large."""
    with open_bytes(path, MOST_TEXT) as file:
        content = file.read(MOST_DOCUMENT + 1)
    if len(content) > MOST_DOCUMENT:
        raise _TooLargeError(f"has more than {MOST_DOCUMENT >> 20:,} MiB of content; split it, or write it as .jsonl or .csv")
    return content


def whole_text(path: Path, encoding: str) -> str:
    """The same as text; bytes that are not in the encoding become lone surrogates."""
    return whole(path).decode(encoding, _NOT_UTF8)


def marked_encoding(path: Path, field: str) -> str:
    """The encoding that a byte order mark says, UTF-8 without one; UserError naming the config field for a file that holds no text."""
    with open_bytes(path) as file:
        head = file.read(_HEAD)
    marked = next((encoding for mark, encoding in _MARKS.items() if head.startswith(mark)), None)
    if marked:
        return marked
    kind = next((suffix for begin, suffix in _BINARY.items() if head.startswith(begin)), None)
    if kind:
        raise UserError(f"{path}: not a text file: it begins like a {kind} file; give its name the ending that it is", field=field)
    if head.count(b"\0") > len(head) // _MOST_ZEROS:
        return _wide_encoding(head, path, field)
    return UTF8


def found_encoding(path: Path, field: str, most_line: int = MOST_LINE) -> str:
    """The encoding of a text file; UTF-8 also if it has none that can be told, and then its cells tell which rows are not."""
    marked = marked_encoding(path, field)
    if marked != UTF8:
        return marked
    other: list[bytes] = []
    with open_bytes(path, most_line) as file:
        for line in file:
            if line.isascii():
                continue
            try:
                line.decode()
            except UnicodeDecodeError:
                if len(other) < _MOST_LINES:
                    other.append(line)
            else:
                return UTF8
    return (_guessed(b"".join(other)) if other else None) or UTF8


def encoding_name(encoding: str) -> str:
    """As programs that save files call it."""
    return f"Windows-{encoding[2:]}" if encoding.startswith("cp125") else encoding.replace("_", "-").upper()


def _guessed(text: bytes) -> str | None:
    """The encoding in which the text looks like a language, None if it does in none, or in several that read it differently."""
    from charset_normalizer import from_bytes  # here, because the bench reads questions where little is installed

    matches = from_bytes(text)
    best = matches.best()
    if best is None or not best.coherence:
        return None
    alike = [match for match in matches if (match.chaos, match.coherence) == (best.chaos, best.coherence)]
    if any(_WESTERN in match.could_be_from_charset for match in alike):
        return _WESTERN if _ICELANDIC.isdisjoint(text.decode(_WESTERN)) else None
    return best.encoding if len(alike) == 1 and best.encoding in _WRITTEN else None


def _wide_encoding(head: bytes, path: Path, field: str) -> str:
    from charset_normalizer import from_bytes

    best = from_bytes(head[: len(head) // 4 * 4]).best()
    if best is None or not best.encoding.startswith(("utf_16", "utf_32")):
        raise UserError(f"{path}: not a text file: it holds zero bytes", field=field)
    return best.encoding
