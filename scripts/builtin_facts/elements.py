"""Chemical elements out of mendeleev's SQLite file.

Discoverers and years are left alone: that source has slips in them. Lighter elements count as better known, for want of a measure.
"""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from builtin_facts.sources import curation, folder_of
from builtin_facts.triples import Triple

QUERY = "SELECT atomic_number, name, symbol, period, group_id FROM elements ORDER BY atomic_number"


@dataclass(frozen=True)
class Element:
    """One row of the periodic table; the f-block has no group."""

    number: int
    name: str
    symbol: str
    period: int
    group: int | None


def triples() -> dict[str, list[Triple]]:
    """Triples by relation."""
    elements = list(_elements())
    grouped = [e for e in elements if e.group and e.name not in curation()["no_group"]["names"]]
    return {
        "symbol_of_element": [_triple("symbol_of_element", e.name.lower(), e.symbol, e) for e in elements],
        "element_of_symbol": [_triple("element_of_symbol", e.symbol, e.name.lower(), e, _aliases(e)) for e in elements],
        "atomic_number_of_element": [_triple("atomic_number_of_element", e.name.lower(), str(e.number), e) for e in elements],
        "element_of_atomic_number": [_triple("element_of_atomic_number", str(e.number), e.name.lower(), e, _aliases(e)) for e in elements],
        "group_of_element": [_triple("group_of_element", e.name.lower(), str(e.group), e) for e in grouped],
        "period_of_element": [_triple("period_of_element", e.name.lower(), str(e.period), e) for e in elements],
    }


def _elements() -> Iterator[Element]:
    connection = sqlite3.connect(f"file:{folder_of('mendeleev') / 'elements.db'}?mode=ro", uri=True)
    try:
        yield from (Element(*row) for row in connection.execute(QUERY))
    finally:
        connection.close()


def _aliases(element: Element) -> tuple[str, ...]:
    return tuple(name.lower() for name in curation()["element_aliases"].get(element.name, []))


def _triple(relation: str, subject: str, object: str, element: Element, aliases: tuple[str, ...] = ()) -> Triple:
    return Triple(relation, subject, object, aliases, float(-element.number))
