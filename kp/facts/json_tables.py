"""A table in one JSON document.

There is no common form of one. Known are: a list of objects, also within an object under some name (`data`, and the Hub's `rows`); SQuAD's
articles of paragraphs of questions; a list for each column, and the other orders in which pandas writes; and JSON lines under this ending.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kp.errors import UserError
from kp.facts.jsonl import json_line_rows
from kp.facts.rows import Rows, folded, row_of_object
from kp.facts.text_files import found_encoding, open_text, reading


def json_rows(path: Path, field: str) -> Rows:
    """The rows of a .json file, plain or compressed.

    Raises MissingSourceError naming the config field `field` if there is no such file, and UserError if it cannot be read or is no table.
    """
    with reading(path, field), open_text(path, found_encoding(path, field), newline="\n") as file:
        text = file.read()
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        if _are_lines(text):
            lines = json_line_rows(path, field)
            return Rows(lines.rows, "JSON lines")
        raise UserError(f"{path}: not valid JSON: {error}", field=field) from error
    rows = document if isinstance(document, list) else _rows_of_object(document) if isinstance(document, dict) else None
    if rows is None:
        raise UserError(f"{path}: no table: expected a list of objects with question and answer", field=field)
    return Rows(row_of_object(number, row) for number, row in enumerate(rows, start=1))


def _are_lines(text: str) -> bool:
    """Whether the first line is an object, and not the beginning of one."""
    try:
        return isinstance(json.loads(text.lstrip().partition("\n")[0]), dict)
    except (ValueError, RecursionError):
        return False


def _rows_of_object(document: dict[str, Any]) -> list[Any] | None:
    names = {folded(name): cell for name, cell in document.items()}
    if isinstance(names.get("columns"), list) and isinstance(names.get("data"), list):
        return [dict(zip(names["columns"], row, strict=False)) for row in names["data"]]
    if "question" in names or "messages" in names or "conversations" in names:
        return _transposed(document)
    lists = {name: cell for name, cell in names.items() if isinstance(cell, list) and cell and all(isinstance(row, dict) for row in cell)}
    table = next((lists[name] for name in ("data", "rows") if name in lists), None) or (lists.popitem()[1] if len(lists) == 1 else None)
    if table is not None:
        return [row for item in table for row in _rows_of_item(item)]
    if document and all(isinstance(cell, dict) for cell in document.values()):
        return list(document.values())
    return None


def _rows_of_item(item: dict[str, Any]) -> Iterator[Any]:
    """Of an item of a list: itself, what the Hub's viewer wraps in `row`, or the questions of SQuAD's article."""
    if isinstance(item.get("paragraphs"), list):
        yield from (question for paragraph in item["paragraphs"] for question in paragraph["qas"])
    elif isinstance(item.get("row"), dict):
        yield item["row"]
    else:
        yield item


def _transposed(document: dict[str, Any]) -> list[Any]:
    """Rows of columns, each a list or a dict by row; the document is a row itself if its cells are neither of one length."""
    columns = [list(cell.values()) if isinstance(cell, dict) else cell for cell in document.values()]
    if not all(isinstance(column, list) for column in columns) or len({len(column) for column in columns}) != 1:
        return [document]
    return [dict(zip(document, cells, strict=True)) for cells in zip(*columns, strict=True)]
