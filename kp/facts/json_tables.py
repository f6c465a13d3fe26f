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
from kp.facts.text_files import MOST_DOCUMENT, found_encoding, reading, whole_text


def json_rows(path: Path, field: str) -> Rows:
    """The rows of a .json file, plain or compressed.

    Raises MissingSourceError naming the config field `field` if there is no such file, and UserError if it cannot be read or is no table.
    """
    with reading(path, field):
        text = whole_text(path, found_encoding(path, field, MOST_DOCUMENT))
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        if _are_lines(text):
            lines = json_line_rows(path, field)
            return Rows(lines.rows, "JSON lines")
        raise UserError(f"{path}: not valid JSON: {error}", field=field) from error
    rows = _rows_of_list(document) if isinstance(document, list) else _rows_of_object(document) if isinstance(document, dict) else None
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
        return _rows_of_split(names["columns"], names["data"])
    if "question" in names or "messages" in names or "conversations" in names:
        return _transposed(document)
    lists = {name: cell for name, cell in names.items() if isinstance(cell, list) and cell and all(isinstance(row, dict) for row in cell)}
    table = next((lists[name] for name in ("data", "rows") if name in lists), None) or (lists.popitem()[1] if len(lists) == 1 else None)
    if table is not None:
        return _rows_of_list(table)
    if document and all(isinstance(cell, dict) for cell in document.values()):
        return list(document.values())
    return None


def _rows_of_split(columns: list[Any], data: list[Any]) -> list[Any] | None:
    """Rows of lists under columns that are named once; rows that are objects are rows themselves."""
    lists = any(isinstance(row, list) for row in data)
    if lists and not all(isinstance(name, str) for name in columns):
        return None
    if data and not lists and not any(isinstance(row, dict) for row in data):
        return None
    return _rows_of_list([dict(zip(columns, row, strict=False)) if isinstance(row, list) else row for row in data])


def _rows_of_list(items: list[Any]) -> list[Any]:
    return [row for item in items for row in (_rows_of_item(item) if isinstance(item, dict) else [item])]


def _rows_of_item(item: dict[str, Any]) -> Iterator[Any]:
    """Of an item of a list: itself, what the Hub's viewer wraps in `row`, or the questions of SQuAD's article."""
    if "question" in map(folded, item):
        yield item
    elif _is_article(item):
        yield from (question for paragraph in item["paragraphs"] for question in paragraph["qas"])
    elif isinstance(item.get("row"), dict):
        yield item["row"]
    else:
        yield item


def _is_article(item: dict[str, Any]) -> bool:
    paragraphs = item.get("paragraphs")
    return isinstance(paragraphs, list) and all(isinstance(part, dict) and isinstance(part.get("qas"), list) for part in paragraphs)


def _transposed(document: dict[str, Any]) -> list[Any]:
    """Rows of columns, either all lists of one length or all dicts that share keys; otherwise, the document is a row itself."""
    columns = list(document.values())
    if all(isinstance(column, dict) for column in columns) and set.intersection(*map(set, columns)):
        keys = dict.fromkeys(key for column in columns for key in column)
        return [{name: column.get(key) for name, column in document.items()} for key in keys]
    if all(isinstance(column, list) for column in columns) and len({len(column) for column in columns}) == 1:
        return [dict(zip(document, cells, strict=True)) for cells in zip(*columns, strict=True)]
    return [document]
