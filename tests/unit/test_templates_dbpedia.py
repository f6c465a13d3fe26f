"""The shipped wordings of DBpedia relations, held to their rules, and a user's own file beside them."""

import bz2
import re
import tomllib
import unicodedata
from collections import Counter, defaultdict
from pathlib import Path
from urllib.parse import unquote

import pytest

from kp.errors import UserError
from kp.facts.templates import (
    PARAPHRASES,
    SAME_RELATIONS_FILE,
    RelationTemplate,
    dbpedia_book,
    graph_book,
    same_relations,
    template_book,
    templates_digest,
)
from kp.facts.validation import stands_in
from tests.real_data import FOLDER, needs_real

ROOT = Path(__file__).parents[2]
SAMPLE = FOLDER / "dbpedia_sample.ttl.bz2"
TRIPLE = re.compile(r"<http://dbpedia\.org/resource/\S+> <http://dbpedia\.org/ontology/(\S+)> <http://dbpedia\.org/resource/(\S+)>")
RELATIONS = [pytest.param(relation, id=name) for name, relation in dbpedia_book().relations.items()]
each_relation = pytest.mark.parametrize("relation", RELATIONS)

GENDERED = re.compile(
    r"\b(he|she|his|hers?|him|himself|herself|actor|actress|man|woman|businessman|husband|wife|king|queen|boy|girl|gentleman|lady)\b", re.I
)
# Frequent objects of relations whose objects are common words; names of persons and places need no such list.
COMMON_ANSWERS = {
    "architecturalStyle": "Gothic; Modern; Baroque; Victorian; Colonial; Bungalow; Art Deco",
    "bodyStyle": "Sedan; Saloon; Hatchback; Convertible; Coupe; Van; Truck; SUV; Car",
    "class": "Mammal; Bird; Insect; Reptile; Fish; Animal; Plant; Car; Sports car; Supermini",
    "computingPlatform": "Windows; Personal computer; Computer; Arcade game; Web; Browser; Console; Mobile",
    "engine": "Diesel; Petrol; Electric motor; V8; Motor; Turbocharger",
    "engineType": "Diesel engine; Petrol engine; Gasoline engine; Electric motor; Steam engine; Turbocharger; Motor",
    "format": "Album; Single; News; Magazine; Compact disc; Digital download; Stereo; Broadsheet; Tabloid; Picture",
    "fuelType": "Coal; Oil; Gas; Natural gas; Diesel; Petrol; Gasoline; Electricity; Wood; Water; Wind",
    "genre": "Comedy; Drama; Rock; Pop; Jazz; Action; Film; Fiction; Novel; Thriller; Horror; Game; Music; Adventure; Puzzle; Platform",
    "industry": "Business; Trade; Media; Finance; Retail; Music; Manufacturing; Commerce; Entertainment; Services; Technology; Software",
    "keyPerson": "Chairman; Chief executive; Chief executive officer; President; Founder; Director; Manager; CEO; Executive",
    "language": "English; French; Latin; Sign",
    "license": "Proprietary; Free; Open source; Free software; Public domain; Freeware; Shareware; Copyright; MIT",
    "literaryGenre": "Novel; Fiction; Fantasy; Non-fiction; Literature; Poetry; Drama; Biography; Essay; Mystery; Short story",
    "mediaType": "Print; Book; Hardcover; Paperback; Hardback; E-book; Audiobook; Magazine; Newspaper; Online; Digital",
    "network": "Syndication; Radio; Internet; Television; Independent; Public",
    "operatingSystem": "Windows; Linux; Unix; Cross-platform; Platform; Mobile",
    "product": "Software; Goods; Services; Service; Beer; Clothing; Toys; Cars; Vehicles; Food; Machine; Music",
    "programmeFormat": "News; Talk; Sports; Music; Rock; Pop; Country; Oldies; Public radio; Religious; Variety; Classical",
    "programmingLanguage": "C; D; R; B; Go; Basic; Self; Swift; Scratch; Logo; Java; Python; Processing; Simple; Crystal; Rust",
}


def wordings(relation: RelationTemplate) -> list[str]:
    return [relation.question, *relation.paraphrases]


