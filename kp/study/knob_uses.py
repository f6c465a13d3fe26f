"""Where kp's code uses a knob: file and line, found in the syntax trees of the installed package.

A knob is used where its field is read from its section: `config.search.rank`, `spec.training.epochs`, `settings.count` of an argument
annotated with the section's class, a variable that the section was assigned to, the choice of a trial (`spec.rank`), or where its dotted
name is written as a text, as in errors. What reaches a field through other names is not found.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import kp
from kp.config import search, study
from kp.config.knobs import Knob
from kp.config.search import TrialSettings
from kp.config.section import Section
from kp.training.spec import Choice

PACKAGE = Path(kp.__file__).parent
_HOLDERS = ("config", "spec", "self", "study")
"""Names, and ends of names, of what holds sections."""
_CLASSES = {
    name: one for module in (search, study) for name, one in vars(module).items() if isinstance(one, type) and issubclass(one, Section)
}


@dataclass(frozen=True)
class KnobUse:
    """A line that uses a knob."""

    file: str
    """Relative to the folder that holds the package: `kp/training/spec.py`."""
    line: int
    code: str
    """The line itself, without blanks around it."""


def knob_uses(knob: Knob, package: Path = PACKAGE) -> tuple[KnobUse, ...]:
    """Every line of the package that uses the knob, except its declaration, in the order of files and lines."""
    found = []
    words = {knob.name.rpartition(".")[2], _choice(knob) or knob.name}
    for path in sorted(package.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if not any(word in text for word in words):
            continue
        lines, tree = text.splitlines(), ast.parse(text)
        for number in sorted(set(_lines(tree, knob))):
            if (path, number) != (knob.file, knob.line):
                found.append(KnobUse(path.relative_to(package.parent).as_posix(), number, lines[number - 1].strip()))
    return tuple(found)


def _lines(tree: ast.Module, knob: Knob) -> Iterator[int]:
    field, chosen = knob.name.rpartition(".")[2], _choice(knob)
    named = _named(tree, knob)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node.value == knob.name and "." in knob.name:
            yield node.lineno
        if isinstance(node, ast.Attribute) and node.attr in (field, chosen):
            known = isinstance(node.value, ast.Name) and _inside(node, named.get(node.value.id, ()))
            of_section = node.attr == field and (known or _is_section(node.value, knob))
            if of_section or (node.attr == chosen and _tail(node.value) == "spec"):
                yield node.lineno


def _choice(knob: Knob) -> str | None:
    """The field of a trial's choice that holds one of the knob's values: `arm` of `search.arms`."""
    field = knob.name.rpartition(".")[2]
    of_search = knob.section == "search"
    return next((name for name in Choice.__annotations__ if of_search and field in (name, f"{name}s")), None)


def _is_section(node: ast.expr, knob: Knob) -> bool:
    """Whether an expression is the knob's section, as `config.search` or `spec.settings` is."""
    if not isinstance(node, ast.Attribute):
        return not knob.section and _tail(node) == "config"
    of_trial = _tail(node.value) == "spec" and node.attr == "settings" and knob.declared_by == TrialSettings.__name__
    of_arm = _tail(node) in ("arm", "config") and knob.section == ("search.arms" if node.attr == "arm" else "")
    holder, _, section = knob.section.rpartition(".")
    return of_trial or of_arm or (node.attr == section and _tail(node.value) in (holder.rpartition(".")[2] or None, *_HOLDERS))


def _named(tree: ast.Module, knob: Knob) -> dict[str, list[tuple[int, int]]]:
    """Variables that hold the knob's section, and the lines of the functions in which they do."""
    classes = {name for name, one in _CLASSES.items() if knob.declared_by in {base.__name__ for base in one.__mro__}}
    found: dict[str, list[tuple[int, int]]] = {}
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        names = [one.arg for one in arguments if one.annotation is not None and classes & _words(one.annotation)]
        names += [name for node in ast.walk(function) if isinstance(node, ast.Assign) for name in _assigned(node, knob)]
        if knob.section == "search.arms":
            names += [node.target.id for node in ast.walk(function) if isinstance(node, ast.comprehension) and _over_arms(node)]  # type: ignore[attr-defined]
        for name in names:
            found.setdefault(name, []).append((function.lineno, function.end_lineno or function.lineno))
    return found


def _assigned(node: ast.Assign, knob: Knob) -> Iterator[str]:
    for target in node.targets:
        pairs = (
            zip(target.elts, node.value.elts, strict=False) if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple) else ()
        )
        for name, value in (*pairs, (target, node.value)):
            if isinstance(name, ast.Name) and _is_section(value, knob):
                yield name.id


def _over_arms(node: ast.comprehension) -> bool:
    return isinstance(node.target, ast.Name) and _tail(node.iter) == "arms"


def _inside(node: ast.Attribute, spans: list[tuple[int, int]] | tuple[()]) -> bool:
    return any(first <= node.lineno <= last for first, last in spans)


def _words(annotation: ast.expr) -> set[str]:
    return {node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)}


def _tail(node: ast.expr) -> str | None:
    """The last name of `a.b.c`, without an underscore before it."""
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else None
    return None if name is None else name.lstrip("_")
