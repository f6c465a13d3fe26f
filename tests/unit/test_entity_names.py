"""Names of entities: out of IRIs, redirects, tables of aliases, links to Wikidata, and kp's own names of states."""

import bz2
import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kp.config.study import GraphConfig
from kp.errors import UserError
from kp.facts.dump.entity_names import EntityNames, label_of, load_names, names_digest, without_qualifier
from kp.metrics.matching import matches, normalise
from kp.vocabulary import Matcher

FEW = settings(max_examples=100, deadline=None)
DBR = "http://dbpedia.org/resource/"
TITANIC = f"{DBR}Titanic_(1997_film)"
SAO_PAULO = f"{DBR}S%C3%A3o_Paulo"
USA = f"{DBR}United_States"
REDIRECTS = "http://dbpedia.org/ontology/wikiPageRedirects"
SAME_AS = "http://www.w3.org/2002/07/owl#sameAs"
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)


def lines(*triples: tuple[str, str, str]) -> str:
    return "".join(f"<{subject}> <{relation}> <{object_}> .\n" for subject, relation, object_ in triples)


def dump(path: Path, *triples: tuple[str, str, str]) -> str:
    path.write_bytes(bz2.compress(lines(*triples).encode()))
    return str(path)


def redirects(path: Path, *pairs: tuple[str, str]) -> str:
    return dump(path, *((DBR + title, REDIRECTS, DBR + target) for title, target in pairs))


def table(path: Path, *rows: dict[str, object]) -> str:
    """The same rows in the format that the ending names; lists as JSON where a format has none."""
    if path.suffix == ".parquet":
        pl.DataFrame(rows).write_parquet(path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        flat = [{name: json.dumps(cell) if isinstance(cell, list) else cell for name, cell in row.items()} for row in rows]
        pl.DataFrame(flat).write_csv(path, separator="\t" if path.suffix == ".tsv" else ",")
    return str(path)


def answers(iri: str, **files: str) -> list[str]:
    return load_names(GraphConfig(**files), [iri]).answers(iri)


def bare(*titles: str, iri: str = TITANIC) -> list[str]:
    return EntityNames(frozenset([iri]), {iri: titles}, {}).answers(iri)


@pytest.mark.parametrize(
    ("iri", "label"),
    [
        (TITANIC, "Titanic (1997 film)"),
        (SAO_PAULO, "São Paulo"),
        (f"{DBR}São_Paulo", "São Paulo"),
        (f"{DBR}AC/DC", "AC/DC"),
        (f"{DBR}Washington,_D.C.", "Washington, D.C."),
        (f"{DBR}%22Weird_Al%22_Yankovic", '"Weird Al" Yankovic'),
        (f"{DBR}100%", "100%"),
        (f"{DBR}C_Sharp_%23", "C Sharp #"),
        (f"{DBR}Bad_%E3_escape", "Bad %E3 escape"),
        ("http://de.dbpedia.org/resource/K%C3%B6ln", "Köln"),
        ("http://www.wikidata.org/entity/Q42", "Q42"),
        ("http://example.org/things#Some_thing", "Some thing"),
        ("http://example.org/things/", "http://example.org/things/"),
        (f"{DBR}_", "_"),
    ],
)
def test_label_of_iri_is_the_title_that_it_holds(iri: str, label: str) -> None:
    assert label_of(iri) == label


@FEW
@given(TEXTS.filter(bool))
def test_label_of_any_iri_is_not_empty(text: str) -> None:
    assert label_of(text)
    assert label_of(DBR + text)


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("Titanic (1997 film)", "Titanic"),
        ("Georgia (U.S. state)", "Georgia"),
        ("Smile (album (disputed))", "Smile"),
        ("Help! (album)", "Help!"),
        ("(What's the Story) Morning Glory?", "(What's the Story) Morning Glory?"),
        ("(What's the Story) Morning Glory? (album)", "(What's the Story) Morning Glory?"),
        ("(Untitled)", "(Untitled)"),
        (" (Untitled)", " (Untitled)"),
        ("Iron(II) sulfate", "Iron(II) sulfate"),
        ("Iron(II)", "Iron(II)"),
        (":)", ":)"),
        ("Smile :)", "Smile :)"),
        ("Springfield, Illinois", "Springfield, Illinois"),
        ("Paris", "Paris"),
        ("", ""),
    ],
)
def test_without_qualifier_label_loses_a_last_parenthesis_alone(label: str, name: str) -> None:
    assert without_qualifier(label) == name