def words_of(text: str) -> set[str]:
    return set(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def entry(question: str = "Where is {subject}?", paraphrases: str = '["In what place is {subject}?"]', more: str = "") -> str:
    return f'[relations.favouriteDog]\ndomain = "geography"\nquestion = "{question}"\nparaphrases = {paraphrases}\n{more}\n'


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_dbpedia_book_holds_at_least_120_relations() -> None:
    assert len(dbpedia_book().relations) >= 120


def test_dbpedia_book_names_relations_as_the_ontology_does() -> None:
    for name, relation in dbpedia_book().relations.items():
        assert relation.name == name
        assert re.fullmatch(r"[a-z][A-Za-z0-9]*", name), name
        assert re.fullmatch(r"[a-z]+( [a-z]+)?", relation.domain), name


@each_relation
def test_relation_has_ten_paraphrases_all_distinct_and_none_the_question(relation: RelationTemplate) -> None:
    assert len(relation.paraphrases) == PARAPHRASES
    assert len({text.casefold() for text in wordings(relation)}) == PARAPHRASES + 1


@each_relation
def test_relation_wordings_are_plain_sentences_about_one_subject(relation: RelationTemplate) -> None:
    for text in wordings(relation):
        assert text.count("{subject}") == 1, text
        assert re.fullmatch(r"(\{subject\}|[A-Z]).*[^\s?.][?.]", text), text
        assert "  " not in text, text
        assert 15 <= len(text) <= 120, text
        assert not re.search(r"dbo\b|dbpedia|ontology|https?:|_", text, re.I), text
        assert not re.search(r"\b[a-z]+[A-Z]", text), f"a relation's name in its wording: {text}"


@each_relation
def test_relation_wordings_assume_no_gender(relation: RelationTemplate) -> None:
    assert [text for text in wordings(relation) if GENDERED.search(text)] == []


@each_relation
def test_relation_wordings_do_not_all_begin_alike(relation: RelationTemplate) -> None:
    openings = Counter(tuple(text.split()[:2]) for text in wordings(relation))
    assert max(openings.values()) <= 3, openings.most_common(1)


def test_wordings_of_all_relations_are_distinct() -> None:
    """Two relations with one wording would give a subject two right answers to the same question."""
    names = defaultdict(set)
    for name, relation in dbpedia_book().relations.items():
        for text in wordings(relation):
            names[text.casefold()].add(name)
    assert {text: shared for text, shared in names.items() if len(shared) > 1} == {}


@pytest.mark.parametrize("name", COMMON_ANSWERS)
def test_relation_wordings_hold_no_frequent_answer(name: str) -> None:
    texts = [text.replace("{subject}", "") for text in wordings(dbpedia_book().relations[name])]
    assert [(answer, text) for answer in COMMON_ANSWERS[name].split("; ") for text in texts if stands_in(answer, text)] == []


@needs_real(SAMPLE.name)
def test_relation_wordings_hold_no_answer_of_a_real_dump() -> None:
    relations = dbpedia_book().relations
    with bz2.open(SAMPLE, "rt", encoding="utf-8") as lines:
        found = {match.groups() for line in lines if (match := TRIPLE.match(line))}
    labels = {(name, unquote(local).replace("_", " ").split(" (")[0]) for name, local in found if name in relations}
    assert len({name for name, _ in labels}) >= 20
    words = {name: words_of(" ".join(wordings(relation))) for name, relation in relations.items()}
    likely = [(name, label) for name, label in labels if words_of(label) <= words[name]]  # the exact comparison is slow
    assert [(name, label) for name, label in likely if any(stands_in(label, text) for text in wordings(relations[name]))] == []


def test_book_renders_question_and_paraphrases_with_the_subject() -> None:
    book = dbpedia_book()
    assert book.question("director", "8½") == "Who directed 8½?"
    rendered = book.paraphrases("director", "8½")
    assert len(rendered) == PARAPHRASES
    assert all("8½" in text and "{" not in text for text in rendered)


def test_book_subject_that_takes_an_article_gets_it() -> None:
    assert dbpedia_book().question("language", "Netherlands") == "What is the language of the Netherlands?"


def test_every_data_file_is_in_the_package() -> None:
    """What pyproject.toml does not list would be missing from an installed kp."""
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-data"]["kp"]
    packaged = {file for pattern in patterns for file in (ROOT / "kp").glob(pattern)}
    assert {file for file in (ROOT / "kp" / "facts" / "data").rglob("*") if file.is_file()} <= packaged


def test_user_file_relations_win_and_join_kps_own(tmp_path: Path) -> None:
    mine = '[relations.director]\ndomain = "cinema"\nquestion = "Director of {subject}?"\nparaphrases = ["{subject}: whose film?"]\n'
    book = dbpedia_book(written(tmp_path, 'definite_article = ["Alps"]\n' + mine + entry()))
    assert book.relations["director"] == RelationTemplate("director", "cinema", "Director of {subject}?", ("{subject}: whose film?",))
    assert book.question("favouriteDog", "Alps") == "Where is the Alps?"
    assert book.question("writer", "8½") == "Who wrote 8½?"
    assert len(book.relations) == len(dbpedia_book().relations) + 1
    assert dbpedia_book().question("director", "8½") == "Who directed 8½?"
    assert "favouriteDog" not in template_book().relations


def test_user_file_is_read_anew_after_a_change(tmp_path: Path) -> None:
    dbpedia_book(written(tmp_path, entry()))
    assert dbpedia_book(written(tmp_path, entry("Where lies {subject}?"))).question("favouriteDog", "Oslo") == "Where lies Oslo?"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (entry("Where is it?"), r"relation 'favouriteDog', key 'question': 'Where is it\?': must hold \{subject\} exactly once"),
        (entry("{subject} or {subject}?"), "relation 'favouriteDog', key 'question': .* exactly once"),
        (entry("Where is {subject} in {country}?"), "relation 'favouriteDog', key 'question': .*braces"),
        (entry(r"Where\nis {subject}?"), "relation 'favouriteDog', key 'question': .*line break"),
        (entry(" "), "relation 'favouriteDog', key 'question': expected text"),
        (entry(paraphrases='["Where?"]'), "relation 'favouriteDog', key 'paraphrases': .* exactly once"),
        (entry(paraphrases="[]"), "relation 'favouriteDog', key 'paraphrases': expected at least one"),
        (entry(paraphrases='"Which {subject}?"'), "relation 'favouriteDog', key 'paraphrases': expected a list"),
        (entry(paraphrases="[3]"), "relation 'favouriteDog', key 'paraphrases': expected text, found 3"),
        (entry(paraphrases='["where  is {subject}?"]'), "relation 'favouriteDog', key 'paraphrases': .*repeats the question"),
        (entry(paraphrases='["At {subject}?", "At {subject}?"]'), "relation 'favouriteDog', key 'paraphrases': .*another paraphrase"),
        (entry(more='questoin = "?"'), "relation 'favouriteDog': key 'questoin' is unknown; expected domain, question, paraphrases"),
        ('[relations.favouriteDog]\ndomain = "x"\nparaphrases = ["{subject}?"]\n', "relation 'favouriteDog': key 'question' is missing"),
        ('[relations.dog]\nquestion = "{subject}?"\nparaphrases = ["{subject}"]\n', "relation 'dog': key 'domain' is missing"),
        ('[relations."http://dbpedia.org/ontology/place"]\n', "relation 'http://dbpedia.org/ontology/place': .*local name"),
        ("[relations]\nfavouriteDog = 3\n", "relation 'favouriteDog': expected a table"),
        ("relation = 3\n", "key 'relation' is unknown; expected relations, definite_article"),
        ("", "key 'relations': expected at least one table"),
        ('definite_article = "Alps"\n' + entry(), "key 'definite_article': expected a list"),
        ("[relations.favouriteDog\n", "not valid TOML: .*line 1"),
        (entry() + entry(), "not valid TOML"),
    ],
)
def test_user_file_with_a_fault_is_refused_by_file_relation_and_key(tmp_path: Path, text: str, fault: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UserError, match=f"^facts.graph.templates: {re.escape(str(path))}: {fault}"):
        dbpedia_book(path)


