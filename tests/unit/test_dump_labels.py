"""Entities that are known by an id are called by the labels in the dump, and are not asked about where it has none."""

import re
from pathlib import Path

import polars as pl
import pytest

from kp.config.study import GraphConfig
from kp.errors import UserError
from kp.facts.dump.cleaning import Rule
from kp.facts.dump.entity_names import is_id, label_of
from kp.facts.dump.facts import GraphFacts, facts_of_graph
from kp.facts.dump.labels import RDFS_LABEL, SKOS
from kp.facts.dump.reading import read_graph
from kp.facts.dump.schema import GRAPH_ALIASES, GRAPH_PAIRS, GRAPH_RELATIONS
from kp.facts.templates import graph_book
from kp.schema import read_table
from tests.dump_lines import neighbours, write_dump

ENTITY, DIRECT = "http://www.wikidata.org/entity/", "http://www.wikidata.org/prop/direct/"
NAME = "http://schema.org/name"
ALIAS = f"{SKOS}altLabel"
TOWNS, COUNTRIES = [f"Q{number}" for number in range(11, 41)], ["Q1", "Q2", "Q3"]


def direct(subject: str, relation: str, object_: str) -> str:
    return f"<{ENTITY}{subject}> <{DIRECT}{relation}> <{ENTITY}{object_}> ."


def label(entity: str, text: str, relation: str = RDFS_LABEL) -> str:
    return f"<{ENTITY}{entity}> <{relation}> {text} ."


def statements() -> list[str]:
    lines = [direct(town, "P17", COUNTRIES[number % 3]) for number, town in enumerate(TOWNS)]
    return lines + [direct(TOWNS[one], "P47", TOWNS[other]) for one, other in neighbours()]


def labelled(template: str = '"{}"@en') -> list[str]:
    names = {**{town: f"Town {town[1:]}" for town in TOWNS}, "Q1": "Aland", "Q2": "Bland", "Q3": "Cland"}
    return [label(entity, template.format(name)) for entity, name in names.items()]


def graph(tmp_path: Path, lines: list[str], name: str = "dump.nt", language: str = "en", workers: int = 1) -> Path:
    folder = tmp_path / f"graph-{name}-{language}-{workers}"
    read_graph(str(write_dump(tmp_path / name, lines)), folder, workers, language)
    return folder


def drawn(folder: Path) -> GraphFacts:
    return facts_of_graph(folder, GraphConfig(), 0, "dump.nt")


def labels_of(folder: Path) -> dict[str, str | None]:
    pairs = pl.DataFrame(read_table(folder / "pairs.parquet", GRAPH_PAIRS)).filter(relation="P17")
    both = [pairs.select(pl.col(side).alias("iri"), f"{side}_label") for side in ("subject", "object")]
    return {iri.removeprefix(ENTITY): text for frame in both for iri, text in frame.iter_rows()}


def aliases_of(folder: Path) -> list[tuple[str, str]]:
    table = read_table(folder / "aliases.parquet", GRAPH_ALIASES)
    return list(zip((iri.removeprefix(ENTITY) for iri in table["entity"].to_pylist()), table["alias"].to_pylist(), strict=True))


def test_entities_of_wikidata_are_asked_by_their_labels(tmp_path: Path) -> None:
    made = drawn(graph(tmp_path, statements() + labelled()))
    facts = made.facts.to_pylist()
    assert len(facts) == 30
    question = graph_book().question("P17", "Town {}").replace("{}", r"(\d+)")
    for fact in facts:
        match = re.fullmatch(question.replace("?", r"\?"), fact["question"])
        assert match is not None, fact["question"]
        assert fact["answers"][0] == ["Aland", "Bland", "Cland"][(int(match[1]) - 11) % 3]
        assert fact["subject"] == f"Town {match[1]}"
    assert not any(re.search(r"\bQ\d", str(fact)) for fact in facts)


