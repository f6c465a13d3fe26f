"""A file is what its content says: each kind of content under a dump's name is read, or named in the message."""

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from kp.errors import UserError
from kp.facts.dump import converting
from kp.facts.dump.blocks import reading_blocks
from kp.facts.dump.companions import triples_of
from kp.facts.dump.contents import is_turtle
from kp.facts.dump.files import find_files
from tests.dump_lines import ONTOLOGY, RESOURCE, statement

LINES = [statement("Ann", "child", "Bob"), statement("Ann", "child", "Café"), statement("Bob", "spouse", "Eva")]
TEXT = "".join(line + "\n" for line in LINES)
TRIPLES = TEXT.encode()
PREFIXES = f"@prefix r: <{RESOURCE}> .\nPREFIX o: <{ONTOLOGY}>\n"
TYPE = "http://www.w3.org/1999/02/22-rdf-syntax-ns#type"

Change = Callable[[bytes], bytes]
BY_ENDING: dict[str, Change] = {"": bytes, ".bz2": bz2.compress, ".gz": gzip.compress}


def text_of(path: Path) -> bytes:
    (file,) = find_files(str(path))
    with reading_blocks(file, 1) as blocks:
        return b"".join(map(bytes, blocks))


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        text_of(path)
    assert caught.value.field == "facts.source"
    assert str(path) in caught.value.message
    assert "template" not in caught.value.message
    return caught.value.message


