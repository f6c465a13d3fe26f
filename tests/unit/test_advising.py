"""`kp plan` as a command: what it writes, what it proposes, and what it refuses."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from kp.advice.experience import shipped
from kp.study.advising import experience_of
from tests.conftest import REPOSITORY, assert_refused, run_kp

QUICKSTART = REPOSITORY / "results" / "quickstart"


def test_shipped_experience_is_what_its_script_makes_from_results() -> None:
    script = REPOSITORY / "scripts" / "make_shipped_experience.py"
    spec = importlib.util.spec_from_file_location("make_shipped_experience", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.shipped_text(REPOSITORY / "results") == module.FILE.read_text(encoding="utf-8")


def test_plan_writes_page_picture_and_a_study_that_a_dry_run_accepts(tmp_path: Path) -> None:
    to = tmp_path / "planned"
    done = run_kp("plan", "--facts", "20", "--to", to)
    assert done.returncode == 0, done.stderr
    assert (to / "plan.txt").read_text(encoding="utf-8") in done.stdout
    assert (to / "figures" / "packed_by_rank.png").stat().st_size > 10_000
    assert len((to / "experience.csv").read_text(encoding="utf-8").splitlines()) == len(shipped()) + 1
    tried = run_kp("study", to / "next.toml", "--dry-run", "--results", tmp_path / "runs")
    assert tried.returncode == 0, tried.stderr
    assert "4 trials" in tried.stdout


def test_results_that_are_given_are_read_and_count_once(tmp_path: Path) -> None:
    rows = experience_of(QUICKSTART)
    assert len(rows) == 4
    done = run_kp("plan", "--facts", "20", "--next", "0", "--results", QUICKSTART, "--to", tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{len(shipped())} trials of 4 studies" in done.stdout.replace("\n", " ")
    assert not (tmp_path / "next.toml").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--facts", "0"], ["--facts: 0: at least one fact"]),
        (["--facts", "9", "--tolerance", "1"], ["--tolerance: 1: a share"]),
        (["--facts", "9", "--tolerance", "nan"], ["--tolerance: nan: a share"]),
        (["--facts", "9", "--rank", "0"], ["--rank: ranks are"]),
        (["--facts", "9", "--next", "17"], ["--next: 17: 0 for none"]),
        (["--facts", "9", "--next", "-1"], ["--next: -1: 0 for none"]),
        (["--facts", "9", "--model", "me/unknown"], ["--model-parameters: the size of me/unknown is not known"]),
        (["--facts", "9", "--model-parameters", "0"], ["--model-parameters: 0: a model has"]),
        (["--facts", "9", "--results", "/nonexistent/runs"], ["--results: /nonexistent/runs: there is no such folder"]),
    ],
)
def test_plan_of_bad_input_is_one_clear_line(words: list[str], expected: list[str], tmp_path: Path) -> None:
    assert_refused(run_kp("plan", *words, "--to", tmp_path / "planned"), expected)
    assert not (tmp_path / "planned").exists()


def test_results_without_trials_are_refused(tmp_path: Path) -> None:
    assert_refused(run_kp("plan", "--facts", "9", "--results", tmp_path, "--to", tmp_path / "p"), ["no finished trials", str(tmp_path)])


def test_results_of_an_older_format_are_refused_with_the_file(tmp_path: Path) -> None:
    shutil.copytree(QUICKSTART, tmp_path / "old")
    context = tmp_path / "old" / "context.json"
    fields = json.loads(context.read_text(encoding="utf-8"))
    fields.pop("hardware")
    context.write_text(json.dumps(fields), encoding="utf-8")
    done = run_kp("plan", "--facts", "9", "--results", tmp_path / "old", "--to", tmp_path / "p")
    assert_refused(done, ["--results", "context.json", "make the report again"])
    assert len(done.stderr.strip().splitlines()) == 1
