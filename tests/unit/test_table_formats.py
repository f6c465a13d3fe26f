"""The same rows written by many programs in many formats give the same facts."""

import csv
import gzip
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import openpyxl
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kp.facts.tables import read_source

Rows = list[dict[str, Any]]
MARKS = {"aliases": "None", "relation": "<NA>"}
COLUMNS = ("question", "answer", "aliases", "relation", "subject_degree")

texts = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters="|;"), min_size=1, max_size=8)
words = st.lists(texts, min_size=1, max_size=3).map(lambda parts: "w" + ", ".join(parts) + '\'s "w"')
years = st.integers(-3000, 3000)
gaps = st.none()


@st.composite
def tables(draw: st.DrawFn) -> Rows:
    """Rows with gaps; a column of answers is of numbers or of texts, as in a data frame."""
    answers = draw(st.sampled_from([words, years]))
    row = st.fixed_dictionaries(
        {"question": words, "answer": answers | gaps, "aliases": words | gaps, "relation": words | gaps, "subject_degree": years | gaps}
    )
    full = {"question": "w?", "answer": draw(answers), "aliases": "w", "relation": "w", "subject_degree": 1}
    return [full, *draw(st.lists(row, max_size=6))]


def by_csv(rows: Rows, path: Path, separator: str = ",") -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, delimiter=separator)
        writer.writeheader()
        writer.writerows(rows)


def by_excel(rows: Rows, path: Path) -> None:
    book = openpyxl.Workbook()
    assert book.active is not None
    book.active.append(COLUMNS)
    for row in rows:
        book.active.append([row[column] for column in COLUMNS])
    book.save(path)


def by_duckdb(rows: Rows, path: Path) -> None:
    with duckdb.connect() as connection:
        connection.register("facts", frame(rows).to_arrow())
        connection.execute(f"COPY (SELECT * FROM facts) TO '{path}'")


def frame(rows: Rows) -> pl.DataFrame:
    return pl.DataFrame(rows, infer_schema_length=None)


def by_gzip(rows: Rows, path: Path) -> None:
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))


WRITERS: dict[str, Callable[[Rows, Path], Any]] = {
    "csv.csv": by_csv,
    "semicolons.csv": lambda rows, path: by_csv(rows, path, ";"),
    "csv.tsv": lambda rows, path: by_csv(rows, path, "\t"),
    "pandas.csv": lambda rows, path: pd.DataFrame(rows).to_csv(path, index=False),
    "pandas_utf16.csv": lambda rows, path: pd.DataFrame(rows).to_csv(path, index=False, encoding="utf-16"),
    "pandas_marks.tsv": lambda rows, path: pd.DataFrame(rows).fillna(MARKS).to_csv(path, index=False, sep="\t"),
    "pandas.jsonl": lambda rows, path: pd.DataFrame(rows).to_json(path, orient="records", lines=True),
    "pandas_records.json": lambda rows, path: pd.DataFrame(rows).to_json(path, orient="records"),
    "pandas_columns.json": lambda rows, path: pd.DataFrame(rows).to_json(path),
    "pandas_split.json": lambda rows, path: pd.DataFrame(rows).to_json(path, orient="split"),
    "pandas_index.json": lambda rows, path: pd.DataFrame(rows).to_json(path, orient="index"),
    "pandas.parquet": lambda rows, path: pd.DataFrame(rows).to_parquet(path),
    "pandas.xlsx": lambda rows, path: pd.DataFrame(rows).to_excel(path, index=False),
    "polars.csv": lambda rows, path: frame(rows).write_csv(path),
    "polars.json": lambda rows, path: frame(rows).write_json(path),
    "polars.jsonl": lambda rows, path: frame(rows).write_ndjson(path),
    "polars.parquet": lambda rows, path: frame(rows).write_parquet(path),
    "duckdb.csv": by_duckdb,
    "duckdb.parquet": by_duckdb,
    "duckdb.json": by_duckdb,
    "openpyxl.xlsx": by_excel,
    "gzip.jsonl.gz": by_gzip,
}


def facts_of(rows: Rows, name: str) -> tuple[Rows, tuple[int, ...] | None]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        WRITERS[name](rows, path)
        read = read_source(str(path))
    assert read.unread == ()
    return [{**fact, "source": ""} for fact in read.facts.to_pylist()], read.rows


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=tables())
def test_table_by_every_program_and_format_gives_the_same_facts(name: str, rows: Rows) -> None:
    facts, numbers = facts_of(rows, name)
    assert [fact["question"] for fact in facts] == [row["question"] for row in rows]
    assert [fact["answers"][:1] for fact in facts] == [[] if row["answer"] is None else [str(row["answer"])] for row in rows]
    assert [fact["relation"] for fact in facts] == [row["relation"] or "unspecified" for row in rows]
    degrees = [row["subject_degree"] for row in rows]
    assert [fact["subject_degree"] for fact in facts] == [degree if degree is not None and degree >= 0 else None for degree in degrees]
    assert numbers == tuple(range(1, len(rows) + 1))
    assert facts == facts_of(rows, "gzip.jsonl.gz")[0]


