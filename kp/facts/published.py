"""The categories that the authors of a data set found for its facts, as the data sets of arXiv 2502.14502 have them in `Category`.

They are compared with kp's own and decide nothing. Many tables have a column of this name that holds something else, so it counts only
where most of its cells are categories.
"""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from kp.facts.cells import stripped
from kp.schema import PUBLISHED_CATEGORIES
from kp.vocabulary import Category

COLUMN = "category"
_BY_NAME = {category.value.casefold(): category for category in Category}


def categories_of(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Category]:
    """The published category of each fact that has one, by fact_id, from its row's cells; empty if the column is about something else."""
    found = {fact_id: _category(cells.get(COLUMN)) for fact_id, cells in rows.items()}
    known = {fact_id: category for fact_id, category in found.items() if category is not None}
    return known if 2 * len(known) > len(found) else {}


def published_table(published: Mapping[str, Category], chosen: list[str]) -> pa.Table:
    """PUBLISHED_CATEGORIES of the chosen facts that have one, in their order."""
    rows = [{"fact_id": fact_id, "category": published[fact_id].value} for fact_id in chosen if fact_id in published]
    return pa.Table.from_pylist(rows, schema=PUBLISHED_CATEGORIES)


def _category(cell: Any) -> Category | None:
    return _BY_NAME.get(stripped(cell).replace(" ", "").casefold()) if isinstance(cell, str) else None
