"""`kp trials` reads a results folder in which its study was run, and makes none."""

from pathlib import Path

import pytest

from kp.config.study import StudyConfig
from kp.errors import UserError
from kp.study.trials_view import show_trials
from tests.conftest import SMOKE, assert_refused, run_kp


@pytest.fixture
def study() -> StudyConfig:
    settings = {"name": "small", "facts": {"count": 1200}, "search": {"rank": [1, 2], "unknown": [10]}, "training": {"lora_alpha": 16}}
    return StudyConfig.model_validate(settings)


def test_trials_of_a_results_folder_that_is_not_there_are_refused_and_none_is_made(tmp_path: Path) -> None:
    done = run_kp("trials", "--results", tmp_path / "none", SMOKE)
    assert_refused(done, ["--results", "none", "there is no such folder"])
    assert not (tmp_path / "none").exists()


def test_trials_of_a_study_that_was_never_run_there_are_refused(tmp_path: Path, study: StudyConfig) -> None:
    with pytest.raises(UserError, match="holds no study 'small'") as caught:
        show_trials(study, tmp_path)
    assert caught.value.field == "--results"


def test_trials_that_have_not_begun_are_waiting(tmp_path: Path, study: StudyConfig, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "small").mkdir()
    assert show_trials(study, tmp_path) == 0
    assert "2 trials: 2 waiting" in capsys.readouterr().out
