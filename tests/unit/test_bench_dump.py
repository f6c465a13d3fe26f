"""The benchmark over a dump: the made-up dump has the form of the real one, the loop is right, and both readers agree."""

import bz2
import dataclasses
import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from kp.bench.__main__ import main
from kp.bench.dump import run_dump
from kp.bench.dump_implementations import GraphSummary, loop_reads, set_digest
from kp.bench.dump_outcome import agreement_of_graphs
from kp.bench.dump_table import text
from kp.bench.measured import measured
from kp.bench.options import DumpOptions, Streams
from kp.bench.python_loop import read_dump
from kp.bench.synthetic_dump import COMPLETED, STARTED, DumpParameters, block_text, made_dump, made_prefix
from kp.config.docstrings import field_docstrings
from kp.errors import UserError

LINES = 40_000
PARAMETERS = DumpParameters(LINES, seed=3, streams=Streams.MANY, block_lines=10_000)

# IRIREF of the N-Triples grammar (https://www.w3.org/TR/n-triples/#grammar-production-IRIREF), escapes left out.
IRI = r'<(http://dbpedia\.org/(?:resource|ontology)/[^\x00-\x20<>"{}|^`\\]+)>'
TRIPLE = re.compile(rf"{IRI} {IRI} {IRI} \.")
LITERAL = re.compile(
    rf'{IRI} {IRI} "(?:[^"\\\n]|\\["\\nrt]|\\u[0-9A-F]{{4}})*"(?:@[a-z]+|\^\^<http://www\.w3\.org/2001/XMLSchema#\w+>)? \.'
)


def _text(parameters: DumpParameters) -> bytes:
    return b"".join(block_text(parameters, block) for block in range(parameters.blocks))


@pytest.fixture(scope="module")
def lines() -> list[str]:
    """A dump's lines without the comments."""
    first, *between, last = _text(PARAMETERS).splitlines(keepends=True)
    assert (first, last) == (STARTED, COMPLETED)
    return [line.decode().removesuffix("\n") for line in between]


@pytest.fixture(scope="module")
def triples(lines: list[str]) -> list[tuple[str, ...]]:
    """Local names of subject, relation and object, of triples between entities."""
    found = [match.groups() for match in map(TRIPLE.fullmatch, lines) if match]
    return [tuple(iri.rpartition("/")[2] for iri in iris) for iris in found if not any("__" in iri for iri in iris)]


def test_synthetic_dump_lines_are_triples_literals_and_a_few_broken_ones(lines: list[str]) -> None:
    kinds = Counter("triple" if TRIPLE.fullmatch(line) else "literal" if LITERAL.fullmatch(line) else "broken" for line in lines)

    assert len(lines) == len(set(lines)) == LINES
    assert kinds == {"triple": LINES - 80 - 20, "literal": 80, "broken": 20}


def test_synthetic_dump_is_sorted_by_its_bytes_over_all_blocks(lines: list[str]) -> None:
    assert lines == sorted(lines, key=str.encode)


def test_synthetic_dump_has_one_line_in_twenty_with_a_helper_node(lines: list[str]) -> None:
    helped = [match for match in map(TRIPLE.fullmatch, lines) if match and "__" in match[0]]

    assert len(helped) / LINES == pytest.approx(0.05, abs=0.001)
    for match in helped:
        subject, _, value = (iri.rpartition("/")[2] for iri in match.groups())
        assert re.fullmatch(r".+__[A-Z][A-Za-z]+__\d+", subject if "__" in subject else value)
        assert ("__" in subject) != ("__" in value)
        assert "__" in subject or value.startswith(subject + "__")


def test_synthetic_dump_names_look_like_titles(lines: list[str], triples: list[tuple[str, ...]]) -> None:
    names = {name for subject, _, value in triples for name in (subject, value)}

    assert 125 < sum(len(line.encode()) + 1 for line in lines) / LINES < 155
    assert all(re.fullmatch(r"[^\W\d_]\S*", name) for name in names)
    assert sum("_" in name for name in names) > 0.6 * len(names)
    for part in (r"_\(\d{4}_film\)$", r"%3F", r"%22", r"[^\x00-\x7f]", r",_[A-Z]", r"'"):
        assert any(re.search(part, name) for name in names), part


