"""A table of aliases, read in batches.

Such a table may have a row for everything in Wikidata, while a study needs the names of some thousand entities. So it is never loaded as a
whole: readers yield frames of at most BATCH rows, and the caller keeps what it needs. Text formats are read by the standard library's
parsers rather than by a columnar one, because an error must name its row.
"""

import csv
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from kp.errors import UserError
from kp.facts.cells import as_list, as_text
from kp.facts.jsonl import read_jsonl

FIELD = "facts.graph.aliases"
BATCH = 65_536  # rows
COLUMNS = ("id", "alias")
ALIAS_ROWS = {"row": pl.Int64, "id": pl.String, "alias": pl.String}  # the first data row is 1; a row with a list gives several of these
_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_LIST_BEGINS = ('["', "[]")  # no name begins like this; "[REC]" is a film


def read_aliases(path: Path) -> Iterator[pl.DataFrame]:
    """The rows of a .parquet, .csv, .tsv or .jsonl table with `id` and `alias`, as frames of ALIAS_ROWS in the file's order.

    An alias cell has one alias, a list of them (in csv and tsv a JSON list), or nothing; other columns are not read. Raises UserError
    naming the field if the file cannot be read, and the file and row if a row is malformed.
    """
    if path.suffix not in (*_SEPARATORS, ".jsonl", ".parquet"):
        raise UserError(f"'{path}': expected a path that ends in .parquet, .csv, .tsv, .jsonl", field=FIELD)
    if not path.is_file():
        raise UserError(f"{path}: no such file", field=FIELD)
    yield from _read_parquet(path) if path.suffix == ".parquet" else _in_frames(_read_text(path), path)


def _read_text(path: Path) -> Iterator[tuple[Any, Any]]:
    """The id and alias cells of the file's rows."""
    if path.suffix == ".jsonl":
        for number, row in enumerate(read_jsonl(path, FIELD), start=1):
            yield _cell(row, "id", f"{path}: row {number}"), _cell(row, "alias", f"{path}: row {number}")
        return
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from _read_delimited(csv.reader(file, delimiter=_SEPARATORS[path.suffix], strict=True), path)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text: {error}", field=FIELD) from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}", field=FIELD) from error


def _cell(row: dict[str, Any], column: str, where: str) -> Any:
    if column not in row:
        raise UserError(f"{where}: no '{column}'; there are: {', '.join(sorted(row))}")
    return row[column]


def _read_delimited(lines: Any, path: Path) -> Iterator[tuple[str, str]]:
    """`lines` is the object from csv.reader, whose type has no public name in typeshed."""
    try:
        header: list[str] = next(lines, [])
        id_, alias = (_place(header, column, path) for column in COLUMNS)
        for number, line in enumerate(filter(None, lines), start=1):
            if len(line) != len(header):
                raise UserError(f"{path}: row {number}: {len(line)} fields, the header has {len(header)}")
            yield line[id_], line[alias]
    except csv.Error as error:
        raise UserError(f"{path}: line {lines.line_num}: not a valid table: {error}") from error


def _place(header: list[str], column: str, path: Path) -> int:
    if header.count(column) != 1:
        raise UserError(f"{path}: column '{column}' must stand in the header once; there are: {', '.join(header)}", field=FIELD)
    return header.index(column)


def _in_frames(cells: Iterator[tuple[Any, Any]], path: Path) -> Iterator[pl.DataFrame]:
    numbered = enumerate(cells, start=1)
    while batch := list(islice(numbered, BATCH)):
        parsed = [(row, _id(cell, f"{path}: row {row}"), _aliases(aliases, f"{path}: row {row}")) for row, (cell, aliases) in batch]
        yield pl.DataFrame([(row, id_, alias) for row, id_, aliases in parsed for alias in aliases], schema=ALIAS_ROWS, orient="row")


def _id(cell: Any, where: str) -> str:
    text = as_text(cell, where, "id")
    if not text:
        raise UserError(f"{where}: column 'id' is empty")
    return text


def _aliases(cell: Any, where: str) -> list[str]:
    if isinstance(cell, str) and cell.lstrip().startswith("["):
        if not cell.lstrip().startswith(_LIST_BEGINS):
            return [cell.strip()]
        try:
            cell = json.loads(cell)
        except json.JSONDecodeError as error:
            raise UserError(f"{where}: column 'alias' is {cell[:40]!r}, expected one alias or a JSON list: {error}") from error
    return as_list(cell, where, "alias")


def _read_parquet(path: Path) -> Iterator[pl.DataFrame]:
    try:
        with pq.ParquetFile(path) as file:
            missing = [column for column in COLUMNS if column not in file.schema_arrow.names]
            if missing:
                raise UserError(f"{path}: column '{missing[0]}' is missing; there are: {', '.join(file.schema_arrow.names)}", field=FIELD)
            before = 0
            for batch in file.iter_batches(BATCH, columns=list(COLUMNS)):
                yield _exploded(_plain(batch), before, path)
                before += batch.num_rows
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: not a readable parquet file: {error}", field=FIELD) from error


def _plain(batch: pa.RecordBatch) -> pl.DataFrame:
    """The batch with its dictionary-encoded columns as text."""
    return pl.DataFrame(pa.Table.from_batches([batch])).with_columns(pl.col(pl.Categorical).cast(pl.String))


def _exploded(batch: pl.DataFrame, before: int, path: Path) -> pl.DataFrame:
    """One batch as ALIAS_ROWS; `before` is the number of rows before it in the file."""
    for column, types in {"id": (pl.String,), "alias": (pl.String, pl.List(pl.String))}.items():
        if batch.schema[column] not in types:
            wanted = " or ".join(map(str, types))
            raise UserError(f"{path}: column '{column}' is {batch.schema[column]}, expected {wanted}", field=FIELD)
    row = pl.int_range(before + 1, before + 1 + pl.len(), dtype=pl.Int64).alias("row")
    rows = batch.select(row, pl.col("id").str.strip_chars(), "alias")
    faulty = rows.filter(pl.col("id").is_null() | (pl.col("id") == ""))
    if not faulty.is_empty():
        raise UserError(f"{path}: row {faulty['row'][0]}: column 'id' is empty")
    return (rows if batch.schema["alias"] == pl.String else rows.explode("alias")).drop_nulls("alias")
