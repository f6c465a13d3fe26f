"""The docstrings below the fields of a class, which say what each field means, read from its source."""

import ast
import inspect
import textwrap


def field_docstrings(options: type) -> dict[str, str]:
    """The docstring below each field of a class and of the classes that it extends; a field without one is left out."""
    found: dict[str, str] = {}
    for kind in reversed(options.__mro__):
        if kind.__module__.partition(".")[0] == options.__module__.partition(".")[0]:
            found |= _own_docstrings(kind)
    return found


def _own_docstrings(options: type) -> dict[str, str]:
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(options))).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for field, below in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            assert isinstance(field.target, ast.Name)
            found[field.target.id] = str(below.value.value)
    return found
