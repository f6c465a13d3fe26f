"""The wordings of relations: for the built-in facts, for DBpedia's ontology, and for relations of other graphs that mean the same.

Questions and paraphrases are rendered from templates when the facts are loaded, so the shipped file has each fact once, and a wording can
be corrected without changing the facts. A user can add relations, or reword kp's, with a file of the same form. Such a file is checked when
it is read, because a template without its subject would ask the same question for every fact of a relation.
"""

import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from types import MappingProxyType

from kp.errors import UserError
from kp.facts.validation import has_control_characters

PARAPHRASES = 10
RELATIONS_FILE = files("kp.facts") / "data" / "relations.toml"
SAME_RELATIONS_FILE = files("kp.facts") / "data" / "same_relations.toml"
DBPEDIA_FOLDER = files("kp.facts") / "data" / "dbpedia"
SUBJECT, OBJECT = "{subject}", "{object}"
FIELD = "facts.graph.templates"  # named in messages
_FILE_KEYS = ("relations", "definite_article")
_RELATION_KEYS = ("domain", "question", "paraphrases")
_OPTIONAL_KEYS = ("reversed",)
_LOCAL_NAME = re.compile(r"[^\s/#:<>]+")


@dataclass(frozen=True)
class RelationTemplate:
    """How one relation is asked; every template contains `{subject}`, the reversed one `{object}`."""

    name: str
    domain: str
    question: str
    paraphrases: tuple[str, ...]
    reversed: str | None = None  # asks for the subject


@dataclass(frozen=True)
class TemplateBook:
    """Relations by name, and the subjects that take "the" inside a sentence."""

    relations: Mapping[str, RelationTemplate]
    definite_article: frozenset[str]

    def question(self, relation: str, subject: str) -> str:
        """The question about `subject`; KeyError if the book has no such relation."""
        return self._render(self.relations[relation].question, subject)

    def paraphrases(self, relation: str, subject: str) -> list[str]:
        """The other wordings of the same question (ten for kp's relations), always in the same order."""
        return [self._render(template, subject) for template in self.relations[relation].paraphrases]

    def reversed_question(self, relation: str, object_: str) -> str | None:
        """The question that asks for the subject; None if the relation has no such template."""
        template = self.relations[relation].reversed
        return None if template is None else self._render(template, object_, OBJECT)

    def _render(self, template: str, name: str, place: str = SUBJECT) -> str:
        phrase = f"the {name}" if name in self.definite_article else name
        return template.replace(place, phrase)

    def _under(self, other: "TemplateBook") -> "TemplateBook":
        return TemplateBook(MappingProxyType({**self.relations, **other.relations}), self.definite_article | other.definite_article)


@dataclass(frozen=True)
class _Place:
    """A position in a file of templates, and the config field of the file, if it is not one of kp's own."""

    where: str
    field: str | None = None

    def within(self, part: str) -> "_Place":
        return _Place(f"{self.where}{part}", self.field)

    def fault(self, message: str) -> UserError:
        return UserError(f"{self.where}: {message}", field=self.field)


@cache
def template_book() -> TemplateBook:
    """The built-in facts' relations: kp/facts/data/relations.toml, read once per process."""
    return _parse(RELATIONS_FILE.read_bytes(), _Place(RELATIONS_FILE.name))


def dbpedia_book(extra: Path | None = None) -> TemplateBook:
    """kp's templates for DBpedia relations by local name ("birthPlace"), and those of the file `extra`, which take precedence.

    Subjects take "the" as in the built-in facts, and if `extra` lists them under `definite_article`. Raises UserError naming the file, the
    relation and the key if `extra` cannot be read or has another form; it is read again on each call.
    """
    if extra is None:
        return _own_dbpedia_book()
    return _own_dbpedia_book()._under(_parse(_bytes(extra), _Place(str(extra), FIELD)))


def graph_book(extra: Path | None = None) -> TemplateBook:
    """dbpedia_book(extra), and kp's templates under the names that Wikidata ("P19") and schema.org give to the same relations.

    The templates of `extra` win here too. Raises UserError as dbpedia_book does.
    """
    book = dbpedia_book(extra)
    same = {name: _renamed(_own_dbpedia_book().relations[ours], name) for name, ours in same_relations().items()}
    return TemplateBook(MappingProxyType(same), frozenset())._under(book)


@cache
def same_relations() -> dict[str, str]:
    """The name that DBpedia's ontology has for a relation of another graph, by its local name there."""
    graphs = tomllib.loads(SAME_RELATIONS_FILE.read_text(encoding="utf-8"))
    return {name: ours for names in graphs.values() for name, ours in names.items()}


def _renamed(relation: RelationTemplate, name: str) -> RelationTemplate:
    return replace(relation, name=name)


