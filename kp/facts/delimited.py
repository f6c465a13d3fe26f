"""Tables in csv and their like: the separator is found, and one bad record costs no other.

csv has no standard: Excel writes semicolons where the comma is the decimal sign, and tab-separated files know no quotation marks. The
separator is that which cuts the header into the most plain names: that is surer than a statistic of the cells, which are sentences. The
standard library's parser reads a record, but a quotation mark that is not closed makes it swallow all that follows; so records are read one
by one, and after a bad one reading continues at its next good line.
"""

import csv
import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from kp.errors import UserError
from kp.facts.cells import stripped
from kp.facts.rows import Row, Rows, column_names, row_of
from kp.facts.text_files import MOST_LINE, UTF8, encoding_name, found_encoding, open_text, reading

SEPARATORS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}
USUAL = {".csv": ",", ".tsv": "\t"}  # the separator that a file's ending promises
_NAME = re.compile(r"\w[\w .()-]*")
_HINT = "sep="  # Excel's first line, before the header


class _Lines:
    """Lines that can be put back."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._waiting: deque[str] = deque()
        self.taken: list[str] = []  # since they were last cleared

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._waiting.popleft() if self._waiting else next(self._lines)
        self.taken.append(line)
        return line

    def put_back(self, lines: list[str]) -> None:
        self._waiting.extendleft(reversed(lines))


def delimited_rows(path: Path, suffix: str, field: str) -> Rows:
    """The rows of a .csv or .tsv file, plain or compressed, with the separator and encoding that it has.

    Raises MissingSourceError naming the config field `field` if there is no such file, and UserError if it cannot be read or has no header.
    """
    csv.field_size_limit(MOST_LINE)  # the parser's own is 131,072 characters, for all of the process
    with reading(path, field):
        encoding = found_encoding(path, field)
        separator = _separator(path, encoding, USUAL[suffix], field)
    form = f"{SEPARATORS[separator]}-separated" if separator != USUAL[suffix] else None
    doubtful: list[int] = []
    rows = _rows(path, encoding, separator, field, doubtful)
    return Rows(rows, form, encoding_name(encoding) if encoding != UTF8 else None, doubtful)


def _separator(path: Path, encoding: str, usual: str, field: str) -> str:
    with open_text(path, encoding, newline="") as file:
        lines = _Lines(iter(file))
        hint, header = _header_begin(lines, path, field)
        if hint:
            return hint
        counts = {}
        for separator in sorted(SEPARATORS, key=lambda separator: separator != usual):
            lines.put_back([header])
            lines.taken.clear()
            names = _record(lines, separator, None)[0] or []
            counts[separator] = sum(_NAME.fullmatch(stripped(name)) is not None for name in names)
            lines.put_back(lines.taken[1:])
    return max(counts, key=lambda separator: counts[separator])  # the usual one if no other is better


def _header_begin(lines: _Lines, path: Path, field: str) -> tuple[str | None, str]:
    """The separator that Excel's first line names, and the header's first line."""
    hint = None
    for line in lines:
        text = line.strip(" \r\n\"'")
        if text.casefold().startswith(_HINT) and text[len(_HINT) :] in SEPARATORS:
            hint = text[len(_HINT) :]
        elif text.strip():
            return hint, line
    raise UserError(f"{path}: the file is empty", field=field)


def _rows(path: Path, encoding: str, separator: str, field: str, doubtful: list[int]) -> Iterator[Row]:
    """The rows; the numbers of those that may have swallowed others are added to `doubtful`."""
    with reading(path, field), open_text(path, encoding, newline="") as file:
        lines = _Lines(iter(file))
        lines.put_back([_header_begin(lines, path, field)[1]])
        header, fault = _record(lines, separator, None)
        if header is None:
            raise UserError(f"{path}: the header is not valid: {fault}", field=field)
        while header and not header[-1].strip():  # a sheet's empty columns
            header.pop()
        names = column_names(header, path)
        number = 0
        while True:
            lines.taken = []
            fields, fault = _record(lines, separator, len(names))
            if not lines.taken:
                return
            number += 1
            if fields is None:
                text = lines.taken[0].strip()[:200]
                lines.put_back(_after_bad(lines.taken, separator, len(names)))
                yield Row(number, fault=fault, text=text)
            elif (row := row_of(number, names, fields)) is not None:
                if len(lines.taken) > 1 and _may_hold_rows(fields, separator, len(names)):
                    doubtful.append(number)
                yield row


def _may_hold_rows(fields: list[str], separator: str, width: int) -> bool:
    """Whether a cell has a line, after its first, with as many separators as the header of so many columns."""
    later = (line for field in fields for line in field.splitlines()[1:])
    return width > 1 and any(line.count(separator) == width - 1 for line in later)


def _record(lines: _Lines, separator: str, width: int | None) -> tuple[list[str] | None, str]:
    """The fields of the next record, as many as `width`, or None and why it cannot be read; it may take several lines."""
    fields, fault = _parsed(lines, separator, width, None)
    if fault and any('\\"' in line for line in lines.taken):  # as Spark and R write quotation marks
        unread = lines.taken
        lines.put_back(unread)
        lines.taken = []
        escaped, still = _parsed(lines, separator, width, "\\")
        if not still:
            return escaped, ""
        lines.put_back(lines.taken)
        lines.taken = [next(lines) for _ in unread]
    if not fault:
        return fields, ""
    plain = lines.taken[0].rstrip("\r\n").split("\t") if lines.taken else []
    if separator == "\t" and len(plain) == width:  # quotation marks in it mean nothing
        lines.put_back(lines.taken[1:])
        del lines.taken[1:]
        return plain, ""
    return None, fault


def _parsed(lines: _Lines, separator: str, width: int | None, escape: str | None) -> tuple[list[str], str]:
    """The fields of the next record, and what is wrong with them, "" for nothing."""
    parser = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True, escapechar=escape, doublequote=escape is None)
    try:
        fields = next(parser, [])
    except csv.Error as error:
        return [], f"not a valid record '{error}'"
    if width is None:
        return fields, ""
    if not fields:
        return [""] * width, ""
    fields = fields[:width] + [extra for extra in fields[width:] if extra.strip()]
    return fields, "" if len(fields) == width else f"{len(fields)} fields, the header has {width}"


def _after_bad(taken: list[str], separator: str, width: int) -> list[str]:
    """The lines of a bad record from the first that is a whole record: an open quotation mark had made them part of it."""
    for place in range(1, len(taken)):
        alone = _Lines(iter(taken[place : place + 1]))
        if _record(alone, separator, width)[0] is not None and taken[place].strip():
            return taken[place:]
    return []
