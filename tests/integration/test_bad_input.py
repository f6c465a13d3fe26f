"""Bad input gives one clear error and exit code 2, no traceback, and nothing half-written."""

from pathlib import Path

import pytest

from tests.conftest import SMOKE, run_kp

HEADER = "subject,relation,object,question,answer\n"
GOOD = "".join(f"s{i},r,o{i},What is the thing called s{i}?,o{i}\n" for i in range(20))

BAD_STUDIES = {
    "unknown key": (["facts.colour=red"], ["facts.colour", "unknown key"]),
    "wrong type": (["training.epochs=many"], ["training.epochs"]),
    "impossible combination": (["search.unknown=[50]"], ["search.unknown", "facts.count"]),
    "no such relation": (['facts.relations=["capital_of_planet"]'], ["facts.relations", "capital_of_planet"]),
    "no such facts file": (["facts.source=nowhere.csv"], ["nowhere.csv"]),
    "no such model": (["model.name=nowhere/no-such-model"], ["model.name", "nowhere/no-such-model"]),
    "more workers than cores": (["resources.workers_per_trial=5000", "training.batch_size=5000"], ["resources.workers_per_trial", "5000"]),
}

BAD_FACTS = {
    "missing column": ("subject,relation,object,question\ns,r,o,What?\n", ["answer"]),
    "empty answer": (HEADER + GOOD + "s,r,o,What is it?,\n", ["answer", "21"]),
    "duplicate id": ("fact_id," + HEADER + "x,a,r,b,What is a?,b\nx,c,r,d,What is c?,d\n", ["fact_id", "x"]),
}


def assert_refused(code: int, stdout: str, stderr: str, words: list[str]) -> None:
    assert code == 2, stdout + stderr
    assert stderr.startswith("kp: ")
    assert "Traceback" not in stdout + stderr
    assert all(word in stderr for word in words), stderr


@pytest.mark.parametrize("case", BAD_STUDIES)
def test_study_with_bad_config_is_refused_by_field(case: str, tmp_path: Path) -> None:
    overrides, words = BAD_STUDIES[case]
    done = run_kp("categorise", SMOKE, *overrides, "--results", tmp_path / "runs", seconds=180)
    assert_refused(done.returncode, done.stdout, done.stderr, words)
    assert not list((tmp_path / "runs").rglob("answers.parquet"))


@pytest.mark.parametrize("case", BAD_FACTS)
def test_study_with_bad_facts_is_refused_by_column_and_row(case: str, tmp_path: Path) -> None:
    text, words = BAD_FACTS[case]
    file = tmp_path / "facts.csv"
    file.write_text(text, encoding="utf-8")
    done = run_kp("facts", SMOKE, f"facts.source={file}", "facts.relations=[]", "--results", tmp_path / "runs", seconds=180)
    assert_refused(done.returncode, done.stdout, done.stderr, words)
    assert not list((tmp_path / "runs" / "store").rglob("*.parquet"))


def test_search_for_more_unknown_facts_than_there_are_is_refused_before_training(smoke_copy: Path) -> None:
    done = run_kp("search", SMOKE, "search.unknown=[12]", "--results", smoke_copy, seconds=180)
    assert_refused(done.returncode, done.stdout, done.stderr, ["search.unknown", "12"])
    assert not list((smoke_copy / "work" / "trial").glob("*/*.parquet"))


def test_search_with_rows_longer_than_max_length_is_refused_before_training(smoke_copy: Path) -> None:
    done = run_kp("search", SMOKE, "training.max_length=8", "--results", smoke_copy, seconds=180)
    assert_refused(done.returncode, done.stdout, done.stderr, ["training.max_length", "8"])


def test_missing_study_file_is_refused_by_name(tmp_path: Path) -> None:
    done = run_kp("study", tmp_path / "none.toml", seconds=60)
    assert_refused(done.returncode, done.stdout, done.stderr, ["none.toml"])