@FEW
@given(st.text(alphabet="ab ()", min_size=1))
def test_without_qualifier_any_label_keeps_its_beginning(label: str) -> None:
    name = without_qualifier(label)
    assert name
    assert label.startswith(name)
    assert name == label or label.endswith(")")


def test_answers_label_with_qualifier_canonical_comes_first() -> None:
    assert answers(TITANIC) == ["Titanic", "Titanic (1997 film)"]


def test_answers_label_with_accents_also_without() -> None:
    assert answers(SAO_PAULO) == ["São Paulo", "Sao Paulo"]
    assert answers(f"{DBR}東京ガ") == ["東京ガ"]


def test_answers_language_is_also_called_without_the_word() -> None:
    assert answers(f"{DBR}English_language") == ["English language", "English"]


def test_answers_nothing_but_punctuation_before_the_qualifier_qualifier_is_no_answer() -> None:
    assert answers(f"{DBR}!_(album)") == ["!"]


def test_answers_entity_that_was_not_loaded_raises() -> None:
    with pytest.raises(KeyError):
        load_names(GraphConfig(), [TITANIC]).answers(USA)


def test_answers_state_takes_other_names() -> None:
    names = answers(USA)
    assert names[0] == "United States"
    assert {"USA", "U.S.", "US", "United States of America", "America"} <= set(names)
    assert matches("It is the U.S.A.", names, Matcher.STRICT)
    assert not matches("Tell us more", names, Matcher.STRICT)


def test_redirects_chain_all_titles_are_names(tmp_path: Path) -> None:
    # The second hop stands before the first, so that one pass cannot see both.
    source = redirects(
        tmp_path / "r.ttl.bz2", ("Gotham_City", "Big_Apple"), ("Big_Apple", "New_York_City"), ("NYC_(city)", "New_York_City")
    )
    names = answers(f"{DBR}New_York_City", redirects=source)
    assert names == ["New York City", "Big Apple", "Gotham City", "NYC"]


def test_redirects_cycle_ends(tmp_path: Path) -> None:
    source = redirects(tmp_path / "r.ttl.bz2", ("A", "B"), ("B", "C"), ("C", "A"), ("D", "D"), ("Xanadu", "B"))
    assert answers(f"{DBR}A", redirects=source)[:1] == ["A"]
    assert set(answers(f"{DBR}A", redirects=source)) == {"A", "B", "C", "Xanadu"}


def test_redirects_in_any_spelling_of_the_format_are_read(tmp_path: Path) -> None:
    odd = (
        b"# started\n\xff\xfe no text\n<no triple>\n"
        + f"<{DBR}Sampa> <{REDIRECTS}> <{DBR}S%C3%A3o_Paulo> .\r\n".encode()
        + f"<{DBR}S\\u00E3o_Paulo_City>\t<{REDIRECTS}> <{DBR}S\\u00E3o_Paulo>.\n".encode()
        + f"<{DBR}San_Pablo> <{REDIRECTS}> <{DBR}São_Paulo> . # comment\n".encode()
        + f'<{DBR}Bad> <{REDIRECTS}> "São Paulo" .\n<{DBR}Worse> <{REDIRECTS}> <{DBR}São Paulo> .\n'.encode()
        + f"<{REDIRECTS}> <http://example.org/about> <{DBR}São_Paulo> .\n".encode()
    )
    (tmp_path / "r.nt").write_bytes(odd)
    names = answers(f"{DBR}São_Paulo", redirects=str(tmp_path / "r.nt"))
    assert names == ["São Paulo", "Sao Paulo", "Sampa", "San Pablo", "São Paulo City"]


def test_redirects_file_that_was_cut_short_is_told_by_field(tmp_path: Path) -> None:
    path = tmp_path / "r.ttl.bz2"
    redirects(path, *((f"Alias_{number}", "Paris") for number in range(5000)))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"facts\.graph\.redirects: .*r\.ttl\.bz2.*damaged or cut short"):
        answers(f"{DBR}Paris", redirects=str(path))