def test_synthetic_dump_degrees_and_relations_are_skewed(triples: list[tuple[str, ...]]) -> None:
    degrees = Counter(name for subject, _, value in triples for name in (subject, value))
    relations = Counter(relation for _, relation, _ in triples)

    falling = sorted(degrees.values(), reverse=True)
    assert sum(falling[: len(falling) // 20]) > sum(falling) / 3  # Zipf: one entity in twenty holds more than a third
    assert falling[0] > 50 * falling[len(falling) // 20]
    assert len(relations) > 150
    assert sum(count for _, count in relations.most_common(20)) > sum(relations.values()) / 3


def test_synthetic_dump_has_a_third_of_its_triples_alone_in_their_pair(triples: list[tuple[str, ...]]) -> None:
    objects = Counter(triple[:2] for triple in triples)

    assert 0.29 < sum(count == 1 for count in objects.values()) / len(triples) < 0.40


def test_synthetic_dump_of_another_seed_is_another_one() -> None:
    assert _text(PARAMETERS) == _text(PARAMETERS)
    assert _text(PARAMETERS) != _text(dataclasses.replace(PARAMETERS, seed=4))


@pytest.mark.parametrize("triples", [1, 7, 500])
def test_synthetic_dump_of_any_size_has_exactly_that_many_lines(triples: int) -> None:
    assert len(_text(DumpParameters(triples, 0, Streams.MANY)).splitlines()) == triples + 2


def test_made_dump_with_one_or_two_workers_and_one_or_many_streams_has_the_same_text(tmp_path: Path) -> None:
    wanted = _text(PARAMETERS)
    files = {}
    for streams, workers in ((Streams.MANY, 1), (Streams.MANY, 2), (Streams.ONE, 1)):
        folder = tmp_path / f"{streams}-{workers}"
        folder.mkdir()
        files[streams, workers] = made_dump(folder, dataclasses.replace(PARAMETERS, streams=streams), workers).read_bytes()

    assert files[Streams.MANY, 1] == files[Streams.MANY, 2]
    assert {bz2.decompress(data) for data in files.values()} == {wanted}
    assert _streams(files[Streams.MANY, 1]) == PARAMETERS.blocks == 4
    assert _streams(files[Streams.ONE, 1]) == 1


def _streams(data: bytes) -> int:
    count = 0
    while data:
        decompressor = bz2.BZ2Decompressor()
        decompressor.decompress(data)
        data, count = decompressor.unused_data, count + 1
    return count


def test_made_dump_is_used_again_where_its_record_fits_and_made_anew_where_not(tmp_path: Path) -> None:
    parameters = DumpParameters(200, 0, Streams.MANY)
    dump = made_dump(tmp_path, parameters, 1)
    good = dump.read_bytes()

    os.utime(dump, (1, 1))
    assert made_dump(tmp_path, parameters, 1) == dump
    assert dump.stat().st_mtime == 1  # not written again

    dump.write_bytes(good[:100])
    dump.with_name(f"{dump.name}.json").unlink()
    assert made_dump(tmp_path, parameters, 1).read_bytes() == good


def test_made_prefix_holds_the_first_lines_that_are_no_comments(tmp_path: Path) -> None:
    dump = made_dump(tmp_path, DumpParameters(200, 0, Streams.MANY), 1)

    prefix = bz2.decompress(made_prefix(dump, 50).read_bytes())

    assert prefix.count(b"\n") == 50 + 1
    assert bz2.decompress(dump.read_bytes()).startswith(prefix)


HAND_MADE = """\
# started 2021-09-02T13:44:07Z
<http://x/A> <http://o/capital> <http://x/B> .
<http://x/A> <http://o/child> <http://x/C> .
<http://x/A> <http://o/child> <http://x/D> .
<http://x/A> <http://o/occupation> <http://x/A__PersonFunction__1> .
<http://x/A> <http://o/label> "A \\"one\\""@en .
<http://x/A> <http://o/namedAfter> <http://x/A> .
<http://x/B> <http://o/capital> <http://x/A> .
<http://x/B> <http://o/country> <http://x/A> .
<http://x/C> <http://o/parent> <http://x/A> .
<http://x/C> <http://o/parent> <http://x/Å_(%22)>
<http://x/D> <http://o/partner> "2"^^<http://o/number> .
<http://x/D> <http://o/partner> <http://x/A> .
<http://x/D> <http://o/spouse> <http://x/Å_(%22)> .
<http://x/D__Tenure__12> <http://o/team> <http://x/B> .
# completed 2021-09-02T15:12:44Z
"""


def _hand_made(folder: Path) -> Path:
    path = folder / "hand.ttl.bz2"
    path.write_bytes(bz2.compress(HAND_MADE.encode()))
    return path


def test_python_loop_of_a_hand_made_dump_gives_the_numbers_worked_out_by_hand(tmp_path: Path) -> None:
    graph = read_dump(_hand_made(tmp_path))

    # 9 triples, one of A with itself, so densities sum to 17: A has 8, B and D 3, C 2, Å 1. The thirds end at 5.7 and 11.3: A is head; B
    # and D, which begin at 8, are torso together; C begins at 14, Å at 16. D's partner has two values, one of them no
    # entity, and C's parent has a second one in a line that cannot be read.
    assert (graph.triples, graph.set_aside) == (9, 5)
    assert graph.density == {"http://x/A": 8, "http://x/B": 3, "http://x/C": 2, "http://x/D": 3, "http://x/Å_(%22)": 1}
    assert graph.least == (8, 3)
    assert graph.pairs == {
        ("capital", "head"): [("http://x/A", "http://x/B")],
        ("capital", "torso"): [("http://x/B", "http://x/A")],
        ("country", "torso"): [("http://x/B", "http://x/A")],
        ("namedAfter", "head"): [("http://x/A", "http://x/A")],
        ("spouse", "torso"): [("http://x/D", "http://x/Å_(%22)")],
    }


def test_loop_summary_counts_pairs_by_relation_and_bucket(tmp_path: Path) -> None:
    _, summary = loop_reads(_hand_made(tmp_path))

    assert (summary.triples, summary.set_aside, summary.entities, summary.pairs) == (9, 5, 5, 5)
    assert summary.cells["capital", "torso"] == 1


def test_set_digest_hangs_on_the_rows_and_not_on_their_order() -> None:
    rows = [("a", "r", "b", "head", 2, 1), ("b", "r", "a", "tail", 1, 2), ("c", "r", "a", "tail", 1, 2)]

    assert set_digest(rows) == set_digest(rows[::-1])
    assert set_digest(rows) != set_digest([*rows[:2], ("c", "r", "a", "tail", 1, 3)])
    assert set_digest(rows) != set_digest(rows[:2])


def test_agreement_of_graphs_with_one_pair_in_another_bucket_is_told_as_unequal() -> None:
    one = GraphSummary(7, 3, 5, 2, {("capital", "head"): 1, ("capital", "torso"): 1}, "aa")
    other = dataclasses.replace(one, cells={("capital", "head"): 2}, digest="bb")

    assert agreement_of_graphs(10, one, one)["equal"]
    found = agreement_of_graphs(10, one, other)
    assert not found["equal"]
    assert (found["cells"], found["equal_cells"]) == (2, 0)


def _hold(megabytes: int) -> int:
    return len(bytearray(os.urandom(1 << 20) * megabytes))


def _refuse() -> None:
    raise UserError("no", field="triples")


def _have_it_held(megabytes: int) -> int:
    return measured(_hold, megabytes).peak_memory


def test_measured_counts_the_memory_of_the_process_and_of_those_below_it() -> None:
    held = measured(_hold, 300)

    assert held.result == 300 << 20
    assert 300 << 20 < held.peak_memory < 900 << 20
    assert measured(_hold, 1).peak_memory < held.peak_memory  # each has a process of its own
    assert measured(_have_it_held, 300).peak_memory > 300 << 20


def test_measured_work_that_raises_raises_here() -> None:
    with pytest.raises(UserError, match="triples: no"):
        measured(_refuse)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A benchmark over 3,000 lines."""
    folder = tmp_path_factory.mktemp("result")
    assert run_dump(DumpOptions(triples=3000, rounds=1, workers=2, folder=folder, json=folder / "result.json")) == 0
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())
    found["files"] = sorted(path.name for path in folder.iterdir())
    found["markdown"] = (folder / "result.md").read_text()
    return found


def test_benchmark_of_kp_and_loop_ends_with_equal_graphs(result: dict[str, Any]) -> None:
    found = result["agreement"]

    assert found["equal"], found
    assert found["triples"]["kp"] + found["set_aside"]["kp"] == found["lines"] == 3000
    assert found["pairs"]["kp"] > 500
    assert found["equal_cells"] == found["cells"] > 100


def test_benchmark_rates_and_ratios_follow_from_lines_and_seconds(result: dict[str, Any]) -> None:
    kp, loop = result["implementations"]["kp"], result["implementations"]["python loop"]

    for implementation in (kp, loop):
        assert implementation["lines_per_s"] == pytest.approx(3000 / implementation["seconds"])
        assert implementation["peak_memory"] > 1 << 20
    assert result["ratios"]["python loop"]["all"] == pytest.approx(kp["lines_per_s"] / loop["lines_per_s"])
    assert {floor["seconds"] > 0 for floor in result["decompression"].values()} == {True}
    assert result["whole_way"]["seconds"] > 0
    assert result["machine"]["workers"] == 2


def test_benchmark_leaves_the_dump_with_its_record_and_the_result_and_nothing_else(result: dict[str, Any]) -> None:
    dump = "synthetic-3000-seed0-many.ttl.bz2"

    assert result["files"] == ["result.json", "result.md", dump, f"{dump}.json"]


def test_benchmark_tables_fit_80_columns_and_stand_as_markdown_beside_the_json(result: dict[str, Any]) -> None:
    told = text(result)

    assert max(map(len, told.splitlines()[3:])) <= 80  # above stands the processor, however long
    assert "python loop" in told
    assert "the graphs are equal" in told
    assert "| python loop | 3,000 |" in result["markdown"]


def test_benchmark_in_which_the_loop_reads_a_part_says_so_and_compares_that_part(tmp_path: Path) -> None:
    assert run_dump(DumpOptions(triples=3000, loop_triples=1000, rounds=1, workers=1, json=tmp_path / "result.json")) == 0

    result = json.loads((tmp_path / "result.json").read_text())
    assert result["implementations"]["python loop"]["lines"] == 1000
    assert result["agreement"]["lines"] == 1000
    assert result["agreement"]["equal"], result["agreement"]
    assert "The loop read only the first 1,000 lines" in text(result)


def test_dump_options_have_a_docstring_under_every_field() -> None:
    assert set(field_docstrings(DumpOptions)) == {field.name for field in dataclasses.fields(DumpOptions)}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("triples", 0, "triples: 0"),
        ("loop_triples", 2_000_000, "loop_triples: 2000000, the dump has 1000000"),
        ("workers", 0, "workers: 0"),
        ("seed", -1, "seed: -1"),
        ("folder", Path("no/such"), "folder: 'no/such'"),
        ("json", Path("a.txt"), r"json: 'a\.txt'"),
    ],
)
def test_dump_options_out_of_range_are_refused_by_name(field: str, value: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        DumpOptions(**{field: value})  # type: ignore[arg-type]


def test_main_of_dump_with_bad_input_says_what_is_wrong_and_exits_with_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dump", "--rounds", "0"]) == 2
    assert "rounds: 0" in capsys.readouterr().err