LISTS = [{"question": f"Where is {name}?", "answers": [name, name.upper()]} for name in ("Oslo's port", "Lima, Peru", 'The "Bell"')]


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("pandas.csv", lambda path: pd.DataFrame(LISTS).to_csv(path, index=False)),
        ("arrays.csv", lambda path: pa.Table.from_pylist(LISTS).to_pandas().to_csv(path, index=False)),
        ("pandas.xlsx", lambda path: pd.DataFrame(LISTS).to_excel(path, index=False)),
        ("pandas.parquet", lambda path: pd.DataFrame(LISTS).to_parquet(path)),
        ("pandas.jsonl", lambda path: pd.DataFrame(LISTS).to_json(path, orient="records", lines=True)),
        ("arrow.parquet", lambda path: pq.write_table(pa.Table.from_pylist(LISTS), path)),
        ("polars.json", lambda path: pl.DataFrame(LISTS).write_json(path)),
    ],
)
def test_lists_by_every_program_and_format_give_the_same_answers(tmp_path: Path, name: str, write: Callable[[Path], Any]) -> None:
    write(tmp_path / name)
    assert read_source(str(tmp_path / name)).facts["answers"].to_pylist() == [row["answers"] for row in LISTS]


def test_parquet_numbers_of_32_bits_are_written_as_they_read(tmp_path: Path) -> None:
    table = pa.table({"question": ["a?", "b?"], "answer": pa.array([0.1, 1900], pa.float32())})
    pq.write_table(table, tmp_path / "facts.parquet")
    assert read_source(str(tmp_path / "facts.parquet")).facts["object"].to_pylist() == ["0.1", "1900"]


DAY_BEYOND = pa.array([-25567, 4_000_000], pa.int32()).cast(pa.date32())  # Python's last is in 9999


@pytest.mark.parametrize(
    ("column", "answers"),
    [
        (pa.array([[0.1], [2.0, 0.3]], pa.list_(pa.float32())), [["0.1"], ["2", "0.3"]]),
        (pa.array([[0.1], [2.0]], pa.list_(pa.float32(), 1)), [["0.1"], ["2"]]),
        (pa.array([{"value": 0.1}, {"value": 2}], pa.struct([("value", pa.float32())])), [["0.1"], ["2"]]),
        (DAY_BEYOND, [["1900-01-01"], ["12921-08-18"]]),
        (pa.ListArray.from_arrays([0, 1, 2], DAY_BEYOND), [["1900-01-01"], ["12921-08-18"]]),
        (pa.array([0, 400_000_000_000]).cast(pa.timestamp("s")), [["1970-01-01 00:00:00.000"], ["14645-06-30 15:06:40.000"]]),
    ],
)
def test_parquet_values_that_python_has_not_are_read_as_text(tmp_path: Path, column: pa.Array, answers: list[list[str]]) -> None:
    pq.write_table(pa.table({"question": ["a?", "b?"], "answers": column}), tmp_path / "facts.parquet")
    assert read_source(str(tmp_path / "facts.parquet")).facts["answers"].to_pylist() == answers


@pytest.mark.parametrize("header", [("question", "answer"), ("draft", "of facts")])
def test_sheet_that_is_hidden_comes_after_the_visible_ones(tmp_path: Path, header: tuple[str, str]) -> None:
    book = openpyxl.Workbook()
    assert book.active is not None
    book.active.append(header)
    book.active.append(("old?", "old"))
    book.active.sheet_state = "hidden"
    sheet = book.create_sheet("Facts")
    sheet.append(("question", "answer"))
    sheet.append(("a?", "a"))
    book.active = 1
    book.save(tmp_path / "facts.xlsx")
    assert read_source(str(tmp_path / "facts.xlsx")).facts["object"].to_pylist() == ["a"]


def test_quotation_mark_that_closes_rows_later_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "facts.csv"
    path.write_text('question,answer,aliases\nZ?,z,"two\nlines"\nA?,x,"al\nB?,y,z\nC?,w,al"\n', encoding="utf-8")
    said = "1 rows have a quoted cell with lines that look like rows, first row 2; if they are rows, a quotation mark is missing"
    assert read_source(str(path)).notes == (f"{path}: {said}",)
