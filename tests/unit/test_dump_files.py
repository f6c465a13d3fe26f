"""Finding a dump's files, and getting their text in whole lines, from wherever and however they are stored."""

import bz2
import gzip
import io
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kp.errors import UserError
from kp.facts.dump.blocks import BLOCK, blocks_of, reading_blocks
from kp.facts.dump.files import Compression, DumpFile, find_files, is_dump
from tests.dump_lines import statement, write_dump

LINES = [statement(f"Person_{number}", "child", f"Child_{number}") for number in range(2000)]
TEXT = "".join(line + "\n" for line in LINES).encode()


def text_of(file: DumpFile, workers: int = 1) -> bytes:
    with reading_blocks(file, workers) as blocks:
        return b"".join(map(bytes, blocks))


def test_files_of_a_folder_come_sorted_and_others_are_left_out(tmp_path: Path) -> None:
    for name in ("b.nt", "a.ttl.bz2", "c.ttl.gz", "readme.txt", "d.csv"):
        write_dump(tmp_path / name, LINES[:2])
    found = find_files(str(tmp_path))
    assert [Path(file.address).name for file in found] == ["a.ttl.bz2", "b.nt", "c.ttl.gz"]
    assert [file.compression for file in found] == [Compression.BZIP2, Compression.NONE, Compression.GZIP]
    assert found[1].size == (tmp_path / "b.nt").stat().st_size
    assert [Path(file.address).name for file in find_files(str(tmp_path / "*.ttl.*"))] == ["a.ttl.bz2", "c.ttl.gz"]


def test_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path) -> None:
    write_dump(tmp_path / "a[1].nt", LINES[:2])
    assert [Path(file.address).name for file in find_files(str(tmp_path / "a[1].nt"))] == ["a[1].nt"]


@pytest.mark.parametrize("source", ["nothing.ttl.bz2", "none/*.nt", "no-such-protocol://x/a.nt", "empty", "a.csv"])
def test_source_without_a_dump_is_an_error_that_names_the_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.csv").write_text("a,b")
    with pytest.raises(UserError, match=r"facts\.source: .*" + source.replace("*", r"\*").split("/")[-1]):
        find_files(source)


def test_dump_is_told_from_other_sources_by_its_ending_or_its_folder(tmp_path: Path) -> None:
    write_dump(tmp_path / "a.ttl", LINES[:1])
    (tmp_path / "other").mkdir()
    assert is_dump("x/y.ttl.bz2")
    assert is_dump("s3://bucket/y.nt.gz")
    assert is_dump("x/Y.TTL.GZ")
    assert is_dump("x/y.rdf")  # of which find_files says that it is not read
    assert is_dump(str(tmp_path))
    assert is_dump(str(tmp_path / "other"))
    assert is_dump(str(tmp_path / "*.nt"))
    assert not any(map(is_dump, ("builtin", "synthetic", "facts.csv", "hf:a/b", "hf:a/b[0]", "x.jsonl", "nowhere")))


@pytest.mark.parametrize("name", ["A.NT", "a.Ttl.GZ", "a.nq.BZ2", "A.TQL", "a.nq", "a.tql.bz2"])
def test_ending_in_any_case_and_of_any_form_is_read(tmp_path: Path, name: str) -> None:
    path = write_dump(tmp_path / name.lower(), LINES).rename(tmp_path / name)
    for source in (path, tmp_path):
        (file,) = find_files(str(source))
        assert text_of(file) == TEXT


def test_hidden_files_of_a_folder_are_left_out(tmp_path: Path) -> None:
    for name in ("a.nt", ".b.nt", "._a.nt"):
        write_dump(tmp_path / name, LINES[:2])
    assert [Path(file.address).name for file in find_files(str(tmp_path))] == ["a.nt"]


def refusal(source: Path | str) -> str:
    with pytest.raises(UserError) as caught:
        text_of(find_files(str(source))[0])
    assert caught.value.field == "facts.source"
    return caught.value.message