@pytest.mark.parametrize("labels_first", [True, False])
@pytest.mark.parametrize("name", ["a.nt", "a.ttl.bz2", "a.nq.gz"])
@pytest.mark.parametrize(
    "text",
    [
        '"{}"@en',
        '"{}"@EN',
        '"{}"@En',
        '"{}"@en ',
        '"{}"@en _:g',
        '"{}"@mul',
        '"{}"',
        '"{}"^^<http://www.w3.org/2001/XMLSchema#string>',
        '"{}"@en <http://x.org/graph>',
        '" {}\\t "@en',
    ],
)
def test_label_in_any_form_is_read(tmp_path: Path, text: str, name: str, labels_first: bool) -> None:
    lines = labelled(text) + statements() if labels_first else statements() + labelled(text)
    folder = graph(tmp_path, lines, name)
    assert labels_of(folder)["Q11"] == "Town 11"
    assert None not in labels_of(folder).values()


def test_label_in_a_line_of_another_layout_is_read(tmp_path: Path) -> None:
    lines = [line.replace("> <", "><").replace('> "', '>\t"').replace(" .", ".") for line in labelled()]
    lines[0] = lines[0].replace("entity/Q11>", "entity/\\u005111>")
    assert labels_of(graph(tmp_path, statements() + lines)) == labels_of(graph(tmp_path, statements() + labelled(), "other.nt"))


@pytest.mark.parametrize(
    "text", ['"Stadt"@de', '"Town"@en-gb', '"12"^^<http://www.w3.org/2001/XMLSchema#integer>', '""@en', '"  "@en', '"\\uD800"@en']
)
def test_label_in_another_language_or_without_a_text_is_none(tmp_path: Path, text: str) -> None:
    assert set(labels_of(graph(tmp_path, statements() + labelled(text))).values()) == {None}


def test_best_label_is_the_title_and_the_others_are_aliases(tmp_path: Path) -> None:
    more = [
        label("Q1", '"Kingdom of Aland"@en', NAME),
        label("Q1", '"Aland"@en', f"{SKOS}prefLabel"),
        label("Q1", '"Ålandia"@mul'),
        label("Q1", '"AL"@en', ALIAS),
        label("Q1", '"AL"@en', ALIAS),
        label("Q1", '"Alandia"@fi', ALIAS),
        label("Q999", '"In no triple"@en', ALIAS),
    ]
    folder = graph(tmp_path, statements() + more + labelled())
    assert labels_of(folder)["Q1"] == "Aland"
    assert aliases_of(folder) == [("Q1", "Kingdom of Aland"), ("Q1", "Ålandia"), ("Q1", "AL")]
    answers = [fact["answers"] for fact in drawn(folder).facts.to_pylist() if fact["object"] == "Aland"]
    assert answers[0] == ["Aland", "Kingdom of Aland", "Ålandia", "AL"]


@pytest.mark.parametrize(
    ("texts", "title"),
    [
        (['"Anyland"', '"Mulland"@mul', '"Aland"@en'], "Aland"),
        (['"Anyland"', '"Mulland"@mul'], "Mulland"),
        (['"Zland"@en', '"Aland"@en'], "Aland"),
    ],
)
def test_label_in_the_language_wins_and_the_draw_does_not_depend_on_the_order(tmp_path: Path, texts: list[str], title: str) -> None:
    for number, order in enumerate((texts, texts[::-1])):
        folder = graph(tmp_path, statements() + [label("Q1", text) for text in order], f"{number}.nt")
        assert labels_of(folder)["Q1"] == title


def test_language_of_the_labels_can_be_chosen(tmp_path: Path) -> None:
    lines = statements() + labelled('"{} de"@de') + labelled()
    assert labels_of(graph(tmp_path, lines, language="de"))["Q1"] == "Aland de"
    assert labels_of(graph(tmp_path, lines))["Q1"] == "Aland"


def test_alias_alone_is_no_label(tmp_path: Path) -> None:
    folder = graph(tmp_path, statements() + [line.replace(RDFS_LABEL, ALIAS) for line in labelled()])
    assert set(labels_of(folder).values()) == {None}


def test_entity_without_a_label_is_dropped_for_that_reason(tmp_path: Path) -> None:
    lines = [
        line for line in labelled() if "Town 1" not in line and "Bland" not in line
    ]  # towns 11 to 19, and a country of every third one
    made = drawn(graph(tmp_path, statements() + lines))
    unnamed = [town for number, town in enumerate(TOWNS) if number < 9 or number % 3 == 1]
    assert made.dropped_by(Rule.NO_LABEL) == len(unnamed)
    assert made.facts.num_rows > 0
    assert not any(re.search(r"\bQ\d", str(fact)) for fact in made.facts.to_pylist())


