"""From the lines of a dump to its reduced graph, held against a plain count in Python."""

import random
from collections import defaultdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kp.errors import UserError
from kp.facts.dump.files import Compression, DumpFile
from kp.facts.dump.merging import least_degrees, relation_names
from kp.facts.dump.reading import GraphCounts, partitions_for, read_graph
from kp.facts.dump.schema import GRAPH_PAIRS, GRAPH_RELATIONS, SET_ASIDE
from kp.schema import read_table
from tests.dump_lines import ONTOLOGY, RESOURCE, statement, write_dump

Triple = tuple[str, str, str]


def pairs_of(folder: Path) -> pl.DataFrame:
    pairs = pl.DataFrame(read_table(folder / "pairs.parquet", GRAPH_PAIRS))
    return pairs.with_columns(pl.col("subject", "object").str.strip_prefix(RESOURCE)).sort("subject", "relation")


def reasons_of(folder: Path) -> dict[str, int]:
    table = read_table(folder / "set_aside.parquet", SET_ASIDE)
    return dict(zip(table["reason"].to_pylist(), table["lines"].to_pylist(), strict=True))


def read(tmp_path: Path, lines: list[str], name: str = "dump.nt", workers: int = 1) -> tuple[GraphCounts, Path]:
    folder = tmp_path / f"graph-{name}-{workers}"
    return read_graph(str(write_dump(tmp_path / name, lines)), folder, workers), folder


def counted_plainly(triples: list[Triple]) -> tuple[dict[tuple[str, str], str], dict[str, int]]:
    """Object by single-valued pair, and density by entity."""
    values = defaultdict(set)
    degree: dict[str, int] = defaultdict(int)
    for subject, relation, object_ in set(triples):
        values[subject, relation].add(object_)
        for entity in {subject, object_}:
            degree[entity] += 1
    return {pair: objects.pop() for pair, objects in values.items() if len(objects) == 1}, degree


HAND_WORKED = [
    "# started",
    statement("Ann", "child", "Bob"),
    statement("Ann", "child", "Cem"),
    statement("Ann", "spouse", "Dan"),
    statement("Ann", "spouse", "Dan"),  # again
    "",
    statement("Bob", "spouse", "Caf%C3%A9"),
    statement("Cem", "spouse", "Café"),
    statement("Cem", "occupation", "Cem__PersonFunction__1"),
    statement("Dan", "occupation", "Actor"),
    statement("Dan", "occupation", "Dan__PersonFunction__1"),
    f'<{RESOURCE}Dan> <{ONTOLOGY}birthPlace> "Rome"@en .',
    statement("Dan", "birthPlace", "Rome"),
    statement("Eva", "influenced", "Eva"),
    f"_:x <{ONTOLOGY}child> <{RESOURCE}Bob> .",
    statement("Eva", "child", "Bob")[:-2],
    "# completed",
]


def test_hand_worked_graph_has_the_pairs_degrees_and_buckets_worked_out_by_hand(tmp_path: Path) -> None:
    counts, folder = read(tmp_path, HAND_WORKED)
    pairs = pairs_of(folder).select("subject", "relation", "object", "subject_degree", "object_degree", "popularity").rows()
    # Densities: 3 for Ann and Dan; 2 for Bob, Cem and Café; 1 for Actor, Rome and Eva. Their sum is 15, a third of it 5: those of 3 begin
    # at 0, in the first third; those of 2 at 6, in the second; those of 1 at 12, in the last.
    assert pairs == [
        ("Ann", "spouse", "Dan", 3, 3, "head"),
        ("Bob", "spouse", "Café", 2, 2, "torso"),
        ("Cem", "spouse", "Café", 2, 2, "torso"),
        ("Eva", "influenced", "Eva", 1, 1, "tail"),
    ]
    assert counts == GraphCounts(
        files=1, lines=17, triples=9, distinct_triples=8, entities=8, relations=5, pairs=4, set_aside=5, unreadable=1
    )


def test_hand_worked_graph_has_its_relations_counted(tmp_path: Path) -> None:
    _, folder = read(tmp_path, HAND_WORKED)
    relations = pl.DataFrame(read_table(folder / "relations.parquet", GRAPH_RELATIONS)).drop("iri", "label").rows()
    assert relations == [("spouse", 3, 3, 3), ("child", 2, 1, 0), ("birthPlace", 1, 1, 0), ("influenced", 1, 1, 1), ("occupation", 1, 1, 0)]


