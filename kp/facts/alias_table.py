"""A table of aliases, read in batches.

Such a table may have a row for everything in Wikidata, while a study needs the names of some thousand entities. So it is never loaded as a
whole: readers yield frames of at most BATCH rows, and the caller keeps what it needs. Text is read as other foreign tables are, row by row,
because an error must name its row; but here one bad row is an error, because an alias that is missing without a word would count as a lie.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from kp.errors import UserError
from kp.facts.cells import MISSING, CellError, as_text, as_texts
from kp.facts.rows import Row
from kp.facts.table_files import read_rows
from kp.facts.text_files import suffix_of

FIELD = "facts.graph.aliases"
BATCH = 65_536  # rows
COLUMNS = ("id", "alias")
ALIAS_ROWS = {"row": pl.Int64, "id": pl.String, "alias": pl.String}  # the first data row is 1; a row with a list gives several of these
_TEXTS = (".csv", ".tsv", ".jsonl")


def read_aliases(path: Path) -> Iterator[pl.DataFrame]:
    """The rows of a .parquet, .csv, .tsv or .jsonl table with `id` and `alias`, as frames of ALIAS_ROWS in the file's order.

    An alias cell has one alias, a list of them (in csv and tsv as text), or nothing; other columns are not read. Raises UserError
    naming the field if the file cannot be read, and the file and row if a row is malformed.
    """
    if suffix_of(path) not in (*_TEXTS, ".parquet"):
        raise UserError(f"'{path}': expected a path that ends in .parquet, .csv, .tsv, .jsonl", field=FIELD)
    if not path.is_file():
        raise UserError(f"{path}: no such file", field=FIELD)
    yield from _read_parquet(path) if suffix_of(path) == ".parquet" else _read_text(path)


def _read_text(path: Path) -> Iterator[pl.DataFrame]:
    read = read_rows(path, FIELD)
    if read.encoding:
        raise UserError(f"{path}: not UTF-8 text, but {read.encoding}: save it as CSV UTF-8", field=FIELD)
    rows = read.readable(str(path), FIELD)
    while batch := list(islice(rows, BATCH)):
        parsed = [(row.number, *_parsed(row, f"{path}: row {row.number}")) for row in batch]
        yield pl.DataFrame([(row, id_, alias) for row, id_, aliases in parsed for alias in aliases], schema=ALIAS_ROWS, orient="row")


def _parsed(row: Row, where: str) -> tuple[str, list[str]]:
    """The id and the aliases of a row."""
    missing = [column for column in COLUMNS if column not in row.cells]
    if missing:
        raise UserError(f"{where}: no '{missing[0]}'; there are: {', '.join(sorted(row.cells))}", field=FIELD)
    try:
        id_, aliases = as_text(row.cells["id"], "id"), as_texts(row.cells["alias"], "alias")
    except CellError as error:
        raise UserError(f"{where}: {error}", field=FIELD) from error
    if not id_:
        raise UserError(f"{where}: column 'id' is empty", field=FIELD)
    return id_, aliases


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
    exploded = rows if batch.schema["alias"] == pl.String else rows.explode("alias")
    return exploded.filter(~pl.col("alias").is_in(list(MISSING)))