def test_dump_of_ids_without_labels_gives_no_fact(tmp_path: Path) -> None:
    made = drawn(graph(tmp_path, statements()))
    assert made.facts.num_rows == 0
    assert made.dropped_by(Rule.NO_LABEL) == len(TOWNS)


def test_entities_with_one_label_and_different_answers_are_not_asked(tmp_path: Path) -> None:
    made = drawn(graph(tmp_path, statements() + [line.replace("Town 12", "Town 11") for line in labelled()]))
    assert made.dropped_by(Rule.SAME_QUESTION) == 2


def test_relation_without_a_template_is_told_with_the_label_of_its_property(tmp_path: Path) -> None:
    folder = graph(tmp_path, statements() + labelled() + [label("P47", '"shares border with"@en')])
    assert drawn(folder).untemplated(1) == [("P47 (shares border with)", 70)]
    names = {row["relation"]: row["label"] for row in read_table(folder / "relations.parquet", GRAPH_RELATIONS).to_pylist()}
    assert names == {"P47": "shares border with", "P17": None}


def test_labels_over_files_and_workers_give_the_same_graph(tmp_path: Path) -> None:
    lines = statements() + labelled() + [label("Q1", '"AL"@en', ALIAS)]
    whole = [graph(tmp_path, lines, workers=workers) for workers in (1, 2)]
    (tmp_path / "parts").mkdir()
    for number in range(3):
        write_dump(tmp_path / "parts" / f"{number}.nt", lines[::-1][number::3])
    read_graph(str(tmp_path / "parts"), tmp_path / "graph", 2)
    for folder in (whole[1], tmp_path / "graph"):
        assert labels_of(folder) == labels_of(whole[0])
        assert aliases_of(folder) == aliases_of(whole[0]) == [("Q1", "AL")]


@pytest.mark.parametrize(
    ("iri", "unnamed"),
    [
        (f"{ENTITY}Q42", True),
        ("https://my.wikibase.cloud/entity/Q7", True),
        ("http://wikidata.dbpedia.org/resource/Q42", True),
        ("http://rdf.freebase.com/ns/m.02mjmr", True),
        ("http://yago-knowledge.org/resource/_Q42", True),
        ("http://yago-knowledge.org/resource/Belgium", False),
        ("http://dbpedia.org/resource/Q1", False),
        ("http://dbpedia.org/resource/U2", False),
        ("http://x.org/entity/Quito", False),
    ],
)
def test_iri_that_is_an_id_is_told_from_a_name(iri: str, unnamed: bool) -> None:
    assert is_id(iri) is unnamed


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("Elvis_Presley", "Elvis Presley"),
        ("Avatar__u0028_2009_film_u0029_", "Avatar (2009 film)"),
        ("Paris_Q2994860", "Paris"),
        ("_Q42", "Q42"),
    ],
)
def test_names_of_yago_are_decoded(name: str, title: str) -> None:
    assert label_of(f"http://yago-knowledge.org/resource/{name}") == title


def test_yago_is_asked_by_its_labels_and_names_and_the_relations_of_schema_org(tmp_path: Path) -> None:
    yago, schema = "http://yago-knowledge.org/resource/", "http://schema.org/"
    lines = [f"<{yago}Person_{n}> <{schema}birthPlace> <{yago}City_{n % 3}_Q77> ." for n in range(30)]
    lines += [f"<{yago}Person_{one}> <{schema}knows> <{yago}Person_{other}> ." for one, other in neighbours()]
    lines += [f'<{yago}Person_{n}> <{RDFS_LABEL}> "Person the {n}th"@en .' for n in range(30)]
    facts = drawn(graph(tmp_path, lines)).facts.to_pylist()
    assert {fact["relation"] for fact in facts} == {"birthPlace"}
    assert all(re.fullmatch(r"Where was Person the \d+th born\?", fact["question"]) for fact in facts)
    assert {fact["object"] for fact in facts} == {"City 0", "City 1", "City 2"}


def test_language_that_is_no_code_is_refused() -> None:
    with pytest.raises((UserError, ValueError), match="language"):
        GraphConfig(language="English")
