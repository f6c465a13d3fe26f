"""Where results lie is the business of kp.store alone: with another layout a study works as before."""

import ast
from pathlib import Path

import pytest

from kp.config.study import load_study
from kp.store.steps import Step, Store
from kp.study.facts_description import describe_study_facts
from tests.conftest import REPOSITORY, SMOKE

FOLDERS = {"store", "work", "damaged"}  # of the results root


def test_study_in_a_store_of_another_layout_finds_all_that_its_steps_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, elsewhere = tmp_path / "runs", tmp_path / "elsewhere"
    monkeypatch.setattr(Store, "_folder", lambda self, step: elsewhere / str(step))
    assert describe_study_facts(load_study(SMOKE, []), root) == 0
    page = root / "smoke" / "facts" / "facts.md"
    assert "12" in page.read_text(encoding="utf-8")
    assert page.resolve().is_relative_to(elsewhere)
    assert [path.name for path in root.iterdir()] == ["smoke"]


def test_fetch_may_bring_the_files_of_a_step_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step, brought = Step("facts", {}), tmp_path / "brought"
    Store(tmp_path / "far").commit(step, lambda folder: (folder / "data.txt").write_text("content"), seconds=1.0)
    far, near = Store(tmp_path / "far"), Store(tmp_path / "near")
    monkeypatch.setattr(near, "fetch", lambda wanted: far.fetch(wanted).rename(brought))
    assert near.file(step, "data.txt").read_text() == "content"


def test_modules_outside_the_store_build_no_path_into_the_results_root() -> None:
    modules = [path for path in (REPOSITORY / "kp").rglob("*.py") if path.parent.name != "store"]
    assert len(modules) > 100
    assert [place for path in modules for place in joined_folders(path)] == []


def joined_folders(path: Path) -> list[str]:
    """Where a module writes `something / "store"` or the like."""
    joined = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.BinOp)]
    return [
        f"{path.relative_to(REPOSITORY)}:{node.lineno}"
        for node in joined
        if isinstance(node.op, ast.Div) and isinstance(node.right, ast.Constant) and node.right.value in FOLDERS
    ]
