"""Head-to-tail on graphs small enough to work out by hand."""

import hashlib
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kp.config.study import GraphConfig
from kp.errors import UserError
from kp.facts.dump.choosing import asked_alike, batches
from kp.facts.dump.cleaning import Rule, answers_stand_in
from kp.facts.dump.entity_names import label_of, without_qualifier
from kp.facts.dump.facts import GraphFacts, facts_of_graph
from kp.facts.dump.random_keys import draw_key, random_keys, text_hashes
from kp.facts.dump.schema import GRAPH_ALIASES, GRAPH_PAIRS, GRAPH_RELATIONS
from kp.facts.dump.titles import labels_of, names_of
from kp.facts.fact import fact_id
from kp.facts.templates import dbpedia_book
from kp.facts.validation import check_facts, question_key, stands_in
from kp.schema import FACTS, write_table
from tests.dump_lines import RESOURCE

Pair = tuple[str, str, str, str]  # local name of the subject, relation, local name of the object, bucket

FILMS: list[Pair] = [
    ("Alien_(film)", "director", "Ridley_Scott", "head"),
    ("Jaws", "director", "Steven_Spielberg", "head"),
    ("Titanic_(1997_film)", "director", "James_Cameron", "head"),
    ("Titanic_(1953_film)", "director", "Jean_Negulesco", "torso"),
    ("Eraserhead", "director", "David_Lynch", "torso"),
    ("Primer_(film)", "director", "Shane_Carruth", "tail"),
    ("Eti", "director", "A_B", "tail"),
    ("Coherence", "director", "C_D", "tail"),
]


