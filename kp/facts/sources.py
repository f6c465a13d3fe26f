"""The source of a study's facts: a table, a dump, or synthetic facts, distinguished in one place.

A step is identified by its inputs, so each source has an identity of its content and not of its name. A dump has more than one: it is read
once, with its own identity, whatever is then drawn from it with which templates and names.
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

    Raises UserError for `field`, the config field of the source, if it cannot be read, and for `facts.graph` if that does not apply.
    """
    if is_dump(settings.source):
        return companion_digest(settings.source, field)
    if settings.graph != GraphConfig():
        raise UserError(f"it is about knowledge-graph dumps, and facts.source = '{settings.source}' is none", field="facts.graph")
    return source_digest(settings.source, field)


def drawing_identity(settings: FactsConfig) -> dict[str, str] | None:
    """The identities of everything with which facts are drawn from a dump, by field; None if the source is not a dump."""
    if not is_dump(settings.source):
        return None
    graph = settings.graph
    drawing = names_digest(graph) | {"templates": templates_digest(Path(graph.templates) if graph.templates else None)}
    if graph.ontology:
        drawing["ontology"] = companion_digest(graph.ontology, "facts.graph.ontology")
    return drawing
