"""The margins file: defaults, and faults by their field."""

import tomllib
from pathlib import Path

import pytest

from kp.errors import UserError
from kp.gate.margins import Margins, least_facts, load_margins


def saved(folder: Path, text: str) -> Path:
    path = folder / "margins.toml"
    path.write_text(text)
    return path


def test_margins_without_a_file_are_the_defaults_and_print_as_a_file_that_gives_them(tmp_path: Path) -> None:
    assert load_margins(None) == Margins()
    assert load_margins(saved(tmp_path, Margins().toml())) == Margins()
    assert tomllib.loads(Margins().toml())["knowledge"] == {"margin": 0.02}


def test_margins_of_a_file_with_benchmarks_print_as_a_file_that_gives_them(tmp_path: Path) -> None:
    asked = load_margins(saved(tmp_path, "[benchmarks]\ncompletions = { questions = 200, margin = 0.04 }\n[keep]\nmost_lost = 2\n"))
    assert asked.benchmarks.completions is not None
    assert (asked.benchmarks.completions.questions, asked.keep.most_lost) == (200, 2)
    assert load_margins(saved(tmp_path, asked.toml())) == asked


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[knowledge]\nmargin = 0\n", "knowledge.margin"),
        ("[knowledge]\nmargn = 0.1\n", "knowledge.margn: unknown key"),
        ("[drift]\nmargin = 'small'\n", "drift.margin"),
        ("[benchmarks]\ncompletions = { margin = 0.1 }\n", "benchmarks.completions.questions"),
        ("[knowledge\n", "cannot be read as TOML"),
    ],
)
def test_faults_of_a_margins_file_are_told_with_file_and_field(tmp_path: Path, text: str, told: str) -> None:
    path = saved(tmp_path, text)
    with pytest.raises(UserError) as refused:
        load_margins(path)
    assert str(path) in str(refused.value)
    assert told in str(refused.value)


def test_margins_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        load_margins(tmp_path / "none.toml")


@pytest.mark.parametrize(("margin", "facts"), [(0.05, 73), (0.02, 189), (0.01, 381)])
def test_least_facts_follow_from_wilsons_limit_of_no_change(margin: float, facts: int) -> None:
    assert least_facts(margin) == facts
