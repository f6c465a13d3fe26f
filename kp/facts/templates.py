"""The wordings of the built-in relations.

Questions and paraphrases are rendered from templates when the facts are loaded, so the shipped file holds each fact once and a wording
can be mended without touching the facts.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType

PARAPHRASES = 10
RELATIONS_FILE = files("kp.facts") / "data" / "relations.toml"


@dataclass(frozen=True)
class RelationTemplate:
    """How one relation is asked; every template holds `{subject}`."""

    name: str
    domain: str
    question: str
    paraphrases: tuple[str, ...]


@dataclass(frozen=True)
class TemplateBook:
    """All built-in relations by name, and the subjects that take "the" inside a sentence."""

    relations: Mapping[str, RelationTemplate]
    definite_article: frozenset[str]

    def question(self, relation: str, subject: str) -> str:
        """The question about `subject`; KeyError where the relation is not built in."""
        return self._render(self.relations[relation].question, subject)

    def paraphrases(self, relation: str, subject: str) -> list[str]:
        """Ten other wordings of the same question, always in the same order."""
        return [self._render(template, subject) for template in self.relations[relation].paraphrases]

    def _render(self, template: str, subject: str) -> str:
        phrase = f"the {subject}" if subject in self.definite_article else subject
        return template.replace("{subject}", phrase)


@cache
def template_book() -> TemplateBook:
    """Read kp/facts/data/relations.toml, once a process."""
    document = tomllib.loads(RELATIONS_FILE.read_text(encoding="utf-8"))
    relations = {
        name: RelationTemplate(name, entry["domain"], entry["question"], tuple(entry["paraphrases"]))
        for name, entry in document["relations"].items()
    }
    return TemplateBook(MappingProxyType(relations), frozenset(document["definite_article"]))
