"""A page for every table that kp leaves in a results folder: which file it is in, and what each column means."""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from kp.packing.fact_tables import LEARNED, LOST
from kp.report import tables as report_tables
from kp.report import writing
from kp.study import facts_description, inspection
from kp.study.measurements.registry import MEASUREMENTS
from kp.study.registry import STAGES
from scripts.docs_site.columns import Declared, declared, meaning
from scripts.docs_site.pages import Page, cell, table

FOLDER = "reference/tables"


@dataclass(frozen=True)
class Place:
    """One file that holds a table: its path, relative to the results folder, and what writes it."""

    path: str
    writer: str


def table_places() -> Iterator[tuple[pa.Schema, Place]]:
    """Every table that stages, measurements, reports and inspections write, with its place; the registries of kp say which there are."""
    for stage in STAGES:
        for name, schema in stage.tables.items():
            yield schema, Place(f"store/{stage.name}/FINGERPRINT/{name}", f"the stage `{stage.name}`")
    for measurement in MEASUREMENTS:
        for name, schema in measurement.tables.items():
            yield schema, Place(f"store/{measurement.name}/FINGERPRINT/{name}", f"the measurement `{measurement.name}`")
    for name, schema in {**report_tables.SCHEMAS, **report_tables.OPTIONAL, **writing.MADE}.items():
        yield schema, Place(f"STUDY/report/tables/{name}.parquet", "the report")
    for command, tables in inspection.SCHEMAS.items():
        for name, schema in tables.items():
            yield schema, Place(f"STUDY/{command}/{name}.parquet", f"`kp {command}`")
    for name, schema in facts_description.SCHEMAS.items():
        yield schema, Place(f"STUDY/{facts_description.FOLDER}/{name}.parquet", "`kp facts --describe`")
    for name, schema in (("learned", LEARNED), ("lost", LOST)):
        yield schema, Place(f"STUDY-pack/{name}.parquet", "`kp pack`, into the folder that it makes")


def documented_tables() -> dict[str, tuple[Declared, list[Place]]]:
    """Every table by the name of its page, with all its places."""
    found: dict[str, tuple[Declared, list[Place]]] = {}
    for schema, place in table_places():
        about = declared(schema)
        _, places = found.setdefault(about.name.lower(), (about, []))
        if place not in places:
            places.append(place)
    return dict(sorted(found.items()))


def table_pages() -> Iterator[Page]:
    """The list of all tables, and one page for each."""
    tables = documented_tables()
    rows = [[f"[{name}]({name}.md)", str(len(about.schema)), cell(_writers(places))] for name, (about, places) in tables.items()]
    lines = [
        "# Tables",
        "Every number of kp is in a parquet file. Tables of measurements are in long form: one measured number per row. A file whose "
        "columns differ from these is refused, with the name of the first column that does.",
        table(["table", "columns", "written by"], rows),
        "`FINGERPRINT` is the identity of the step that made a file, `STUDY` the name of the study. "
        "`summary.parquet` of a report has a row for each trial; its columns follow from the study's knobs.",
    ]
    yield Page(f"{FOLDER}/index.md", "All tables", "\n\n".join(lines) + "\n")
    for name, (about, places) in tables.items():
        yield Page(f"{FOLDER}/{name}.md", name, _page(name, about, places))


def _page(name: str, about: Declared, places: list[Place]) -> str:
    rows = [[f"`{column.name}`", _type(column), cell(meaning(about, column.name))] for column in about.schema]
    lines = [f"# {name}"]
    if about.above:
        lines.append(about.above.replace("<", "&lt;"))
    lines.append(f'<div class="columns" markdown>\n\n{table(["column", "type", "meaning"], rows)}\n</div>')
    lines.append("## Where it is")
    lines.append(table(["file", "written by"], [[f"`{place.path}`", place.writer] for place in places]))
    lines.append(f"<small>declared as `{about.name}` in `{about.module}`</small>")
    return "\n\n".join(lines) + "\n"


def _type(column: pa.Field) -> str:
    kind = str(column.type).replace("list<element: ", "list<").replace("list<item: ", "list<")
    return cell(f"{kind} or null" if column.nullable else kind)


def _writers(places: list[Place]) -> str:
    return ", ".join(dict.fromkeys(place.writer for place in places))