def test_redirects_of_other_entities_are_not_kept(tmp_path: Path) -> None:
    source = redirects(tmp_path / "r.ttl.bz2", *((f"Alias_{number}", f"Other_{number}") for number in range(50)), ("Bombay", "Mumbai"))
    names = load_names(GraphConfig(redirects=source), [f"{DBR}Mumbai"])
    assert names.redirects == {f"{DBR}Mumbai": ["Bombay"]}


@pytest.mark.parametrize(
    "title",
    [
        "titanic",
        "Titanic!",
        "The Titanic",
        "Titanic (disambiguation)",
        "List of ships",
        "Category:Ships",
        "1912",
        "the",
        "A" * 101,
        "",
        "?",
    ],
)
def test_answers_redirect_that_is_no_new_name_is_dropped(title: str) -> None:
    assert bare(title) == ["Titanic", "Titanic (1997 film)"]


def test_answers_redirect_of_digits_stays_for_a_number() -> None:
    assert bare("1984", "Nineteen Eighty-Four", iri=f"{DBR}1984_(novel)") == ["1984", "1984 (novel)", "Nineteen Eighty-Four"]


@pytest.mark.parametrize("ending", ["parquet", "csv", "tsv", "jsonl"])
def test_aliases_one_a_row_keep_their_order_and_commas(tmp_path: Path, ending: str) -> None:
    rows = [{"id": USA, "alias": "Uncle Sam"}, {"id": TITANIC, "alias": "Titanic, the ship"}, {"id": TITANIC, "alias": "[REC]"}]
    assert answers(TITANIC, aliases=table(tmp_path / f"a.{ending}", *rows)) == [
        "Titanic",
        "Titanic (1997 film)",
        "Titanic, the ship",
        "[REC]",
    ]


@pytest.mark.parametrize("ending", ["parquet", "csv", "tsv", "jsonl"])
def test_aliases_list_in_a_cell_is_several(tmp_path: Path, ending: str) -> None:
    rows = [{"id": TITANIC, "alias": ["RMS, the", "the", "", "Ship of Dreams"]}, {"id": USA, "alias": []}]
    assert answers(TITANIC, aliases=table(tmp_path / f"a.{ending}", *rows))[2:] == ["RMS, the", "Ship of Dreams"]


@pytest.mark.parametrize("key", [SAO_PAULO, f"{DBR}São_Paulo", "S%C3%A3o_Paulo", "S%c3%a3o_Paulo", "São_Paulo", "São Paulo"])
@pytest.mark.parametrize("iri", [SAO_PAULO, f"{DBR}São_Paulo"])
def test_aliases_id_may_be_an_iri_or_a_local_name(tmp_path: Path, iri: str, key: str) -> None:
    assert "Sampa" in answers(iri, aliases=table(tmp_path / "a.csv", {"id": key, "alias": "Sampa"}))


@pytest.mark.parametrize("key", ["Q44578", "wd:Q44578", "http://www.wikidata.org/entity/Q44578"])
@pytest.mark.parametrize("backwards", [False, True])
def test_aliases_by_wikidata_id_are_found_through_links(tmp_path: Path, key: str, backwards: bool) -> None:
    link = (TITANIC, SAME_AS, "http://www.wikidata.org/entity/Q44578")
    other = (USA, SAME_AS, "http://www.wikidata.org/entity/Q30")
    same_as = dump(
        tmp_path / "s.ttl.bz2", other, link[::-1] if backwards else link, (TITANIC, SAME_AS, "http://de.dbpedia.org/resource/Titanic")
    )
    aliases = table(tmp_path / "a.parquet", {"id": "Q30", "alias": "Uncle Sam"}, {"id": key, "alias": "James Cameron's Titanic"})
    assert answers(TITANIC, aliases=aliases, same_as=same_as)[2:] == ["James Cameron's Titanic"]


def test_aliases_by_wikidata_id_without_links_names_the_missing_file(tmp_path: Path) -> None:
    aliases = table(tmp_path / "a.csv", {"id": "Q90", "alias": "City of Light"}, {"id": "Q44578", "alias": "Titanic"})
    with pytest.raises(UserError, match=r"facts\.graph\.same_as: needed, because .*a\.csv goes by Wikidata ids"):
        answers(TITANIC, aliases=aliases)


