"""What a file of a dump is, by how it begins: lines of statements, Turtle that must be converted, or something that is no dump at all.

A name says little: a download may be a web page, a file may have been renamed, and `.ttl` stands for DBpedia's lines as well as for Turtle
with prefixes. Everything but statements is an error that says what it is and what to do, because nothing could be said of its lines but
that they are unreadable.
"""

import bz2
import gzip
import re
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from kp.errors import UserError
from kp.facts.dump.faults import is_directive
from kp.facts.dump.files import FORMATS, Compression, DumpFile
from kp.facts.dump.reasons import UNREADABLE, SetAside
from kp.facts.dump.statements import BYTE_ORDER_MARK, NoTriple, read_statement

T = TypeVar("T")

HEAD = 1 << 16  # bytes of text that are looked at
_VERIFIED = 1 << 20  # bytes of text: more than a block of bzip2, whose checksum follows it
LINES = 100  # that are judged, to recognise Turtle without prefixes
_MAGIC = {b"BZh": Compression.BZIP2, b"\x1f\x8b": Compression.GZIP}
_OTHER_MAGIC = {
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"\xfd7zXZ\x00": "compressed with xz",
    b"PK\x03\x04": "a zip archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"\x04\x22\x4d\x18": "compressed with lz4",
    b"PAR1": "a parquet file",
    b"$HDT": "an HDT file",
    b"SQLite format 3": "an SQLite database",
    b"%PDF": "a PDF file",
}
_TAR = b"ustar"
_TAR_AT = 257
_UTF32 = (b"\xff\xfe\0\0", b"\0\0\xfe\xff")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_HTML = re.compile(rb"<(?:!doctype\s+html|html|head|body)[\s>]", re.IGNORECASE)
_XML = re.compile(rb"<(?:\?xml|rdf:RDF|!DOCTYPE|!--|!ENTITY)", re.IGNORECASE)
_JSON = re.compile(rb'\{\s*["}]|\[\s*[\[{"]')
_JSON_LD = re.compile(rb'"@(context|id|graph)"')
_TO_TRIPLES = "convert it to N-Triples first"
_OPENERS: Mapping[Compression, Callable[..., Any]] = {
    Compression.NONE: open,
    Compression.BZIP2: bz2.open,
    Compression.GZIP: gzip.open,
}


def head_of(path: str, file: DumpFile, field: str) -> bytes:
    """The first bytes of a local file's text, at most HEAD; nothing of a damaged one, which the decoder will report.

    Raises UserError naming the file and the config field if it cannot be opened, or has other content than its name says.
    """
    try:
        with Path(path).open("rb") as stored:
            _validate_compression(stored.read(HEAD), file, field)
        with _OPENERS[file.compression](path, "rb") as text:
            return text.read(_VERIFIED)[:HEAD]
    except (OSError, EOFError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise UserError(f"'{file.address}': cannot be read: {error.strerror}", field=field) from error
        return b""


def is_turtle(head: bytes) -> bool:
    """Whether a text is Turtle that lines do not hold: it declares a prefix or a base, or half of its first lines cannot be read alone."""
    begun = [line.strip() for line in head.removeprefix(BYTE_ORDER_MARK).split(b"\n")]
    lines = [line for line in (begun[:-1] or begun) if line and not line.startswith(b"#")][:LINES]
    if any(is_directive(line.decode("utf-8", "replace")) for line in lines):
        return True
    reasons = [read.reason for line in lines if isinstance(read := read_statement(line), NoTriple)]
    return SetAside.TURTLE in reasons and 2 * sum(reason in UNREADABLE for reason in reasons) >= len(lines)


def validate_text(head: bytes, file: DumpFile, field: str) -> None:
    """Raise UserError, naming the file and the config field, if its text begins like something that is no dump."""
    if fault := _no_statements(head):
        raise UserError(f"'{file.address}': {fault}", field=field)


def _no_statements(head: bytes) -> str | None:
    if compression := _begins(head, _MAGIC):
        return f"its content is compressed once more, with {_said(compression)}; decompress it once"
    if other := _begins(head, _OTHER_MAGIC):
        return f"it is {other}, not text"
    if head[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR:
        return "it is a tar archive; unpack it, and name the folder"
    if head.startswith((*_UTF32, *_UTF16)) or _has_every_second_byte_zero(head):
        return "its text is UTF-16 or UTF-32; save it as UTF-8, for example with `iconv -f UTF-16 -t UTF-8`"
    begin = head.removeprefix(BYTE_ORDER_MARK).lstrip()
    if _HTML.match(begin) or (_XML.match(begin) and _HTML.search(begin[:1000])):
        return "it is a web page (HTML), not a dump; the address that it was loaded from may be that of a page about the dump"
    if _XML.match(begin):
        return f"it is {'RDF/XML' if b'rdf:RDF' in head else 'XML'}; {_TO_TRIPLES}"
    if _JSON.match(begin):
        return f"it is {'JSON-LD' if _JSON_LD.search(head) else 'JSON'}; {_TO_TRIPLES}"
    if begin.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS, not the file itself; load that with `git lfs pull`"
    if head.count(0) > len(head) // 100:
        return "it is binary, not text"
    return None


def _validate_compression(begin: bytes, file: DumpFile, field: str) -> None:
    found = _begins(begin, _MAGIC)
    if found is None and file.compression is not Compression.NONE:
        found = Compression.NONE
    if found is None or found is file.compression:
        return
    named, real = f"named as if it were {_said(file.compression)}", _said(found)
    if not begin:
        raise UserError(f"'{file.address}': is empty, although it is {named}", field=field)
    if found is Compression.NONE and (fault := _no_statements(begin)):  # such as a server's page instead of the file
        raise UserError(f"'{file.address}': is {named}, but {fault}", field=field)
    form = next(form for form in FORMATS if form in file.address.lower())
    raise UserError(f"'{file.address}': is {named}, but its content is {real}; rename it so that it ends in {form}{found}", field=field)


def _said(compression: Compression) -> str:
    return {Compression.NONE: "not compressed", Compression.BZIP2: "bzip2", Compression.GZIP: "gzip"}[compression]


def _begins(begin: bytes, known: Mapping[bytes, T]) -> T | None:
    return next((meaning for magic, meaning in known.items() if begin.startswith(magic)), None)


def _has_every_second_byte_zero(head: bytes) -> bool:
    """As ASCII characters have in UTF-16."""
    first = head[:400]
    zeros = sorted(first[odd::2].count(0) for odd in (0, 1))
    return zeros[1] > len(first) // 3 and zeros[0] < len(first) // 20
