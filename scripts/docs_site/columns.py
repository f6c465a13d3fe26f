"""What the columns of a table mean: the comments next to the fields of its schema in the code.

Comments are the one place where a column is explained, so they are read from the source: that of the field, else that of the schema whose
fields this one takes over, else the knob's docstring where the column is a knob, else what kp.schema says of columns that many tables have.
"""

import ast
import importlib
import io
import tokenize
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pyarrow as pa

from kp.config.knobs import all_knobs
from kp.schema import COLUMNS

MODULES = (
    "kp.schema",
    "kp.metrics.result_schema",
    "kp.metrics.inspection_schema",
    "kp.facts.schema",
    "kp.facts.dump.schema",
    "kp.training.spec",
    "kp.packing.fact_tables",
)
"""The modules that declare tables."""
KNOB_SECTIONS = ("search", "search.arms", "training")


@dataclass(frozen=True)
class Declared:
    """A schema as it is written: its name, its module, the comment above it, its own comments by column, the schemas that it takes over."""

    name: str
    module: str
    schema: pa.Schema
    above: str
    comments: dict[str, str] = field(default_factory=dict)
    bases: tuple[str, ...] = ()


@cache
def declared_tables() -> tuple[Declared, ...]:
    """Every schema at the top of the modules of tables, in their order."""
    return tuple(found for module in MODULES for found in _of_module(module))


def declared(schema: pa.Schema) -> Declared:
    """The declaration of a schema; raises LookupError for one that is declared elsewhere."""
    for found in declared_tables():
        if found.schema is schema:
            return found
    raise LookupError(f"no module of {MODULES} declares the table with the columns {', '.join(schema.names)}")


def meaning(table: Declared, column: str) -> str:
    """What a column means; "" if nothing says so."""
    if found := table.comments.get(column):
        return found
    named = {one.name: one for one in declared_tables()}
    for base in table.bases:
        if base in named and column in named[base].schema.names and (found := meaning(named[base], column)):
            return found
    return _of_knob(table, column) or COLUMNS.get(column, "")


def _of_knob(table: Declared, column: str) -> str:
    if "KNOB_COLUMNS" not in table.bases:
        return ""
    knobs = all_knobs()
    return next((knobs[name].meaning for section in KNOB_SECTIONS if (name := f"{section}.{column}") in knobs), "")


def _of_module(name: str) -> list[Declared]:
    module = importlib.import_module(name)
    assert module.__file__ is not None
    text = Path(module.__file__).read_text(encoding="utf-8")
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
    }
    tree = ast.parse(text)
    found = []
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            schema = getattr(module, node.targets[0].id)
            if isinstance(schema, pa.Schema):
                found.append(Declared(node.targets[0].id, name, schema, _above(node, text.splitlines()), *_columns(node, comments)))
    return found


def _above(node: ast.stmt, lines: list[str]) -> str:
    """The comment lines right above a statement, as one paragraph."""
    first = node.lineno - 1
    while first and lines[first - 1].startswith("#"):
        first -= 1
    return " ".join(line.lstrip("# ") for line in lines[first : node.lineno - 1])


def _columns(node: ast.Assign, comments: dict[int, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """The comments by column, and the names of what the schema takes over."""
    own: dict[str, str] = {}
    bases: list[str] = []
    for part in ast.walk(node.value):
        if isinstance(part, ast.Call) and ast.unparse(part.func) == "pa.field" and isinstance(part.args[0], ast.Constant):
            assert part.end_lineno is not None
            said = [comments[line] for line in range(part.lineno, part.end_lineno + 1) if line in comments]
            if said:
                own[str(part.args[0].value)] = " ".join(said)
        if isinstance(part, ast.Starred | ast.comprehension):
            bases += [name.id for name in ast.walk(part) if isinstance(name, ast.Name) and name.id.isupper()]
    return own, tuple(bases)