def test_aliases_by_title_one_of_which_looks_like_an_id_need_no_links(tmp_path: Path) -> None:
    aliases = table(tmp_path / "a.csv", {"id": "Q1", "alias": "Q 1"}, {"id": "Titanic_(1997_film)", "alias": "Ship of Dreams"})
    assert answers(TITANIC, aliases=aliases)[2:] == ["Ship of Dreams"]


def test_aliases_of_a_wikidata_graph_need_no_links_and_give_the_canonical_name(tmp_path: Path) -> None:
    aliases = table(
        tmp_path / "a.csv", {"id": "Q1", "alias": "universe"}, {"id": "Q42", "alias": "Douglas Adams"}, {"id": "Q42", "alias": "DNA"}
    )
    assert answers("http://www.wikidata.org/entity/Q42", aliases=aliases) == ["Douglas Adams", "DNA"]
    assert answers("http://www.wikidata.org/entity/Q43", aliases=aliases) == ["Q43"]


def test_aliases_page_titled_like_an_id_is_not_that_item(tmp_path: Path) -> None:
    link = (USA, SAME_AS, "http://www.wikidata.org/entity/Q30")
    aliases = table(tmp_path / "a.csv", {"id": "Q1", "alias": "universe"})
    assert answers(f"{DBR}Q1", aliases=aliases, same_as=dump(tmp_path / "s.ttl.bz2", link)) == ["Q1"]


def test_aliases_more_rows_than_a_batch_are_all_read(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    count = 150_000
    pl.DataFrame({"id": [TITANIC if row in (0, count - 1) else f"{DBR}Other_{row}" for row in range(count)]}).with_columns(
        pl.int_range(count).cast(pl.String).str.replace("^", "ship ").alias("alias")
    ).write_parquet(path)
    names = load_names(GraphConfig(aliases=str(path)), [TITANIC])
    assert names.aliases == {TITANIC: ["ship 0", "ship 149999"]}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "id,alias\nParis,City of Light\n,Nobody\n", r"a\.csv: row 2: column 'id' is empty"),
        ("a.csv", "id,alias\nParis,City,of,Light\n", r"a\.csv: row 1: 4 fields, the header has 2"),
        ("a.csv", 'id,alias\nParis,"[""City of Light"\n', r"a\.csv: row 1: column 'alias' is a list or dict that cannot be parsed"),
        ("a.csv", 'id,alias\nParis,"City"of Light\n', r"a\.csv: row 1: not a valid record"),
        ("a.csv", "id,name\nParis,City of Light\n", r"facts\.graph\.aliases: .*a\.csv: row 1: no 'alias'; there are: id, name"),
        ("a.csv", "", r"a\.csv: the file is empty"),
        ("a.jsonl", '{"id": "Paris"}\n', r"a\.jsonl: row 1: no 'alias'"),
        ("a.jsonl", '{"id": "Paris", "alias": {"a": 1}}\n', r"a\.jsonl: row 1: column 'alias'"),
        ("a.jsonl", '{"id": "Paris", "alias": "x"}\n{"id": \n', r"a\.jsonl: row 2: not valid JSON"),
        ("a.parquet", "no parquet", r"facts\.graph\.aliases: .*a\.parquet: not a readable parquet file"),
        ("a.txt", "", r"facts\.graph\.aliases: .*a\.txt.*expected a path that ends in"),
    ],
)
def test_aliases_malformed_table_tells_where(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        answers(TITANIC, aliases=str(tmp_path / name))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": ["Paris", None], "alias": ["City of Light", "Nobody"]}, r"a\.parquet: row 2: column 'id' is empty"),
        ({"id": ["Paris"], "name": ["City of Light"]}, "column 'alias' is missing; there are: id, name"),
        ({"id": ["Paris"], "alias": [7]}, "column 'alias' is Int64, expected String or List"),
    ],
)
def test_aliases_malformed_parquet_tells_where(tmp_path: Path, columns: dict[str, list[object]], message: str) -> None:
    pl.DataFrame(columns).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(UserError, match=message):
        answers(TITANIC, aliases=str(tmp_path / "a.parquet"))


@pytest.mark.parametrize("field", ["aliases", "same_as", "redirects"])
def test_files_that_are_missing_are_told_by_field(tmp_path: Path, field: str) -> None:
    files = {"aliases": table(tmp_path / "a.csv", {"id": "Paris", "alias": "City of Light"}), field: str(tmp_path / "absent.csv")}
    with pytest.raises(UserError, match=rf"facts\.graph\.{field}: .*absent"):
        answers(TITANIC, **files)
    with pytest.raises(UserError, match=rf"facts\.graph\.{field}: .*absent"):
        names_digest(GraphConfig(**files))