def test_user_file_not_in_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(entry("Où est {subject}?").encode("latin-1"))
    with pytest.raises(UserError, match=r"mine\.toml: not UTF-8 text"):
        dbpedia_book(path)


@pytest.mark.parametrize("reader", [dbpedia_book, templates_digest])
@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_user_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, reader: object) -> None:
    assert callable(reader)
    with pytest.raises(UserError, match=f"^facts.graph.templates: {re.escape(str(tmp_path / name))}: cannot be read"):
        reader(tmp_path / name)


def test_templates_digest_follows_the_user_files_content_and_not_its_name(tmp_path: Path) -> None:
    path = written(tmp_path, entry())
    first = templates_digest(path)
    assert re.fullmatch(r"[0-9a-f]{64}", first)
    assert templates_digest() == templates_digest() != first
    assert templates_digest(path.rename(tmp_path / "renamed.toml")) == first
    assert templates_digest(written(tmp_path, entry("Where lies {subject}?"))) != first


def test_relations_of_other_graphs_are_asked_in_the_words_of_the_same_relation() -> None:
    book = graph_book()
    assert book.question("P19", "Ada Lovelace") == book.question("birthPlace", "Ada Lovelace") == "Where was Ada Lovelace born?"
    assert book.paraphrases("alumniOf", "Ada Lovelace") == dbpedia_book().paraphrases("almaMater", "Ada Lovelace")
    assert book.relations["P19"].name == "P19"


def test_same_relations_are_ours_and_each_once_per_graph() -> None:
    graphs = tomllib.loads(SAME_RELATIONS_FILE.read_text(encoding="utf-8"))
    for names in graphs.values():
        assert set(names.values()) <= set(dbpedia_book().relations)
        assert max(Counter(names.values()).values()) == 1
        assert set(names).isdisjoint(dbpedia_book().relations)
    assert len(same_relations()) == sum(map(len, graphs.values()))
    assert all(re.fullmatch(r"P[1-9][0-9]*", name) for name in graphs["wikidata"])


def test_users_template_of_a_property_wins_over_that_of_the_same_relation(tmp_path: Path) -> None:
    book = graph_book(written(tmp_path, entry("Where did {subject} come from?").replace("favouriteDog", "P19")))
    assert book.question("P19", "Ada") == "Where did Ada come from?"
    assert book.question("P20", "Ada") == "Where did Ada die?"
