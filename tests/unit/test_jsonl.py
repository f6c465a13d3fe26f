"""JSON lines: what is read out of a plain and of a gzipped file, and what is said of a bad one."""

import gzip
from pathlib import Path

import pytest

from kp.errors import MissingSourceError, UserError
from kp.facts.jsonl import read_jsonl

TEXT = '\ufeff{"a": 1}\r\n\n  \n{"a": "one\u2028line"}\n{"a": 3}'
ROWS = [{"a": 1}, {"a": "one\u2028line"}, {"a": 3}]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_read_jsonl_plain_and_gzipped_give_the_same_rows_in_order(tmp_path: Path, name: str) -> None:
    content = TEXT.encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert list(read_jsonl(tmp_path / name, "field")) == ROWS


def test_read_jsonl_stops_reading_where_its_reader_stops(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n' * 3 + "{oops", encoding="utf-8")
    rows = read_jsonl(tmp_path / "rows.jsonl", "field")
    assert [next(rows) for _ in range(3)] == [{"a": 1}] * 3
    with pytest.raises(UserError, match=r"rows\.jsonl: row 4: not valid JSON"):
        next(rows)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.jsonl", b'{"a": 1}\n[1]\n', r"section\.field: .*rows\.jsonl: row 2: expected an object: '\[1\]'"),
        ("rows.jsonl", b'{"a": "\xff"}', r"section\.field: .*rows\.jsonl: row 1: not UTF-8"),
        ("rows.jsonl.gz", b'{"a": 1}', r"section\.field: .*rows\.jsonl\.gz: cannot be read: Not a gzipped file"),
        ("rows.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 9, mtime=0)[:-6], r"section\.field: .*rows\.jsonl\.gz: cannot be read: .*ended"),
        (
            "rows.jsonl.gz",
            gzip.compress(b'{"a": 1}\n', mtime=0)[:10] + b"\xff" * 40,
            r"section\.field: .*rows\.jsonl\.gz: cannot be read: ",
        ),
    ],
    ids=["no object", "no text", "not gzipped", "cut short", "damaged"],
)
def test_read_jsonl_bad_file_is_an_error_that_names_it(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        list(read_jsonl(tmp_path / name, "section.field"))


def test_read_jsonl_missing_file_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(MissingSourceError, match=r"section\.field: .*none\.jsonl: cannot be read: No such file"):
        list(read_jsonl(tmp_path / "none.jsonl", "section.field"))