def graph(folder: Path, pairs: Sequence[Pair], group: int = 3, untemplated: int = 0) -> Path:
    """A reduced graph with these single-valued pairs, and a relation without a template."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [(RESOURCE + subject, relation, RESOURCE + object_, 7, 8, bucket, None, None) for subject, relation, object_, bucket in pairs]
    table = pa.Table.from_pydict(dict(zip(GRAPH_PAIRS.names, map(list, zip(*rows, strict=True)), strict=True)), schema=GRAPH_PAIRS)
    pq.write_table(table, folder / "pairs.parquet", row_group_size=group)
    counts = Counter(relation for _, relation, _, _ in pairs)
    relations = [
        {"relation": name, "iri": f"x/{name}", "label": None, "triples": 2 * n, "subjects": n, "pairs": n} for name, n in counts.items()
    ]
    if untemplated:
        relations.append({"relation": "wikiPageFoo", "iri": "x/foo", "label": "foo", "triples": untemplated, "subjects": 1, "pairs": 0})
    write_table(pa.Table.from_pylist(relations, schema=GRAPH_RELATIONS), GRAPH_RELATIONS, folder / "relations.parquet")
    write_table(GRAPH_ALIASES.empty_table(), GRAPH_ALIASES, folder / "aliases.parquet")
    return folder


def drawn(folder: Path, per_bucket: int | None = None, seed: int = 0, **settings: str) -> GraphFacts:
    return facts_of_graph(folder, GraphConfig(per_bucket=per_bucket, **settings), seed, "dump.nt")


def questions(made: GraphFacts) -> list[str]:
    return sorted(made.facts["question"].to_pylist())


def rules_of(made: GraphFacts) -> dict[str, int]:
    return dict(zip(made.dropped["rule"].to_pylist(), made.dropped["candidates"].to_pylist(), strict=True))


def with_fillers(*pairs: Pair) -> list[Pair]:
    """These pairs, and in every bucket one that no rule drops, so that the relation gives facts."""
    return [*pairs, *((f"Filler_{bucket}", "director", f"Someone_{bucket}", bucket) for bucket in ("head", "torso", "tail"))]


@pytest.mark.parametrize(("per_bucket", "each"), [(None, 2), (1, 1), (2, 2), (100, 2)])
def test_each_bucket_gives_the_same_number_and_no_more_than_asked(tmp_path: Path, per_bucket: int | None, each: int) -> None:
    made = drawn(graph(tmp_path, FILMS), per_bucket)
    assert Counter(made.facts["popularity"].to_pylist()) == {"head": each, "torso": each, "tail": each}
    (report,) = made.relations.to_pylist()
    assert report == {
        "relation": "director", "label": None, "triples": 16, "pairs": 8, "candidates": 8,
        "head": each, "torso": each, "tail": each, "has_template": True,
    }  # fmt: skip


def test_relation_with_an_empty_bucket_gives_no_facts_and_says_so(tmp_path: Path) -> None:
    made = drawn(graph(tmp_path, [*FILMS[:3], ("Eti", "writer", "A_B", "tail")]))
    assert made.facts.num_rows == 0
    assert made.facts.schema.equals(FACTS)
    assert {row["relation"]: (row["candidates"], row["head"]) for row in made.relations.to_pylist()} == {
        "director": (3, 0),
        "writer": (1, 0),
    }


def test_fact_holds_what_the_pair_says(tmp_path: Path) -> None:
    made = drawn(graph(tmp_path, FILMS))
    fact = next(row for row in made.facts.to_pylist() if row["subject"] == "Eraserhead")
    book = dbpedia_book()
    assert fact == {
        "fact_id": fact_id("Eraserhead", "director", "David Lynch"),
        "subject": "Eraserhead",
        "relation": "director",
        "object": "David Lynch",
        "question": book.question("director", "Eraserhead"),
        "answers": ["David Lynch"],
        "popularity": "torso",
        "subject_degree": 7,
        "domain": book.relations["director"].domain,
        "paraphrases": book.paraphrases("director", "Eraserhead"),
        "source": "dump.nt",
        "reversed_question": None,
    }
    kept, quarantined = check_facts(made.facts, "dump")
    assert (kept.num_rows, quarantined.num_rows) == (made.facts.num_rows, 0)
    assert made.facts["fact_id"].to_pylist() == sorted(made.facts["fact_id"].to_pylist())


def test_qualifier_stays_only_where_two_subjects_would_be_asked_alike(tmp_path: Path) -> None:
    subjects = set(drawn(graph(tmp_path, FILMS, group=2), None).facts["subject"].to_pylist())
    assert {"Titanic (1953 film)", "Eraserhead"} < subjects  # all there is of the torso
    names = {label_of(name) for name, *_ in FILMS}
    assert subjects <= {name for name in names if "Titanic" in name} | {without_qualifier(name) for name in names if "Titanic" not in name}


def test_subjects_that_differ_in_case_and_punctuation_alone_keep_their_qualifiers(tmp_path: Path) -> None:
    pairs = [("It's_(film)", "A_B", "head"), ("Its!_(song)", "C_D", "tail"), ("IT_S", "E_F", "torso")]
    made = drawn(graph(tmp_path, [(subject, "director", object_, bucket) for subject, object_, bucket in pairs]))
    assert questions(made) == ["Who directed IT S?", "Who directed It's (film)?", "Who directed Its!?"]


@pytest.mark.parametrize(
    ("pairs", "rule", "count"),
    [
        ([("Self", "director", "Self", "head")], Rule.OBJECT_IS_SUBJECT, 1),
        ([("Weezer_(album)", "director", "Weezer", "head")], Rule.OBJECT_IS_SUBJECT, 1),
        ([("List_of_films", "director", "A_B", "head")], Rule.NO_ENTITY, 1),
        ([("Doctor", "director", "Lists_of_writers", "head")], Rule.NO_ENTITY, 1),
        ([("Category:Films", "director", "A_B", "head")], Rule.NO_ENTITY, 1),
        ([("A", "director", "Template:Box", "head")], Rule.NO_ENTITY, 1),
        ([("A", "director", "File:Box.png", "head")], Rule.NO_ENTITY, 1),
        ([("Mercury_(disambiguation)", "director", "A_B", "head")], Rule.NO_ENTITY, 1),
        ([("!!!_(album)", "director", "A_B", "head")], Rule.NO_LETTERS, 1),
        ([("A", "director", "...", "head")], Rule.NO_LETTERS, 1),
        ([("A" * 101, "director", "B_C", "head")], Rule.LONG_NAME, 1),
        ([("A", "director", "B" * 101, "head")], Rule.LONG_NAME, 1),
        ([("A%07b", "director", "B_C", "head")], Rule.CONTROL_CHARACTER, 1),
        ([("Wes_Craven's_New_Nightmare", "director", "Wes_Craven", "head")], Rule.ANSWER_IN_QUESTION, 1),
        ([("Émile_Zola's_Nana", "director", "Émile_zola", "head")], Rule.ANSWER_IN_QUESTION, 1),
        (
            [("Nana_(Zola)", "director", "Zola", "head"), ("Nana_(Renoir)", "director", "X_Y", "head")],
            Rule.ANSWER_IN_QUESTION, 1,
        ),  # its qualifier is needed, and holds the answer
        ([("A_B", "director", "C_D", "head"), ("a_b!", "director", "E_F", "tail")], Rule.SAME_QUESTION, 2),
        ([("A_B_(x)", "director", "C_D", "head"), ("a_b_[x]", "director", "E_F", "tail")], Rule.SAME_QUESTION, 0),
        ([("A_B", "director", "C_D", "head"), ("a_b", "director", "C_D", "tail")], Rule.SAME_FACT, 1),
    ],
)  # fmt: skip
def test_candidate_that_breaks_a_rule_is_dropped_and_counted_under_it(tmp_path: Path, pairs: list[Pair], rule: Rule, count: int) -> None:
    made = drawn(graph(tmp_path, with_fillers(*pairs)))
    assert rules_of(made) == ({rule.value: count} if count else {})
    (report,) = made.relations.to_pylist()
    assert report["candidates"] == len(pairs) + 3 - count


def test_dropped_candidates_are_told_with_an_example(tmp_path: Path) -> None:
    made = drawn(graph(tmp_path, with_fillers(("Wes_Craven's_New_Nightmare", "director", "Wes_Craven", "head"))))
    assert made.dropped["example"].to_pylist() == ["Who directed Wes Craven's New Nightmare? -> Wes Craven"]


def test_aliases_become_answers_but_for_those_that_stand_in_the_question(tmp_path: Path) -> None:
    pl.DataFrame({"id": ["David_Lynch"] * 3, "alias": ["D. Lynch", "Eraserhead", "Lynch"]}).write_csv(tmp_path / "aliases.csv")
    made = drawn(graph(tmp_path / "graph", FILMS), aliases=str(tmp_path / "aliases.csv"))
    fact = next(row for row in made.facts.to_pylist() if row["subject"] == "Eraserhead")
    assert fact["answers"] == ["David Lynch", "D. Lynch", "Lynch"]


def test_domain_comes_from_the_ontology_where_one_is_given(tmp_path: Path) -> None:
    line = "<http://dbpedia.org/ontology/director> <http://www.w3.org/2000/01/rdf-schema#domain> <http://dbpedia.org/ontology/Film> .\n"
    (tmp_path / "ontology.nt").write_text(line)
    made = drawn(graph(tmp_path / "graph", FILMS), ontology=str(tmp_path / "ontology.nt"))
    assert set(made.facts["domain"].to_pylist()) == {"Film"}


def test_relations_without_a_template_are_reported_by_size(tmp_path: Path) -> None:
    made = drawn(graph(tmp_path, FILMS, untemplated=999))
    assert made.untemplated(5) == [("wikiPageFoo (foo)", 999)]
    assert made.relations.to_pylist()[0] == {
        "relation": "wikiPageFoo", "label": "foo", "triples": 999, "pairs": 0, "candidates": 0,
        "head": 0, "torso": 0, "tail": 0, "has_template": False,
    }  # fmt: skip


def test_templates_of_a_file_ask_relations_of_their_own(tmp_path: Path) -> None:
    paraphrases = ", ".join(f'"Paraphrase {number} of {{subject}}, please?"' for number in range(10))
    (tmp_path / "more.toml").write_text(
        f'[relations.muse]\ndomain = "art"\nquestion = "Whose muse is {{subject}}?"\nparaphrases = [{paraphrases}]\n'
    )
    pairs = [("Ann", "muse", "Bob", "head"), ("Cem", "muse", "Dan", "torso"), ("Eva", "muse", "Fay", "tail")]
    made = drawn(graph(tmp_path / "graph", pairs), templates=str(tmp_path / "more.toml"))
    assert questions(made) == ["Whose muse is Ann?", "Whose muse is Cem?", "Whose muse is Eva?"]


def test_graph_without_any_templated_relation_is_an_error_that_names_the_field(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"facts\.source: .*facts\.graph\.templates"):
        drawn(graph(tmp_path, [("A", "noSuchRelation", "B", "head")]))


def many_pairs() -> list[Pair]:
    chance = random.Random(5)
    relations = ("director", "writer", "country")
    buckets = ("head", "torso", "tail")
    return [(f"Work_{n}", chance.choice(relations), f"Thing_{n % 37}", chance.choice(buckets)) for n in range(900)]


def digest(made: GraphFacts, path: Path) -> str:
    write_table(made.facts, FACTS, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_same_seed_gives_the_same_bytes_whatever_the_order_of_pairs(tmp_path: Path) -> None:
    pairs = many_pairs()
    first = digest(drawn(graph(tmp_path / "a", pairs, group=100), 20, seed=3), tmp_path / "a.parquet")
    random.Random(1).shuffle(pairs)
    assert digest(drawn(graph(tmp_path / "b", pairs, group=77), 20, seed=3), tmp_path / "b.parquet") == first


def test_other_seed_draws_other_facts_and_a_larger_draw_holds_the_smaller(tmp_path: Path) -> None:
    folder = graph(tmp_path, many_pairs(), group=100)
    small, large, other = (drawn_ids(folder, per_bucket, seed) for per_bucket, seed in ((20, 0), (40, 0), (20, 1)))
    assert len(small) == len(other) == 180
    assert small < large
    assert 0 < len(small & other) < 120


def drawn_ids(folder: Path, per_bucket: int, seed: int) -> set[str]:
    return set(drawn(folder, per_bucket, seed).facts["fact_id"].to_pylist())


def test_relations_taken_in_batches_give_the_same_facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = graph(tmp_path, many_pairs(), group=100)
    whole = drawn(folder, 20)
    monkeypatch.setattr("kp.facts.dump.choosing.BATCH_PAIRS", 400)
    batched = drawn(folder, 20)
    assert batched.facts.equals(whole.facts)
    assert batched.relations.equals(whole.relations)
    assert list(batches({"a": 300, "b": 200, "c": 100})) == [["a"], ["b", "c"]]


local_names = st.sampled_from(
    ["Titanic_(1997_film)", "A_(b_(c))", "(x)", "_a_", "a__b", "%C3%A9_x", "100%25", "é\u00a0b", "a_)", "f(x)", "A_(b)_(c)"]
)
some_iris = (
    local_names.map(RESOURCE.__add__)
    | st.text("aé(_)%4 1\u2003", max_size=9).map(RESOURCE.__add__)
    | st.sampled_from(["x#y_(z)", "http://a/b"])
)


@given(st.lists(some_iris, min_size=1, max_size=9))
def test_titles_in_bulk_are_those_one_by_one(iris: list[str]) -> None:
    labels = labels_of(pl.Series(iris))
    assert labels.to_list() == [label_of(iri) for iri in iris]
    assert names_of(labels).to_list() == [without_qualifier(label_of(iri)) for iri in iris]


words = st.text("abAB ßſéÉİ'-._1", max_size=8)


@given(st.lists(st.tuples(words, words.map("Who directed {}?".format)), min_size=1, max_size=9))
def test_answers_in_questions_in_bulk_are_those_one_by_one(rows: list[tuple[str, str]]) -> None:
    answers, asked = zip(*rows, strict=True)
    assert answers_stand_in(pl.Series(answers), pl.Series(asked)).to_list() == [stands_in(*row) for row in rows]


@given(st.lists(words.map(lambda text: " ".join(text.split())), min_size=1, max_size=9))
def test_titles_asked_alike_in_bulk_are_those_one_by_one(titles: list[str]) -> None:
    assert asked_alike(pl.Series(titles)).to_list() == [question_key(title) for title in titles]


def test_random_keys_are_what_they_have_always_been() -> None:
    hashes = text_hashes(pa.array(["", "a", "http://dbpedia.org/resource/Café", "12345678", "123456789"]))
    assert hashes.tolist() == [
        0xE220A8397B1DCDAF,  # what SplitMix64 gives first from the seed 0
        16770217027152810039,
        18203572116236083494,
        3550491015627093435,
        3646587028461127993,
    ]
    assert random_keys(hashes[:1], hashes[1:2]).tolist() == [14462712436500747706]
    assert len({draw_key(0, "director"), draw_key(1, "director"), draw_key(1, "writer")}) == 3


@given(st.lists(st.text(max_size=30), min_size=2, max_size=9, unique=True), st.integers(0, 3))
def test_hash_of_a_text_hangs_on_the_text_alone(texts: list[str], start: int) -> None:
    hashes = text_hashes(pa.array(texts)).tolist()
    assert len(set(hashes)) == len(texts)
    assert text_hashes(pa.array(texts).slice(min(start, 1))).tolist() == hashes[min(start, 1) :]
    assert text_hashes(pa.array(texts[::-1])).tolist() == hashes[::-1]
