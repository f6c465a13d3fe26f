"""Tables in files: which reader reads which ending.

One reader for all that others wrote, whatever is then made of it: facts, facts to replay, shots.
"""

import io
from collections.abc import Callable, Iterator
from itertools import dropwhile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import python_calamine as calamine

from kp.errors import UserError
from kp.facts.delimited import delimited_rows
from kp.facts.json_tables import json_rows
from kp.facts.jsonl import json_line_rows
from kp.facts.rows import MOST_ROWS, Row, Rows, column_names, folded, row_of
from kp.facts.sheet_sizes import validate_sheets
from kp.facts.text_files import COMPRESSIONS, MOST_TEXT, reading, suffix_of, whole

ENDINGS = f".csv, .tsv, .json, .jsonl, .parquet, .xlsx, each also with {', '.join(COMPRESSIONS)}"


def read_rows(path: Path, field: str) -> Rows:
    """The rows of a table, by its ending without regard to case; blank rows are left out.

    Raises MissingSourceError naming the config field `field` if there is no such file, and UserError naming the file if it cannot be read.
    """
    readers: dict[str, Callable[[], Rows]] = {
        ".csv": lambda: delimited_rows(path, ".csv", field),
        ".tsv": lambda: delimited_rows(path, ".tsv", field),
        ".json": lambda: json_rows(path, field),
        ".jsonl": lambda: json_line_rows(path, field),
        ".ndjson": lambda: json_line_rows(path, field),
        ".parquet": lambda: Rows(_parquet_rows(path, field)),
        ".xlsx": lambda: _sheet_rows(path, field),
    }
    suffix = suffix_of(path)
    if suffix not in readers:
        raise UserError(f"'{path}': expected a path that ends in {ENDINGS}", field=field)
    return readers[suffix]()


def _content(path: Path, field: str) -> bytes:
    with reading(path, field):
        return whole(path)


def _parquet_rows(path: Path, field: str) -> Iterator[Row]:
    try:
        with pq.ParquetFile(pa.BufferReader(_content(path, field))) as file:
            _validate_size(file.metadata, path, field)
            names, number = column_names(file.schema_arrow.names, path), 0
            for batch in file.iter_batches():
                for cells in zip(*(_values(column) for column in batch.columns), strict=True):
                    number += 1
                    row = row_of(number, names, cells)
                    if row is not None:
                        yield row
    except pa.ArrowException as error:
        raise UserError(f"{path}: not a readable parquet file: {error}", field=field) from error


def _validate_size(stated: pq.FileMetaData, path: Path, field: str) -> None:
    """UserError if a parquet file says that it holds more than is read of a table."""
    size = sum(stated.row_group(number).total_byte_size for number in range(stated.num_row_groups))
    if stated.num_rows > MOST_ROWS or size > MOST_TEXT:
        told = f"{stated.num_rows:,} rows and {size >> 20:,} MiB; at most {MOST_ROWS:,} and {MOST_TEXT >> 20:,} are read of a table"
        raise UserError(f"{path}: holds {told}", field=field)


def _values(column: pa.Array) -> list[Any]:
    """The cells, as text where Python has no such value: in 32 bits, 0.1 is another number, and no date is beyond the year 9999."""
    column = _as_text_where(_is_narrow, column)
    try:
        return column.to_pylist()
    except OverflowError:
        return _as_text_where(pa.types.is_temporal, column).to_pylist()


def _is_narrow(kind: pa.DataType) -> bool:
    return pa.types.is_float32(kind) or pa.types.is_float16(kind)


def _as_text_where(chosen: Callable[[pa.DataType], bool], column: pa.Array) -> pa.Array:
    kind = _with_texts(chosen, column.type)
    return column if kind == column.type else pc.cast(column, kind)


def _with_texts(chosen: Callable[[pa.DataType], bool], kind: pa.DataType) -> pa.DataType:
    """The type with text in place of the chosen ones, also within lists and structs."""
    if chosen(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(_field_with_texts(chosen, kind.value_field))
    if pa.types.is_large_list(kind):
        return pa.large_list(_field_with_texts(chosen, kind.value_field))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_field_with_texts(chosen, kind.value_field), kind.list_size)
    if pa.types.is_struct(kind):
        return pa.struct([_field_with_texts(chosen, part) for part in kind])
    return kind


def _field_with_texts(chosen: Callable[[pa.DataType], bool], part: pa.Field) -> pa.Field:
    return part.with_type(_with_texts(chosen, part.type))


def _sheet_rows(path: Path, field: str) -> Rows:
    """Of the first sheet with a column `question`, or else of the first that is not empty; hidden ones come after all others."""
    try:
        content = _content(path, field)
        validate_sheets(content, path, field)
        book = calamine.CalamineWorkbook.from_filelike(io.BytesIO(content))
        shown = sorted(book.sheets_metadata, key=lambda sheet: sheet.visible != calamine.SheetVisibleEnum.Visible)
        sheets = {sheet.name: _filled(book.get_sheet_by_name(sheet.name).to_python(skip_empty_area=False)) for sheet in shown}
    except (calamine.CalamineError, calamine.PasswordError, calamine.XmlError, calamine.ZipError) as error:
        raise UserError(f"{path}: not a readable Excel file: {error}", field=field) from error
    filled = {name: rows for name, rows in sheets.items() if rows}
    if not filled:
        raise UserError(f"{path}: the file is empty", field=field)
    name = next((name for name, rows in filled.items() if "question" in map(folded, rows[0])), next(iter(filled)))
    header, *body = filled[name]
    names = column_names(header, path)
    rows = (row_of(number, names, cells) for number, cells in enumerate(body, start=1))
    return Rows((row for row in rows if row is not None), f"its sheet '{name}', one of {len(filled)}" if len(filled) > 1 else None)


def _filled(sheet: list[list[Any]]) -> list[list[Any]]:
    """The rows from the first that is not empty."""
    return list(dropwhile(lambda cells: all(cell == "" for cell in cells), sheet))