HTML = b"<!DOCTYPE html>\n<html><head><title>404</title></head></html>\n"
JSON_LD = b'{\n "@context": {"o": "http://x.org/"},\n "@graph": []\n}\n'
NO_DUMPS: dict[str, tuple[bytes, str]] = {
    "UTF-16": (TEXT.encode("utf-16"), "UTF-16 or UTF-32; save it as UTF-8"),
    "UTF-16 without a mark": (TEXT.encode("utf-16-be"), "UTF-16"),
    "UTF-32": (TEXT.encode("utf-32"), "UTF-32"),
    "HTML": (HTML, "a web page (HTML)"),
    "HTML after blanks": (b"\xef\xbb\xbf\n  <html lang='en'>", "a web page (HTML)"),
    "XHTML": (b"<?xml version='1.0'?>\n<html xmlns='x'>", "a web page (HTML)"),
    "RDF/XML": (b'<?xml version="1.0"?>\n<rdf:RDF xmlns:rdf="x">\n', "RDF/XML; convert it to N-Triples"),
    "RDF/XML alone": (b'<rdf:RDF xmlns:rdf="x">\n', "RDF/XML"),
    "XML": (b'<?xml version="1.0"?>\n<feed/>', "it is XML"),
    "JSON-LD": (JSON_LD, "JSON-LD; convert it to N-Triples"),
    "JSON-LD list": (b"[" + JSON_LD + b"]", "JSON-LD"),
    "JSON": (b'[{"a": 1}]', "it is JSON;"),
    "zstd": (b"\x28\xb5\x2f\xfd" + bytes(99), "compressed with zstd"),
    "xz": (lzma.compress(TRIPLES), "compressed with xz"),
    "zip": (b"PK\x03\x04" + bytes(99), "a zip archive"),
    "tar": (b"a.nt".ljust(257, b"\0") + b"ustar" + bytes(250), "a tar archive"),
    "parquet": (b"PAR1" + bytes(99), "a parquet file"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS"),
    "binary": (bytes(range(256)) * 9 + bytes(99), "binary"),
}


@pytest.mark.parametrize("ending", BY_ENDING)
@pytest.mark.parametrize(("content", "named"), NO_DUMPS.values(), ids=NO_DUMPS)
def test_content_that_is_no_dump_is_named(tmp_path: Path, content: bytes, named: str, ending: str) -> None:
    path = tmp_path / f"a.nt{ending}"
    path.write_bytes(BY_ENDING[ending](content))
    assert named in refusal(path)


@pytest.mark.parametrize("ending", [".bz2", ".gz"])
@pytest.mark.parametrize(("content", "named"), NO_DUMPS.values(), ids=NO_DUMPS)
def test_content_that_is_no_dump_is_named_under_the_name_of_a_compressed_file_too(
    tmp_path: Path, content: bytes, named: str, ending: str
) -> None:
    path = tmp_path / f"a.nt{ending}"
    path.write_bytes(content)
    assert named in refusal(path)
    assert "rename" not in refusal(path)


SAID = {"": "not compressed", ".bz2": "bzip2", ".gz": "gzip"}


@pytest.mark.parametrize("form", [".nt", ".TTL"])
@pytest.mark.parametrize(("named", "real"), [(a, b) for a in BY_ENDING for b in BY_ENDING if a != b])
def test_compression_other_than_the_name_says_is_named_with_the_right_ending(tmp_path: Path, form: str, named: str, real: str) -> None:
    path = tmp_path / f"a{form}{named}"
    path.write_bytes(BY_ENDING[real](TRIPLES))
    wanted = f"is named as if it were {SAID[named]}, but its content is {SAID[real]}; rename it so that it ends in {form.lower()}{real}"
    assert refusal(path).endswith(wanted)


@pytest.mark.parametrize("ending", [".bz2", ".gz"])
def test_compressed_file_without_a_byte_is_empty_and_one_of_another_archive_is_named(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.nt{ending}"
    path.write_bytes(b"")
    assert "is empty" in refusal(path)
    path.write_bytes(b"PK\x03\x04" + bytes(99))
    assert "a zip archive" in refusal(path)
    path.write_bytes(BY_ENDING[ending](bz2.compress(TRIPLES)))
    assert "compressed once more, with bzip2" in refusal(path)


TURTLE = {
    "prefixes": f"{PREFIXES}\nr:Ann o:child r:Bob, r:Café ;\n  a o:Person .\nr:Bob o:spouse r:Eva .\n",
    "comments first": f"# by hand\n\n{PREFIXES}r:Ann o:child r:Bob, r:Café ; a o:Person .\nr:Bob o:spouse r:Eva .",
    "base": f"@base <{RESOURCE}> .\n<Ann> <{ONTOLOGY}child> <Bob> , <Café> ; a <{ONTOLOGY}Person> .\n<Bob> <{ONTOLOGY}spouse> <Eva> .\n",
    "whole IRIs": f"<{RESOURCE}Ann> a <{ONTOLOGY}Person> ;\n  <{ONTOLOGY}child>\n <{RESOURCE}Bob>, <{RESOURCE}Café> .\n{LINES[2]}\n",
    "byte-order mark": f"\ufeff{PREFIXES}r:Ann o:child r:Bob, r:Café ; a o:Person .\nr:Bob o:spouse r:Eva .\n",
}


@pytest.mark.parametrize("name", ["a.ttl", "a.TTL.GZ", "a.ttl.bz2", "a.nt"])
@pytest.mark.parametrize("text", TURTLE.values(), ids=TURTLE)
def test_turtle_that_lines_do_not_hold_is_read(tmp_path: Path, text: str, name: str) -> None:
    (tmp_path / name).write_bytes(BY_ENDING[Path(name).suffix.lower() if name.count(".") > 1 else ""](text.encode()))
    assert sorted(text_of(tmp_path / name).decode().splitlines()) == sorted([*LINES, f"<{RESOURCE}Ann> <{TYPE}> <{ONTOLOGY}Person> ."])
    (frame,) = triples_of(str(tmp_path / name), [f"{ONTOLOGY}spouse"], "facts.graph.redirects")
    assert frame["object"].to_list() == [f"{RESOURCE}Eva"]


@pytest.mark.parametrize("text", ["", TEXT, "# comment\n\n" + TEXT, f"{LINES[0]}\nbroken ;\n{TEXT}", "broken\n" * 9, "<a> <b> <c> <g> .\n"])
def test_lines_are_no_turtle_even_if_some_are_broken(text: str) -> None:
    assert not is_turtle(text.encode())


def test_turtle_with_a_fault_stops_and_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "a.ttl"
    path.write_text(f"{PREFIXES}r:Ann o:child r:Bob .\nr:Ann other:child r:Bob .\n")
    assert "its Turtle cannot be read: Parser error at line 4" in refusal(path)
    assert "other:" in refusal(path)
    path.write_text(f"{PREFIXES}r:Ann o:child r:Bob ;\n")
    assert "its Turtle cannot be read: " in refusal(path)


def test_turtle_in_a_damaged_file_stops(tmp_path: Path) -> None:
    path = tmp_path / "a.ttl.gz"
    whole = gzip.compress((PREFIXES + "".join(f"r:A{number} o:child r:B{number**5} .\n" for number in range(90_000))).encode())
    path.write_bytes(whole[:-4])
    assert "damaged or cut short" in refusal(path)


@pytest.mark.parametrize("ending", BY_ENDING)
def test_turtle_of_more_text_than_is_converted_says_so(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.ttl{ending}"
    path.write_bytes(BY_ENDING[ending]((PREFIXES + "r:Ann o:child r:Bob .\n" * 90_000).encode()))
    with (tmp_path / "out.nt").open("wb") as output:
        fault = converting.fault_of_converting(str(path), ending, output, 1 << 20)
    assert fault is not None
    assert fault.startswith("it has more than 1 MiB of text, the most that is converted here; convert it to N-Triples")


def test_iri_of_turtle_that_is_not_valid_is_left_to_the_reader_of_lines(tmp_path: Path) -> None:
    (tmp_path / "a.ttl").write_text(f"{PREFIXES}r:Ann o:child <http://x.org/a b>, r:Bob .\n")
    assert text_of(tmp_path / "a.ttl").decode().splitlines() == [f"<{RESOURCE}Ann> <{ONTOLOGY}child> <http://x.org/a b> .", LINES[0]]
