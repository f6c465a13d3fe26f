"""Where a study and its tables are found: the shipped ones by name, tables beside the study's file."""

from pathlib import Path

import pytest

from kp.config.study import load_study
from kp.config.study_files import shipped_studies
from kp.errors import UserError
from tests.conftest import REPOSITORY, assert_refused, run_kp

STUDIES = REPOSITORY / "ray_jobs" / "studies"
ROWS = "question,answer\nWho keeps the keys?,Ada Reed\n"


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study whose table lies beside it, in a folder below the one where kp runs."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "study.toml").write_text('name = "mine"\n[facts]\nsource = "facts.csv"\n[training]\nlora_alpha = 16\n')
    (folder / "facts.csv").write_text(ROWS)
    monkeypatch.chdir(tmp_path)
    return folder / "study.toml"


def test_shipped_studies_are_those_of_ray_jobs() -> None:
    assert {name: path.name for name, path in shipped_studies().items()} == {path.stem: path.name for path in STUDIES.glob("*.toml")}


def test_bare_name_is_the_study_that_ships_with_kp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_study(Path("quickstart")) == load_study(STUDIES / "quickstart.toml")


def test_bare_name_of_a_file_is_that_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart").write_text('name = "other"\n[training]\nlora_alpha = 16\n')
    assert load_study(Path("quickstart")).name == "other"


@pytest.mark.parametrize("name", ["quickstrat", "studies/quickstart", "quickstart.tml"])
def test_name_that_is_neither_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=name):
        load_study(Path(name))


def test_unknown_bare_name_lists_the_studies_that_ship() -> None:
    assert_refused(run_kp("study", "quickstrat", "--dry-run"), ["quickstrat", "own_facts", "quickstart"])


def test_table_beside_the_study_is_found_from_elsewhere(beside: Path) -> None:
    assert load_study(beside).facts.source == "mine/facts.csv"


def test_table_where_kp_runs_comes_first(beside: Path, tmp_path: Path) -> None:
    (tmp_path / "facts.csv").write_text(ROWS)
    assert load_study(beside).facts.source == "facts.csv"


def test_table_of_another_folder_is_named_whole(beside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load_study(beside).facts.source == str(beside.parent / "facts.csv")


def test_table_of_an_override_is_looked_for_where_kp_runs_alone(beside: Path) -> None:
    assert load_study(beside, ["facts.source=facts.csv"]).facts.source == "facts.csv"


def test_missing_table_keeps_its_name(beside: Path) -> None:
    (beside.parent / "facts.csv").unlink()
    assert load_study(beside).facts.source == "facts.csv"
