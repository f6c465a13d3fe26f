"""Small files that hold more than any memory, and files of a billion rows, end in an error within bounded memory."""

import bz2
import gzip
import io
import json
import lzma
import resource
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kp.errors import UserError
from kp.facts import rows as row_limits
from kp.facts import tables, text_files
from kp.facts.sheet_sizes import validate_sheets
from kp.facts.validation import check_facts
from tests.conftest import REPOSITORY

MOST_MEMORY = 3 << 30  # bytes of address space, of which imports map one GiB
READ = "import sys\nfrom kp.facts.tables import read_source\nread_source(sys.argv[1])"
PIECE = b"a" * (1 << 20)


def in_little_memory(source: Path) -> str:
    """The error of a process that reads the source and may have no more than MOST_MEMORY."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))

    command = [sys.executable, "-c", READ, str(source)]
    ended = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True, cwd=REPOSITORY, timeout=120, check=False)
    assert ended.returncode == 1
    return ended.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("ending", [".jsonl.gz", ".csv.gz", ".json.gz", ".parquet.gz", ".xlsx.gz"])
def test_file_of_one_line_of_gigabytes_ends_within_bounded_memory(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"facts{ending}"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(1500):
            file.write(PIECE)
    assert path.stat().st_size < 10 << 20
    told = in_little_memory(path)
    assert told.startswith("kp.errors.UserError: ")
    assert "MiB" in told


@pytest.mark.parametrize(("ending", "compressed"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)])
def test_every_compression_is_bounded(
    ending: str, compressed: Callable[[bytes], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_files, "MOST_TEXT", 1 << 20)
    path = tmp_path / f"facts.jsonl.{ending}"
    row = json.dumps({"question": "Where?", "answer": "here"}).encode() + b"\n"
    path.write_bytes(compressed(row * (1 << 16)))
    with pytest.raises(UserError, match="more than 1 MiB of content") as refused:
        tables.read_source(str(path))
    assert refused.value.field == "facts.source"


def test_table_of_too_many_rows_is_refused_at_the_first_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MOST_ROWS", 10)
    path = tmp_path / "facts.csv"
    path.write_text("question,answer\n" + "".join(f"q{number}?,a\n" for number in range(11)))
    with pytest.raises(UserError, match="more than 10 rows") as refused:
        tables.read_source(str(path))
    assert refused.value.field == "facts.source"


def test_parquet_of_a_billion_rows_is_refused_by_what_it_says(tmp_path: Path) -> None:
    path = tmp_path / "facts.parquet"
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 1_000_000, pa.int8()), ["a"])
    table = pa.table({"question": column, "answer": column})
    with pq.ParquetWriter(path, table.schema) as writer:
        for _ in range(50):
            writer.write_table(table)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(UserError, match=rf"holds 50,000,000 rows .* at most {row_limits.MOST_ROWS:,}") as refused:
        tables.read_source(str(path))
    assert refused.value.field == "facts.source"


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, '{"data": ' + "[" * 100_000 + "]" * 100_000 + "}"])
def test_json_of_many_brackets_is_refused(text: str, tmp_path: Path) -> None:
    for name in ("facts.json", "facts.jsonl"):
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match=r"facts\.json"):
            checked(tmp_path / name)


def checked(path: Path) -> None:
    found = tables.read_source(str(path))
    check_facts(found.facts, str(path), 0.0, found.rows, found.unread)


def archive(members: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in members.items():
            file.writestr(name, text)
    return content.getvalue()


@pytest.mark.parametrize(
    ("sheet", "told"),
    [
        (b"<row>" + b" " * (300 << 20), "more than 256 MiB"),
        (b'<c r="A1"><v>1</v></c><c r="XFD1048576"><v>1</v></c>', "far from all others"),
        (b" " * ((1 << 20) - 10) + b'<c r="XFD1048576"/>', "far from all others"),
    ],
)
def test_sheet_that_unfolds_to_more_than_memory_is_refused(sheet: bytes, told: str) -> None:
    with pytest.raises(UserError, match=told) as refused:
        validate_sheets(archive({"xl/worksheets/sheet1.xml": sheet}), Path("facts.xlsx"), "facts.source")
    assert refused.value.field == "facts.source"


def test_sheet_of_usual_size_is_allowed() -> None:
    validate_sheets(archive({"xl/worksheets/sheet1.xml": b'<c r="AB1000"/>'}), Path("facts.xlsx"), "facts.source")
