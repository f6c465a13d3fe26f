"""A model can take an hour to fetch, so all that a user wrote is read and checked before."""

import json
from pathlib import Path
from typing import Any

import pytest

from kp.config.study import StudyConfig, load_study
from kp.errors import UserError
from kp.facts import sources
from kp.models.loading import resolve_model
from kp.models.names import ResolvedModel
from kp.study import choosing_facts, run
from tests.conftest import SMOKE

ROWS = [{"question": f"What is the colour of item {number}?", "answer": f"colour{number}"} for number in range(20)]


def study(tmp_path: Path, rows: list[dict[str, str]], *overrides: str) -> StudyConfig:
    source = tmp_path / "facts.jsonl"
    source.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return load_study(SMOKE, [f"facts.source={source}", "facts.relations=[]", *overrides])


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done, in its order."""
    made: list[str] = []

    def counted(name: str, function: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            made.append(name)
            return function(*args, **options)

        return call

    monkeypatch.setattr(run, "resolve_model", counted("model", resolve_model))
    monkeypatch.setattr(run, "source_identity", counted("source", sources.source_identity))
    monkeypatch.setattr(choosing_facts, "check_facts", counted("facts", choosing_facts.check_facts))
    return made


def test_models_are_fetched_after_the_facts_are_checked(tmp_path: Path, calls: list[str]) -> None:
    with run.open_session(study(tmp_path, ROWS), tmp_path) as session:
        assert isinstance(session.model, ResolvedModel)
    assert calls == ["source", "facts", "model"]


@pytest.mark.parametrize(
    ("rows", "overrides", "told"),
    [
        ([{"question": "Q?"}], (), "column 'answer'"),
        ([{"question": "", "answer": ""}, *ROWS[:1]], ("facts.max_rejected_fraction=0.1",), "rows"),
        (ROWS, ("search.replay_source=no_such_file.csv", "search.replay_count=4"), "no_such_file"),
    ],
)
def test_faulty_facts_end_a_new_study_before_its_model_is_fetched(
    rows: list[dict[str, str]], overrides: tuple[str, ...], told: str, tmp_path: Path, calls: list[str]
) -> None:
    with pytest.raises(UserError, match=told):
        run.open_session(study(tmp_path, rows, *overrides), tmp_path)
    assert "model" not in calls


def test_study_that_has_begun_does_not_read_its_facts_again(tmp_path: Path, calls: list[str]) -> None:
    for _ in range(2):
        with run.open_session(study(tmp_path, ROWS), tmp_path):
            pass
    assert calls == ["source", "facts", "model", "source", "model"]