def test_every_reason_to_set_a_line_aside_is_counted_with_examples(tmp_path: Path) -> None:
    write_dump(tmp_path / "b.nt", [*HAND_WORKED, "bad \xff"])
    (tmp_path / "b.nt").write_bytes((tmp_path / "b.nt").read_bytes().replace("\xff".encode(), b"\xff"))
    read_graph(str(tmp_path / "b.nt"), tmp_path / "graph", 1)
    wanted = {"comment": 2, "blank_line": 1, "helper_node": 2, "literal": 1, "blank_node": 1, "no_dot": 1, "not_utf8": 1}
    assert reasons_of(tmp_path / "graph") == wanted
    examples = {row["reason"]: row["examples"] for row in read_table(tmp_path / "graph" / "set_aside.parquet", SET_ASIDE).to_pylist()}
    assert examples["literal"] == [
        {"file": str(tmp_path / "b.nt"), "line": 12, "begins": f'<{RESOURCE}Dan> <{ONTOLOGY}birthPlace> "Rome"@en .'}
    ]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("rst"), st.sampled_from("abcdefghxyz")), min_size=1, max_size=40),
    st.randoms(use_true_random=False),
)
def test_any_graph_is_counted_as_plain_python_counts_it(
    tmp_path_factory: pytest.TempPathFactory, triples: list[Triple], chance: random.Random
) -> None:
    folder = tmp_path_factory.mktemp("any")
    shuffled = list(triples)
    chance.shuffle(shuffled)
    half = len(shuffled) // 2
    (folder / "dump").mkdir()
    write_dump(folder / "dump" / "a.nt.gz", [statement(*triple) for triple in shuffled[:half]])
    write_dump(folder / "dump" / "b.nt", [statement(*triple) for triple in shuffled[half:]])
    counts = read_graph(str(folder / "dump"), folder / "graph", 2)
    single, degree = counted_plainly(triples)
    pairs = pairs_of(folder / "graph")
    rows = pairs.select("subject", "relation", "object", "subject_degree", "object_degree").rows()
    assert rows == sorted((subject, relation, value, degree[subject], degree[value]) for (subject, relation), value in single.items())
    assert (counts.triples, counts.distinct_triples, counts.entities) == (len(triples), len(set(triples)), len(degree))
    by_density = sorted(set(degree.values()), reverse=True)
    before, buckets, total = 0, {}, sum(degree.values())
    for density in by_density:
        buckets[density] = ("head", "torso", "tail")[3 * before // total]
        before += density * list(degree.values()).count(density)
    assert pairs["popularity"].to_list() == [buckets[density] for density in pairs["subject_degree"]]


def damaged(text: bytes, chance: random.Random) -> bytes:
    """The lines of a dump, of which many lost, got or changed some bytes behind their relation; some lost their end."""
    lines = []
    for line in text.splitlines(keepends=True):
        begin = line.index(b"> <", line.index(b"> <") + 1) + 1
        start = chance.randrange(begin, len(line))
        end = min(len(line), start + chance.choice([0, 1, 1, 9, 99]))
        added = bytes(chance.choice(b'<>" .\\;,_:^@\xff\xc3\0ab\t') for _ in range(chance.choice([0, 0, 1, 3])))
        lines.append(line[:start] + added + line[end:] if chance.random() < 0.4 else line)
    return b"".join(lines)


@pytest.mark.parametrize("form", ["{}", "{}-quads"])
@pytest.mark.parametrize("seed", range(40))
def test_no_pair_of_two_values_looks_single_valued_however_the_lines_are_damaged(tmp_path: Path, seed: int, form: str) -> None:
    chance = random.Random(seed)
    triples = [(f"S{number % 150}", "child", f"Object_{chance.getrandbits(64):x}") for number in range(300)]
    triples += [(f"T{number}", "spouse", f"Object_{chance.getrandbits(64):x}") for number in range(100)]
    lines = [statement(*triple) for triple in triples]
    lines = [line[:-1] + "<http://x/g> ." if "quads" in form else line for line in lines]
    chance.shuffle(lines)
    (tmp_path / "dump.nt").write_bytes(damaged("".join(line + "\n" for line in lines).encode(), chance))
    counts = read_graph(str(tmp_path / "dump.nt"), tmp_path / "graph", 1)
    single = pairs_of(tmp_path / "graph")
    assert set(single["relation"]) <= {"spouse"}
    assert counts.unreadable > 30
    assert counts.lines == counts.triples + sum(reasons_of(tmp_path / "graph").values())


def test_unreadable_line_names_no_relation(tmp_path: Path) -> None:
    good = [f"<{RESOURCE}Ann> <http://y.org/child> <{RESOURCE}Bob> ."]
    bad = [f"<{RESOURCE}Cem> <http://a.org/x/> <http://a.org/child> <{RESOURCE}Dan>"]
    counts, folder = read(tmp_path, good + bad)
    assert read_table(folder / "relations.parquet", GRAPH_RELATIONS).select(["relation", "iri"]).to_pylist() == [
        {"relation": "child", "iri": "http://y.org/child"}
    ]
    assert pairs_of(folder)["relation"].to_list() == ["child"]
    assert counts.relations == 1


def large_dump(count: int) -> list[str]:
    chance = random.Random(3)
    return [
        statement(f"S{chance.randrange(count // 3)}", f"r{chance.randrange(9)}", f"O{chance.randrange(count // 9)}") for _ in range(count)
    ]


def test_one_worker_and_two_write_the_same_bytes(tmp_path: Path) -> None:
    lines = large_dump(60_000)  # several blocks
    folders = [read(tmp_path, lines, "dump.ttl.bz2", workers)[1] for workers in (1, 2)]
    for name in ("pairs.parquet", "relations.parquet", "aliases.parquet", "set_aside.parquet", "counts.json"):
        first, second = ((folder / name).read_bytes() for folder in folders)
        assert first == second


def test_order_of_lines_and_cut_into_files_change_nothing(tmp_path: Path) -> None:
    lines = large_dump(3000)
    whole, folder = read(tmp_path, lines)
    (tmp_path / "parts").mkdir()
    backwards = lines[::-1]
    for number in range(3):
        write_dump(tmp_path / "parts" / f"{number}.ttl.gz", backwards[number::3], end="\r\n")
    parted = read_graph(str(tmp_path / "parts"), tmp_path / "graph-of-parts", 1)
    assert pairs_of(folder).equals(pairs_of(tmp_path / "graph-of-parts"))
    assert (parted.lines, parted.pairs, parted.entities, parted.files) == (whole.lines, whole.pairs, whole.entities, 3)


def test_nothing_but_the_tables_is_left_in_the_folder(tmp_path: Path) -> None:
    _, folder = read(tmp_path, HAND_WORKED)
    assert sorted(path.name for path in folder.iterdir()) == [
        "aliases.parquet",
        "counts.json",
        "pairs.parquet",
        "relations.parquet",
        "set_aside.parquet",
    ]


def test_dump_without_a_triple_gives_an_empty_graph(tmp_path: Path) -> None:
    counts, folder = read(tmp_path, ["# nothing", "garbage"])
    assert counts == GraphCounts(
        files=1, lines=2, triples=0, distinct_triples=0, entities=0, relations=0, pairs=0, set_aside=1, unreadable=1
    )
    assert pairs_of(folder).is_empty()


def test_damaged_file_among_others_stops_the_reading_and_is_named(tmp_path: Path) -> None:
    (tmp_path / "dump").mkdir()
    write_dump(tmp_path / "dump" / "a.nt", HAND_WORKED)
    path = write_dump(tmp_path / "dump" / "b.nt.bz2", HAND_WORKED)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"b\.nt\.bz2': damaged or cut short"):
        read_graph(str(tmp_path / "dump"), tmp_path / "graph", 1)


def test_relations_that_share_a_local_name_keep_apart() -> None:
    iris = sorted(["http://x.org/author", f"{ONTOLOGY}author", "http://a.org#author", "http://x.org/size", "http://y.org/size"])
    names = dict(zip(iris, relation_names(iris), strict=True))
    assert names[f"{ONTOLOGY}author"] == "author"
    assert names["http://x.org/author"] == "http://x.org/author"
    assert (names["http://x.org/size"], names["http://y.org/size"]) == ("size", "http://y.org/size")


def test_thirds_are_cut_between_densities_never_within_one() -> None:
    assert least_degrees(np.array([9, 1, 1, 1, 5, 4, 3, 3], dtype=np.uint32)) == (9, 4)
    assert least_degrees(np.array([2, 2, 2], dtype=np.uint32)) == (2, 2)


def test_dump_is_cut_more_finely_the_larger_it_is() -> None:
    sizes = [1000, 30_000_000, 300_000_000, 10**12]
    assert [partitions_for([DumpFile("a", size, Compression.BZIP2)]).count for size in sizes] == [2, 4, 64, 4096]
