"""What kind of thing a relation is about, and what kind of thing answers it.

An ontology states both as rdfs:domain and rdfs:range. kp knows relations and classes by local name alone, so a name that two vocabularies
use differently would say something of the wrong relation: DBpedia's own statements win, and among others a name they disagree on has none.
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
        """The class that the relation's subjects belong to, or None where the ontology does not settle it."""
        return self.domains.get(relation)

    def range(self, relation: str) -> str | None:
        """The class (or datatype) that the relation's objects belong to, or None where the ontology does not settle it."""
        return self.ranges.get(relation)


def load_ontology(path: str) -> Ontology:
    """Read an ontology in N-Triples or Turtle lines, plain, .bz2 or .gz; UserError naming the field where it states no domain at all."""
    stated: dict[str, list[tuple[str, str]]] = {RDFS_DOMAIN: [], RDFS_RANGE: []}
    for frame in triples_of(path, stated.keys(), FIELD):
        for relation, about, class_ in frame.select("relation", "subject", "object").iter_rows():
            stated[relation].append((about, class_))
    if not stated[RDFS_DOMAIN]:
        raise UserError(f"'{path}' has no rdfs:domain in a line of its own; expected an ontology in N-Triples", field=FIELD)
    return Ontology(_classes(stated[RDFS_DOMAIN]), _classes(stated[RDFS_RANGE]))


def _classes(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Class by relation from (relation IRI, class IRI): by DBpedia's relations first, then by DBpedia's classes, then where all agree."""
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