def test_folder_without_a_dump_says_what_it_has(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv", "c.rdf.gz"):
        (tmp_path / name).write_text("a")
    assert "the endings there are .csv (2), .rdf.gz (1), for example a.csv" in refusal(tmp_path)
    assert "expected a name that ends in .ttl, .nt, .nq, .tql, plain or with .bz2 or .gz after it" in refusal(tmp_path)
    assert "the endings there are .csv (2)" in refusal(tmp_path / "*.csv")
    assert "there is none" in refusal(tmp_path / "*.xml")


def test_folder_whose_dump_is_in_a_subfolder_says_where(tmp_path: Path) -> None:
    (tmp_path / "parts" / "x").mkdir(parents=True)
    write_dump(tmp_path / "parts" / "x" / "a.NT", LINES)
    assert f"such as parts/x/a.NT: name the folder '{tmp_path}/parts/x', or all of them as '{tmp_path}/**'" in refusal(tmp_path)
    assert text_of(find_files(f"{tmp_path}/**")[0]) == TEXT


@pytest.mark.parametrize("name", ["a.rdf", "a.owl.gz", "a.jsonld", "a.n3", "a.trig", "a.hdt", "a.nt.zst", "a.ttl.zip", "a.nt.xz"])
def test_form_that_is_not_read_says_which_are(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    assert is_dump(str(tmp_path / name))
    assert f"{name}': expected a name that ends in .ttl, .nt, .nq, .tql" in refusal(tmp_path / name)


@pytest.mark.parametrize("name", ["a.ttl", "a.nt", "a.ttl.bz2", "a.nt.bz2", "a.ttl.gz", "a.nt.gz"])
@pytest.mark.parametrize("workers", [1, 2])
def test_text_of_any_form_is_the_text(tmp_path: Path, name: str, workers: int) -> None:
    (file,) = find_files(str(write_dump(tmp_path / name, LINES)))
    assert text_of(file, workers) == TEXT


def test_text_of_several_streams_in_one_file_is_all_of_it(tmp_path: Path) -> None:
    (tmp_path / "a.ttl.bz2").write_bytes(bz2.compress(TEXT) + bz2.compress(TEXT))
    assert text_of(find_files(str(tmp_path))[0], 2) == TEXT * 2


@pytest.mark.parametrize("name", ["a.ttl.bz2", "a.nt.gz", "a.nt"])
def test_remote_file_is_read_by_its_address(tmp_path: Path, name: str) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe(f"/dumps/{name}", write_dump(tmp_path / name, LINES).read_bytes())
    try:
        (file,) = find_files("memory://dumps")
        assert file.address.startswith("memory://")
        assert file.address.endswith(name)
        assert text_of(file) == TEXT
    finally:
        memory.rm("/dumps", recursive=True)


def _flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0x10]) + data[middle + 1 :]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("name", ["a.ttl.bz2", "a.ttl.gz"])
@pytest.mark.parametrize(
    "harm",
    [lambda data: data[: len(data) // 2], lambda data: data[:-1], _flipped],
    ids=["half", "last byte", "flipped bit"],
)
def test_damaged_file_is_an_error_that_names_it(tmp_path: Path, name: str, workers: int, harm: object) -> None:
    path = write_dump(tmp_path / name, LINES)
    path.write_bytes(harm(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(UserError, match=rf"facts\.source: '.*{name}': damaged or cut short: \S"):
        text_of(find_files(str(tmp_path))[0], workers)


def test_bytes_after_the_last_stream_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.ttl.bz2").write_bytes(bz2.compress(TEXT) + b"what may have been a second stream")
    with pytest.raises(UserError, match=r"a\.ttl\.bz2': damaged"):
        text_of(find_files(str(tmp_path))[0])


def test_reading_can_be_left_before_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.ttl.gz"
    path.write_bytes(gzip.compress(TEXT * 300))
    with reading_blocks(find_files(str(path))[0], 1) as blocks:
        assert next(blocks).startswith(b"<http://dbpedia.org/resource/Person_0>")


@given(st.lists(st.binary(max_size=9).map(lambda line: line.replace(b"\n", b"")), max_size=12), st.integers(10, 40), st.booleans())
def test_blocks_of_any_size_hold_whole_lines_and_all_of_them(lines: list[bytes], size: int, ended: bool) -> None:
    whole = b"".join(line + b"\n" for line in lines)
    text = whole if ended else whole[:-1]
    blocks = [bytes(block) for block in blocks_of(io.BytesIO(text), size)]
    assert b"".join(blocks) == (text + b"\n" if text and not text.endswith(b"\n") else text)
    assert all(block.endswith(b"\n") for block in blocks)


@pytest.mark.parametrize("length", [BLOCK, BLOCK + 1, 3 * BLOCK, 3 * BLOCK + 7])
def test_line_longer_than_a_block_is_cut_and_can_be_no_statement(length: int) -> None:
    text = b"<a> <b> <c> .\n<a> <b> " + b"c" * length + b" .\n<a> <b> <c> .\n"
    lines = b"".join(map(bytes, blocks_of(io.BytesIO(text)))).splitlines()
    assert len(lines) == 3
    assert lines[0] == lines[2] == b"<a> <b> <c> ."
    assert len(lines[1]) <= 2 * BLOCK + 1
    assert lines[1].startswith(b"<a> <b> ccc")
    assert b"\0" in lines[1] or lines[1].endswith(b" .")
