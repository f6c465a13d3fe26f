"""Where the fields of a class are written and what the docstrings below them say, read from its source."""

import ast
import inspect
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Declaration:
    """Where a field or class is written, and its docstring as one paragraph; "" if it has none."""

    owner: str
    text: str
    file: Path
    line: int


def declarations(kind: type) -> dict[str, Declaration]:
    """The declaration of every field, its own class's before those of the classes of the same package that it extends."""
    found: dict[str, Declaration] = {}
    for owner in kind.__mro__:
        if owner.__module__.partition(".")[0] == kind.__module__.partition(".")[0]:
            for name, declared in _own(owner).items():
                found.setdefault(name, declared)
    return found


def declaration_of(owner: type) -> Declaration:
    """The declaration of the class itself."""
    file, tree = _written(owner)
    return Declaration(owner.__name__, _text(tree.body[0]), file, tree.lineno)


def field_docstrings(kind: type) -> dict[str, str]:
    """The docstring below each field; a field without one is left out."""
    return {name: declared.text for name, declared in declarations(kind).items() if declared.text}


@cache
def _own(owner: type) -> dict[str, Declaration]:
    file, tree = _written(owner)
    found = {}
    for place, node in enumerate(tree.body):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            below = tree.body[place + 1] if place + 1 < len(tree.body) else None
            found[node.target.id] = Declaration(owner.__name__, _text(below), file, node.lineno)
    return found


@cache
def _written(owner: type) -> tuple[Path, ast.ClassDef]:
    file = Path(inspect.getfile(owner))
    tree = _parsed(file)
    return file, next(node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == owner.__name__)


@cache
def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _text(node: ast.stmt | None) -> str:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return " ".join(node.value.value.split())
    return ""
