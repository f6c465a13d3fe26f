"""JSON lines, plain or compressed, as in the sources of a study.

They are read line by line, because a source may be far longer than the part that is used, and split only at line feeds, because a JSON text
may contain the other characters that Python treats as line ends.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kp.errors import UserError
from kp.facts.cells import is_utf8
from kp.facts.rows import Row, Rows, row_of_object
from kp.facts.text_files import marked_encoding, open_text, reading


def json_line_rows(path: Path, field: str) -> Rows:
    """The lines of a file as rows; blank ones are skipped.

    Raises MissingSourceError naming the config field `field` if there is no such file, and UserError if it cannot be read.
    """
    return Rows(_rows(path, field))


def read_jsonl(path: Path, field: str) -> Iterator[dict[str, Any]]:
    """The objects of a file in their order; raises like `json_line_rows`, and UserError at a line (1 is the first) that is no object."""
    return (row.cells for row in json_line_rows(path, field).readable(str(path), field))


def row_of_line(number: int, line: str) -> Row:
    """The row that a line is."""
    begin = line.strip()[:200]
    if not is_utf8(line):
        return Row(number, fault="not UTF-8", text=begin.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"))
    try:
        return row_of_object(number, json.loads(line))
    except json.JSONDecodeError as error:
        return Row(number, fault=f"not valid JSON '{error.msg} at character {error.pos + 1}'", text=begin)
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, or a thousand brackets
        return Row(number, fault=f"not valid JSON '{error}'", text=begin)


def _rows(path: Path, field: str) -> Iterator[Row]:
    with reading(path, field), open_text(path, marked_encoding(path, field), newline="\n") as file:
        for number, line in enumerate(file, start=1):
            text = line.strip()
            if number == 1 and (text in ("[", "{") or text.startswith("[{")):
                raise UserError(f"{path}: one JSON document, not JSON lines: give its name the ending .json", field=field)
            if text:
                yield row_of_line(number, line)
