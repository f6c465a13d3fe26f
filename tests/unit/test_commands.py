"""What the command line takes in which order, and the code with which `kp` ends."""

import itertools
import re
from pathlib import Path

import pytest

import kp.commands.command_line
from kp.cli import main
from kp.commands.command_line import overrides_together
from tests.conftest import REPOSITORY, SMOKE, assert_refused, run_kp

WORDS = (["study.toml"], ["facts.count=4"], ["model.name=a=b"], ["--results", "runs"], ["--dry-run"])
ALWAYS = ["study", "study.toml"]


@pytest.mark.parametrize("order", list(itertools.permutations(WORDS)), ids=lambda order: " ".join(word[-1] for word in order))
def test_overrides_together_any_order_is_study_overrides_options(order: tuple[list[str], ...]) -> None:
    together = overrides_together(["study", *itertools.chain(*order)])
    overrides = [word for [*_, word] in order if "=" in word]
    options = [words for words in order if words[0].startswith("--")]
    assert together == [*ALWAYS, *overrides, *itertools.chain(*options)]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--results", "k=v", "s.toml"], ["s.toml", "--results", "k=v"]),
        (["--results=k=v", "s.toml", "seed=1"], ["s.toml", "seed=1", "--results=k=v"]),
        (["--dry-run", "seed=1", "s.toml"], ["s.toml", "seed=1", "--dry-run"]),
        (["--dry_run", "s.toml"], ["s.toml", "--dry_run"]),
        (["seed=1", "k/v=w/s.toml"], ["k/v=w/s.toml", "seed=1"]),
        (["s.toml", "--results"], ["s.toml", "--results"]),
        ([], []),
    ],
)
def test_overrides_together_keeps_options_with_their_values(words: list[str], expected: list[str]) -> None:
    assert overrides_together(["search", *words]) == ["search", *expected]


@pytest.mark.parametrize(
    ("command", "option"),
    [("report", "--to"), ("report", "--tables"), ("trials", "--watch"), ("trials", "--export"), ("facts", "--results")],
)
def test_overrides_together_knows_the_options_of_every_command(command: str, option: str) -> None:
    assert overrides_together([command, option, "7", "s.toml", "seed=1"]) == [command, "s.toml", "seed=1", option, "7"]


def test_overrides_together_leaves_benchmarks_alone() -> None:
    words = ["bench", "train", "--json", "a.json"]
    assert overrides_together(words) == words


@pytest.mark.parametrize("script", sorted(path.stem for path in (REPOSITORY / "ray_jobs").glob("*.py")))
def test_override_after_the_options_of_a_job_is_read(script: str, tmp_path: Path) -> None:
    done = run_kp(script, "--results", tmp_path, SMOKE, "facts.cuont=4", "--dry-run", "facts.relations=[capital]")
    assert_refused(done, ["facts.cuont", "did you mean facts.count?"])


def test_dry_run_with_overrides_on_both_sides_of_the_options_uses_both(tmp_path: Path) -> None:
    done = run_kp("study", "name=on_both_sides", SMOKE, "--dry-run", "search.rank=3", "--results", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "on_both_sides" in done.stdout
    assert re.search(r"rank 3\b|\br3\b|rank=3", done.stdout), done.stdout


@pytest.mark.parametrize("code", [0, 1, 2])
def test_exit_code_is_that_of_the_command(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kp.commands.command_line, "run", lambda arguments: code)
    with pytest.raises(SystemExit) as end:
        main([])
    assert end.value.code == code


@pytest.mark.parametrize(
    "arguments", [[], ["stduy"], ["study"], ["study", "s.toml", "--reslts", "runs"], ["trials", "s.toml", "--watch", "x"]]
)
def test_command_line_that_cannot_be_read_ends_with_2(arguments: list[str]) -> None:
    assert run_kp(*arguments).returncode == 2


def test_help_lists_every_exit_code() -> None:
    done = run_kp("--help")
    assert done.returncode == 0
    said = " ".join(done.stdout.split())
    for code in ("0 done", "1 kp has a bug", "2 bad input", "3 all the rest is done", "130 interrupted", "143 ended by SIGTERM"):
        assert code in said
