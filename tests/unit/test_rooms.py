"""The house as a whole: what no import contract says of it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
MODULES = sorted((REPOSITORY / "kp").rglob("*.py"))
MOST_LINES, MOST_FUNCTION_LINES = 400, 60


def tree_of(module: Path) -> ast.Module:
    return ast.parse(module.read_text(encoding="utf-8"))


def functions(module: Path) -> Iterator[tuple[str, int]]:
    """Every function's name and how many lines it takes."""
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - node.lineno + 1


def test_package_inits_hold_nothing_but_what_they_say_of_themselves() -> None:
    # A bare GPU box and vLLM's environment import parts of kp without the libraries that other parts need.
    for init in (REPOSITORY / "kp").rglob("__init__.py"):
        left = [node for node in tree_of(init).body if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))]
        if init.parent != REPOSITORY / "kp":
            assert not left, f"{init}: {[ast.unparse(node) for node in left]}"


def test_kp_itself_has_a_version_and_two_functions_that_import_when_they_are_called() -> None:
    body = tree_of(REPOSITORY / "kp" / "__init__.py").body
    imported = [node.module for node in body if isinstance(node, ast.ImportFrom)]
    assert set(imported) == {"collections.abc", "pathlib", "typing"}
    assert [node.name for node in body if isinstance(node, ast.FunctionDef)] == ["load", "run"]
    assert [ast.unparse(node) for node in body if isinstance(node, ast.If)] == [
        "if TYPE_CHECKING:\n    from kp.study.loaded import LoadedStudy"
    ]


@pytest.mark.parametrize("folder", ["kp", "ray_jobs", "tests", "scripts"])
def test_files_stay_short(folder: str) -> None:
    lengths = {path: path.read_text(encoding="utf-8").count("\n") for path in (REPOSITORY / folder).rglob("*.py")}
    assert lengths
    assert {path: lines for path, lines in lengths.items() if lines > MOST_LINES} == {}


def test_functions_stay_short() -> None:
    long = {f"{module}:{name}": lines for module in MODULES for name, lines in functions(module) if lines > MOST_FUNCTION_LINES}
    assert long == {}
