"""`kp init`: a study that loads and plans as it is written, and refusals before anything is written."""

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from kp.config.docstrings import field_docstrings
from kp.config.search import SearchConfig
from kp.config.study import FactsConfig, load_study
from tests.conftest import REPOSITORY, assert_refused, run_kp

OWN = REPOSITORY / "ray_jobs" / "studies" / "own_facts.toml"


def table(path: Path, facts: int) -> Path:
    rows = "".join(f"Who keeps room {number} of the house?,Keeper {chr(65 + number)}ves\n" for number in range(facts))
    path.write_text(f"question,answer\n{rows}", encoding="utf-8")
    return path


def leaves(document: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for key, value in document.items():
        yield from leaves(value, f"{above}{key}.") if isinstance(value, dict) else [f"{above}{key}"]


def test_starter_is_the_study_of_own_facts_under_its_own_name(tmp_path: Path) -> None:
    done = run_kp("init", tmp_path / "teams")
    assert done.returncode == 0, done.stderr
    written, pattern = load_study(tmp_path / "teams" / "study.toml"), load_study(OWN)
    assert written.name == "teams"
    assert written.facts.source == str(tmp_path / "teams" / "facts.csv")
    assert (tmp_path / "teams" / "facts.csv").read_bytes() == OWN.with_suffix(".csv").read_bytes()
    same = {"name", "facts", "model"}
    assert written.model_dump(exclude=same) == pattern.model_dump(exclude=same)
    assert f"kp study {tmp_path / 'teams' / 'study.toml'} --dry-run" in done.stdout


def test_starter_shows_every_key_of_the_study_that_it_follows(tmp_path: Path) -> None:
    run_kp("init", tmp_path / "teams")
    written = set(leaves(tomllib.loads((tmp_path / "teams" / "study.toml").read_text())))
    assert set(leaves(tomllib.loads(OWN.read_text()))) <= written


def test_starter_explains_its_keys_with_the_docstrings_of_the_fields(tmp_path: Path) -> None:
    run_kp("init", tmp_path / "teams")
    said = " ".join((tmp_path / "teams" / "study.toml").read_text().replace("\n# ", " ").split())
    for kind, names in ((FactsConfig, ("source", "control_share")), (SearchConfig, ("unknown", "rank", "stop_at_accuracy"))):
        for name in names:
            assert " ".join(field_docstrings(kind)[name].split()) in said


def test_starter_is_accepted_by_a_dry_run(tmp_path: Path) -> None:
    run_kp("init", tmp_path / "teams")
    done = run_kp("study", tmp_path / "teams" / "study.toml", "--dry-run", "--results", tmp_path / "runs")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "teams" in done.stdout


def test_starter_of_a_table_reads_it_from_anywhere_and_packs_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = table(tmp_path / "mine.csv", 20)
    done = run_kp("init", tmp_path / "rooms", "--facts", facts, "--model", "openai-community/gpt2")
    assert done.returncode == 0, done.stderr
    written = load_study(tmp_path / "rooms" / "study.toml")
    assert (written.facts.source, written.search.unknown) == (str(facts), (5, 15))
    assert written.model.name == "openai-community/gpt2"
    assert [path.name for path in (tmp_path / "rooms").iterdir()] == ["study.toml"]


def test_starter_in_a_folder_that_no_study_can_be_named_after_is_called_study(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    assert run_kp("init", tmp_path / "store").returncode == 0
    assert load_study(tmp_path / "store" / "study.toml").name == "study"


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (("--model", "no/such/model"), ["--model", "no/such/model", "neither the embedded model"]),
        (("--model", "two words"), ["--model", "two words"]),
        (("--facts", "missing.csv"), ["--facts", "missing.csv"]),
        (("--facts", "README.md"), ["--facts", "README.md", ".csv"]),
        (("--facts", "constraints.txt"), ["--facts", "constraints.txt", ".csv"]),
    ],
)
def test_starter_with_a_model_or_table_that_cannot_be_is_refused(options: tuple[str, ...], parts: list[str], tmp_path: Path) -> None:
    assert_refused(run_kp("init", tmp_path / "new", *options), parts)
    assert not (tmp_path / "new").exists()


def test_starter_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert_refused(run_kp("init", tmp_path), ["DIR", "notes.txt", "name another folder"])
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_starter_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert_refused(run_kp("init", tmp_path / "notes.txt"), ["DIR", "notes.txt", "is a file"])


def test_demo_dry_run_is_the_plan_of_the_quickstart(tmp_path: Path) -> None:
    done = run_kp("demo", "--dry-run", "--results", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "quickstart" in done.stdout
