"""What a study's facts come from: a table, a dump, or a vocabulary, told apart in one place.

A step is known by what goes into it, so each source has an identity that is its content's and not its name's. A dump has more than one:
what it holds is found out once, whatever is then drawn from it by which templates and names.
"""

from pathlib import Path

from kp.config.study import FactsConfig, GraphConfig
from kp.errors import UserError
from kp.facts.dump.companions import companion_digest
from kp.facts.dump.entity_names import names_digest
from kp.facts.dump.files import FIELD, is_dump
from kp.facts.tables import source_digest
from kp.facts.templates import templates_digest


def source_identity(settings: FactsConfig, field: str = FIELD) -> str:
    """Identity of the source's content.

    Raises UserError on `field`, the config field that names the source, where it cannot be read, and on `facts.graph` where it has nothing
    to say.
    """
    if is_dump(settings.source):
        return companion_digest(settings.source, field)
    if settings.graph != GraphConfig():
        raise UserError(f"it is about knowledge-graph dumps, and facts.source = '{settings.source}' is none", field="facts.graph")
    return source_digest(settings.source, field)


def drawing_identity(settings: FactsConfig) -> dict[str, str] | None:
    """Of a dump, the identities of all that facts are drawn from it by, by their field; None where the source is none."""
    if not is_dump(settings.source):
        return None
    graph = settings.graph
    drawing = names_digest(graph) | {"templates": templates_digest(Path(graph.templates) if graph.templates else None)}
    if graph.ontology:
        drawing["ontology"] = companion_digest(graph.ontology, "facts.graph.ontology")
    return drawing
