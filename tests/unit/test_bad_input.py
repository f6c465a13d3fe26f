"""Bad input gives one clear error and exit code 2, no traceback, and nothing half-written."""

import json
from pathlib import Path

import polars as pl
import pytest

from kp.prompts import builtin_shots
from tests.conftest import SMOKE, assert_refused, run_kp

HEADER = "subject,relation,object,question,answer\n"
GOOD = "".join(f"s{i},r,o{i},What is the thing called s{i}?,o{i}\n" for i in range(20))

BAD_STUDIES = {
    "unknown key": (["facts.colour=red"], ["facts.colour", "unknown key"]),
    "wrong type": (["training.epochs=many"], ["training.epochs"]),
    "impossible combination": (["search.unknown=[50]"], ["search.unknown", "facts.count"]),
    "no such relation": (['facts.relations=["capital_of_planet"]'], ["facts.relations", "capital_of_planet"]),
    "no such facts file": (["facts.source=nowhere.csv"], ["nowhere.csv"]),
    "no such model": (["model.name=nowhere/no-such-model"], ["model.name", "nowhere/no-such-model"]),
    "more shot sets than shots": (["categorise.repeat_measurements=1"], ["categorise.shots", "132 shots, at least 160"]),
    "no such shots file": (["categorise.shots=nowhere.jsonl"], ["categorise.shots", "nowhere.jsonl"]),
}

BAD_FACTS = {
    "missing column": ("subject,relation,question\ns,r,What?\n", ["column 'answer'"]),
    "more empty answers than allowed": (HEADER + GOOD + "s,r,,What is it?,\n" * 2, ["2 of 22 rows (9.1%)", "row 21", "answer", "empty"]),
    "bytes of no encoding": (
        "question,answer\n" + "What is it?,\udc80\n" * 2,
        ["2 of 2 rows (100.0%)", "row 1", "answer", "save as CSV UTF-8"],
    ),
    "duplicate id": ("fact_id," + HEADER + "x,a,r,b,What is a?,b\nx,c,r,d,What is c?,d\n", ["fact_id", "x"]),
}


@pytest.mark.parametrize("case", BAD_STUDIES)
def test_study_with_bad_config_is_refused_by_field(case: str, tmp_path: Path) -> None:
    overrides, words = BAD_STUDIES[case]
    done = run_kp("categorise", SMOKE, *overrides, "--results", tmp_path / "runs")
    assert_refused(done, words)
    assert not list((tmp_path / "runs").rglob("answers.parquet"))


@pytest.mark.parametrize("case", BAD_FACTS)
def test_study_with_bad_facts_is_refused_by_column_and_row(case: str, tmp_path: Path) -> None:
    text, words = BAD_FACTS[case]
    file = tmp_path / "facts.csv"
    file.write_text(text, encoding="utf-8", errors="surrogateescape")
    done = run_kp("facts", SMOKE, f"facts.source={file}", "facts.relations=[]", "--results", tmp_path / "runs")
    assert_refused(done, words)
    assert not list((tmp_path / "runs" / "store").rglob("*.parquet"))


def run_facts(tmp_path: Path, text: str) -> tuple[str, Path]:
    """What `kp facts` says of these facts, and the folder of its step; it must not fail."""
    (tmp_path / "facts.csv").write_text(text, encoding="utf-8")
    overrides = [f"facts.source={tmp_path / 'facts.csv'}", "facts.relations=[]", "facts.count=20"]
    done = run_kp("facts", SMOKE, *overrides, "--results", tmp_path / "runs")
    assert done.returncode == 0, done.stdout + done.stderr
    [folder] = (tmp_path / "runs" / "store" / "facts").iterdir()
    return done.stdout, folder


def test_facts_with_a_page_of_text_for_a_question_are_kept_but_for_that_row(tmp_path: Path) -> None:
    said, folder = run_facts(tmp_path, HEADER + f"s,r,o,{'x' * 100_000},o\n" + GOOD)
    assert "1 rows cannot be measured and are rejected; quarantined.parquet lists these faults" in " ".join(said.split())
    assert "1 longer than 1,000 characters" in said
    assert "x" * 1000 not in said
    [fault] = pl.read_parquet(folder / "quarantined.parquet").to_dicts()
    assert (fault["row"], fault["column"], fault["reason"]) == (1, "question", "longer than 1,000 characters")
    assert fault["value"] == "x" * 200
    assert sorted(pl.read_parquet(folder / "facts.parquet")["subject"]) == sorted(f"s{i}" for i in range(20))


def test_facts_with_a_row_that_cannot_be_read_are_kept_but_for_that_row_and_it_is_named(tmp_path: Path) -> None:
    said, folder = run_facts(tmp_path, (HEADER + "s,r,,What is it?,nan\n" + GOOD).replace(",", ";"))
    assert "facts.csv: read as semicolon-separated" in said
    assert "1 stands for a missing value (row 1)" in said
    [fault] = pl.read_parquet(folder / "quarantined.parquet").to_dicts()
    assert (fault["row"], fault["fact_id"], fault["column"], fault["value"]) == (1, "", "answer", "nan")
    assert pl.read_parquet(folder / "facts.parquet").height == 20


def test_facts_that_a_shot_gives_away_have_it_replaced_and_kept_in_a_table(tmp_path: Path) -> None:
    shot, spare = builtin_shots()[41], builtin_shots()[120]
    said, folder = run_facts(tmp_path, HEADER + GOOD.rstrip("\n").rpartition("\n")[0] + f'\ns,r,o,"{shot.question}",o\n')
    assert f"the shot '{shot.question}' gives a studied fact away and is replaced" in " ".join(said.split())
    facts = pl.read_parquet(folder / "facts.parquet")
    [gone] = pl.read_parquet(folder / "replaced_shots.parquet").to_dicts()
    assert (gone["shot_set"], gone["prompt_index"], gone["question"], gone["leak"]) == ("S1", 0, shot.question, "question")
    assert gone["new_question"] == spare.question
    assert facts.filter(fact_id=gone["fact_id"])["question"].to_list() == [shot.question]
    assert "replaced_shots.parquet" in json.loads((folder / "record.json").read_text(encoding="utf-8"))["files"]


def test_dry_run_without_facts_and_shots_prices_the_study_and_names_them(tmp_path: Path) -> None:
    sources = ("facts.source=facts/dbpedia.parquet", "categorise.shots=facts/triviaqa_shots.jsonl")
    replayed = "search.replay_source=facts/triviaqa_facts.jsonl"
    done = run_kp(
        "study",
        SMOKE.with_name("paper.toml"),
        *sources,
        replayed,
        "facts.count=21036",
        "evaluate.tasks=[]",
        "--dry-run",
        "--results",
        tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "note: facts.source: facts/dbpedia.parquet: cannot be read" in done.stdout
    assert "note: categorise.shots: facts/triviaqa_shots.jsonl: cannot be read" in done.stdout
    assert "note: search.replay_source: facts/triviaqa_facts.jsonl: cannot be read" in done.stdout
    assert "631,080 prompts" in done.stdout


def test_missing_study_file_is_refused_by_name(tmp_path: Path) -> None:
    done = run_kp("study", tmp_path / "none.toml")
    assert_refused(done, ["none.toml"])
