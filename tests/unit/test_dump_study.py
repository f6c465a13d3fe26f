"""`kp facts` on dumps: what is wrong with one is said in one message, and never as if templates were missing."""

import bz2
from pathlib import Path

import polars as pl
import pytest

from tests.conftest import SMOKE, assert_refused, run_kp
from tests.dump_lines import neighbours, statement, write_dump

LINES = [
    *(statement(f"Town_number_{number}", "country", f"Land_{number % 3}") for number in range(30)),
    *(statement(f"Town_number_{one}", "neighboringMunicipality", f"Town_number_{other}") for one, other in neighbours()),
]
TEXT = "".join(line + "\n" for line in LINES).encode()

UNREADABLE = {
    "empty": ("a.nt", b"", ["facts.source", "a.nt': is empty"]),
    "comments": ("a.nt.bz2", bz2.compress(b"# started\n# completed\n"), ["has no statement, only 2 comments and blank lines"]),
    "web page": ("a.ttl", b"<!doctype html>\n<html></html>\n", ["a web page (HTML)"]),
    "bzip2": ("a.nt", bz2.compress(TEXT), ["content is bzip2", "ends in .nt.bz2"]),
    "without dots": (
        "a.nt",
        TEXT.replace(b"> .\n", b">\n", 8),
        [
            "8 of 100 lines unreadable (8.0%)",
            "facts.max_rejected_fraction = 0.05",
            "8 lines without the dot at the end, for example",
            "line 1:",
        ],
    ),
    "Turtle": ("a.ttl", b"@prefix r: <http://x.org/> .\nr:a other:b r:c .\n", ["Turtle cannot be read", "line 2"]),
    "other ending": ("a.rdf", b"<rdf:RDF/>", ["a.rdf': expected a name that ends in .ttl, .nt"]),
}


def facts_of(source: Path, tmp_path: Path, *more: str) -> tuple[int, str, list[Path]]:
    overrides = [f"facts.source={source}", "facts.relations=[]", "facts.count=20", *more]
    done = run_kp("facts", SMOKE, *overrides, "--results", tmp_path / "runs")
    return done.returncode, " ".join((done.stdout + done.stderr).split()), list((tmp_path / "runs" / "store" / "facts").glob("*"))


@pytest.mark.parametrize(("name", "content", "said"), UNREADABLE.values(), ids=UNREADABLE)
def test_dump_that_cannot_be_read_is_refused_for_that(tmp_path: Path, name: str, content: bytes, said: list[str]) -> None:
    (tmp_path / name).write_bytes(content)
    done = run_kp("facts", SMOKE, f"facts.source={tmp_path / name}", "facts.relations=[]", "--results", tmp_path / "runs")
    assert_refused(done, said)
    assert "template" not in done.stdout + done.stderr


def test_few_unreadable_lines_are_reported_and_cost_their_pairs(tmp_path: Path) -> None:
    source = write_dump(tmp_path / "a.nt", [*LINES, statement("Town_number_9", "country", "Old Land")])
    code, said, folders = facts_of(source, tmp_path)
    assert code == 0, said
    assert "1 of 101 lines of the dump are unreadable and left out: 1 lines with an IRI that is not valid, for example" in said
    [folder] = folders
    assert "Town number 9" not in pl.read_parquet(folder / "facts.parquet")["subject"].to_list()


def test_limit_of_unreadable_lines_can_be_raised_without_reading_the_dump_again(tmp_path: Path) -> None:
    source = write_dump(tmp_path / "a.nt", [*LINES, *("garbage" for _ in range(20))])
    code, said, _ = facts_of(source, tmp_path)
    assert code == 2, said
    assert "20 of 120 lines unreadable" in said
    code, said, _ = facts_of(source, tmp_path, "facts.max_rejected_fraction=0.2")
    assert code == 0, said
    assert "lines set aside" not in said  # which the reading of a dump reports
