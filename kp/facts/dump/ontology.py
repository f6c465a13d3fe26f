"""The class of a relation's subjects, and the class of its objects.

An ontology states them as rdfs:domain and rdfs:range. kp identifies relations and classes by local name only, so a name that two
vocabularies use differently could give the class of the wrong relation. DBpedia's statements win; if other vocabularies disagree, a
relation has no class.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kp.errors import UserError
from kp.facts.dump.companions import triples_of
from kp.facts.dump.entity_names import local_name

FIELD = "facts.graph.ontology"
RDFS_DOMAIN = "http://www.w3.org/2000/01/rdf-schema#domain"
RDFS_RANGE = "http://www.w3.org/2000/01/rdf-schema#range"
DBPEDIA = "http://dbpedia.org/ontology/"


@dataclass(frozen=True)
class Ontology:
    """Classes by relation, both by local name."""

    domains: Mapping[str, str]
    ranges: Mapping[str, str]

    def domain(self, relation: str) -> str | None:
        """The class of the relation's subjects, or None if the ontology does not determine it."""
        return self.domains.get(relation)

    def range(self, relation: str) -> str | None:
        """The class (or datatype) of the relation's objects, or None if the ontology does not determine it."""
        return self.ranges.get(relation)


def load_ontology(path: str) -> Ontology:
    """Read an ontology in N-Triples or Turtle, plain, .bz2 or .gz; UserError naming the field if it states no domain at all."""
    stated: dict[str, list[tuple[str, str]]] = {RDFS_DOMAIN: [], RDFS_RANGE: []}
    for frame in triples_of(path, stated.keys(), FIELD):
        for relation, about, class_ in frame.select("relation", "subject", "object").iter_rows():
            stated[relation].append((about, class_))
    if not stated[RDFS_DOMAIN]:
        raise UserError(f"'{path}' has no rdfs:domain in any line; expected an ontology in N-Triples", field=FIELD)
    return Ontology(_classes(stated[RDFS_DOMAIN]), _classes(stated[RDFS_RANGE]))


def _classes(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Class by relation from (relation IRI, class IRI): DBpedia's relations first, then DBpedia's classes, then where all agree."""
    by_name: dict[str, list[tuple[str, str]]] = {}
    for relation, class_ in pairs:
        name = relation.removeprefix(DBPEDIA) if relation.startswith(DBPEDIA) else local_name(relation)
        by_name.setdefault(name, []).append((relation, class_))
    chosen = {name: _settled(statements) for name, statements in sorted(by_name.items())}
    return {name: class_ for name, class_ in chosen.items() if class_}


def _settled(statements: list[tuple[str, str]]) -> str | None:
    own = [statement for statement in statements if statement[0].startswith(DBPEDIA)] or statements
    classes = {class_ for _, class_ in own}
    preferred = {class_ for class_ in classes if class_.startswith(DBPEDIA)} or classes
    names = {local_name(class_) for class_ in preferred}
    return names.pop() if len(names) == 1 else None