def templates_digest(extra: Path | None = None) -> str:
    """SHA-256 over the names and contents of the files that graph_book(extra) reads, for a step's identity.

    The name of `extra` does not count, only its content. Raises UserError if it cannot be read.
    """
    contents = [(file.name, file.read_bytes()) for file in (RELATIONS_FILE, SAME_RELATIONS_FILE, *_dbpedia_files())]
    if extra is not None:
        contents.append(("", _bytes(extra)))
    digest = hashlib.sha256()
    for name, content in contents:
        digest.update(hashlib.sha256(name.encode("utf-8")).digest())
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


@cache
def _own_dbpedia_book() -> TemplateBook:
    book = TemplateBook(MappingProxyType({}), template_book().definite_article)
    for file in _dbpedia_files():
        themed = _parse(file.read_bytes(), _Place(file.name))
        twice = themed.relations.keys() & book.relations.keys()
        assert not twice, f"{file.name}: in another file of the folder too: {sorted(twice)}"
        book = book._under(themed)
    return book


def _dbpedia_files() -> list[Traversable]:
    return sorted((file for file in DBPEDIA_FOLDER.iterdir() if file.name.endswith(".toml")), key=lambda file: file.name)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}", field=FIELD) from error


def _parse(content: bytes, origin: _Place) -> TemplateBook:
    """The book in one file; UserError naming the file, the relation and the key if the file has another form."""
    try:
        document = tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise origin.fault(f"not UTF-8 text: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise origin.fault(f"not valid TOML: {error}") from error
    _check_keys(document, _FILE_KEYS, origin)
    entries = document.get("relations")
    if not isinstance(entries, dict) or not entries:
        raise origin.fault("key 'relations': expected at least one table [relations.NAME]")
    article = _texts(document.get("definite_article", []), origin.within(": key 'definite_article'"))
    return TemplateBook(MappingProxyType({name: _relation(name, entry, origin) for name, entry in entries.items()}), frozenset(article))


def _relation(name: str, entry: object, origin: _Place) -> RelationTemplate:
    at = origin.within(f": relation '{name}'")
    if not _LOCAL_NAME.fullmatch(name):
        raise at.fault("expected a relation's local name, such as birthPlace")
    if not isinstance(entry, dict):
        raise at.fault(f"expected a table [relations.{name}] with {', '.join(_RELATION_KEYS)}")
    _check_keys(entry, (*_RELATION_KEYS, *_OPTIONAL_KEYS), at)
    missing = [key for key in _RELATION_KEYS if key not in entry]
    if missing:
        raise at.fault(f"key '{missing[0]}' is missing")
    domain = _text(entry["domain"], at.within(", key 'domain'"))
    question = _template(entry["question"], at.within(", key 'question'"))
    paraphrases = _paraphrases(entry["paraphrases"], question, at.within(", key 'paraphrases'"))
    reversed_ = _template(entry["reversed"], at.within(", key 'reversed'"), OBJECT) if "reversed" in entry else None
    return RelationTemplate(name, domain, question, paraphrases, reversed_)


def _paraphrases(value: object, question: str, at: _Place) -> tuple[str, ...]:
    """At least one wording, without duplicates and different from the question, ignoring case and blanks."""
    paraphrases = tuple(_template(text, at) for text in _texts(value, at))
    if not paraphrases:
        raise at.fault("expected at least one")
    seen = {_folded(question)}
    for text in paraphrases:
        if _folded(text) in seen:
            raise at.fault(f"{text!r} repeats the question or another paraphrase")
        seen.add(_folded(text))
    return paraphrases


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _template(value: object, at: _Place, place: str = SUBJECT) -> str:
    text = _text(value, at)
    if text.count(place) != 1:
        raise at.fault(f"{text!r}: must hold {place} exactly once")
    if re.search("[{}]", text.replace(place, "")):
        raise at.fault(f"{text!r}: nothing but {place} may stand in braces")
    if has_control_characters(text):
        raise at.fault(f"{text!r}: holds a line break or another control character")
    return text


def _text(value: object, at: _Place) -> str:
    if not isinstance(value, str) or not value.strip():
        raise at.fault(f"expected text, found {value!r}")
    return value


def _texts(value: object, at: _Place) -> list[str]:
    if not isinstance(value, list):
        raise at.fault(f"expected a list of texts, found {value!r}")
    return [_text(item, at) for item in value]


def _check_keys(table: Mapping[str, object], known: tuple[str, ...], at: _Place) -> None:
    unknown = sorted(table.keys() - set(known))
    if unknown:
        raise at.fault(f"key '{unknown[0]}' is unknown; expected {', '.join(known)}")