@pytest.mark.parametrize(
    ("field", "message"), [("same_as", "no line with <.*sameAs>"), ("redirects", "no line with <.*wikiPageRedirects>")]
)
def test_files_of_something_else_are_told_by_field(tmp_path: Path, field: str, message: str) -> None:
    other = dump(tmp_path / "other.ttl.bz2", (TITANIC, "http://dbpedia.org/ontology/starring", USA))
    aliases = table(tmp_path / "a.csv", {"id": "Paris", "alias": "City of Light"})
    with pytest.raises(UserError, match=rf"facts\.graph\.{field}: .*{message}"):
        answers(TITANIC, **{"aliases": aliases, field: other})


def test_links_to_no_wikidata_id_are_an_error(tmp_path: Path) -> None:
    same_as = dump(tmp_path / "s.ttl.bz2", (TITANIC, SAME_AS, "http://de.dbpedia.org/resource/Titanic"))
    with pytest.raises(UserError, match=r"facts\.graph\.same_as: .*links nothing to a Wikidata id"):
        answers(TITANIC, aliases=table(tmp_path / "a.csv", {"id": "Q1", "alias": "x"}), same_as=same_as)


def test_names_digest_changes_with_each_file_and_not_with_its_place(tmp_path: Path) -> None:
    first = table(tmp_path / "a.csv", {"id": "Paris", "alias": "City of Light"})
    copy = table(tmp_path / "copy.csv", {"id": "Paris", "alias": "City of Light"})
    second = table(tmp_path / "b.csv", {"id": "Paris", "alias": "Lutetia"})
    source = redirects(tmp_path / "r.ttl.bz2", ("Lutetia", "Paris"))
    assert set(names_digest(GraphConfig())) == {"country_names"}
    assert set(names_digest(GraphConfig(aliases=first, redirects=source))) == {"aliases", "country_names", "redirects"}
    assert names_digest(GraphConfig(aliases=first)) == names_digest(GraphConfig(aliases=copy))
    assert names_digest(GraphConfig(aliases=first)) != names_digest(GraphConfig(aliases=second))


def test_names_digest_folder_of_dumps_changes_with_each_file(tmp_path: Path) -> None:
    folder = tmp_path / "redirects"
    folder.mkdir()
    redirects(folder / "1.ttl.bz2", ("Lutetia", "Paris"))
    one = names_digest(GraphConfig(redirects=str(folder)))
    redirects(folder / "2.ttl.bz2", ("City_of_Light", "Paris"))
    assert names_digest(GraphConfig(redirects=str(folder))) != one
    assert answers(f"{DBR}Paris", redirects=str(folder)) == ["Paris", "City of Light", "Lutetia"]


@FEW
@given(
    TEXTS.map(lambda title: f"{DBR}{title}_(film)") | st.just("http://www.wikidata.org/entity/Q42"),
    st.lists(TEXTS, max_size=6),
    st.lists(TEXTS, max_size=6),
)
def test_answers_any_names_hold_no_empties_and_no_duplicates(iri: str, titles: list[str], aliases: list[str]) -> None:
    names = EntityNames(frozenset([iri]), {iri: titles}, {iri: aliases}).answers(iri)
    assert names[0] == without_qualifier(label_of(iri)) or iri.endswith("/Q42")
    assert all(name.strip() for name in names)
    assert all(normalise(name) for name in names[1:])
    assert len({(normalise(name), name.lower()) for name in names}) == len(names)


@FEW
@given(st.lists(st.sampled_from(["U.S.", "US", "us", "The US", "u.s", "America", "america", "the America!"]), max_size=8))
def test_answers_spellings_dropped_make_no_difference_to_any_matcher(aliases: list[str]) -> None:
    names = EntityNames(frozenset([TITANIC]), {}, {TITANIC: aliases}).answers(TITANIC)
    for said in ("US", "It is the U.S.", "america", "tell us", "The Americas"):
        for matcher in Matcher:
            assert matches(said, names, matcher) == matches(said, ["Titanic", "Titanic (1997 film)", *aliases], matcher)
