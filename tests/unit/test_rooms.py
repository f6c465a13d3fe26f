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
        said = [ast.unparse(node) for node in left]
        assert not said or (init.parent.name == "kp" and len(said) == 1 and said[0].startswith("__version__ = ")), f"{init}: {said}"


@pytest.mark.parametrize("folder", ["kp", "ray_jobs", "tests", "scripts"])
def test_files_stay_short(folder: str) -> None:
    lengths = {path: path.read_text(encoding="utf-8").count("\n") for path in (REPOSITORY / folder).rglob("*.py")}
    assert lengths
    assert {path: lines for path, lines in lengths.items() if lines > MOST_LINES} == {}


def test_functions_stay_short() -> None:
    long = {f"{module}:{name}": lines for module in MODULES for name, lines in functions(module) if lines > MOST_FUNCTION_LINES}
    assert long == {}
