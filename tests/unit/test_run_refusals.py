"""A study whose trial failed of what a user can mend does the rest, and then ends with that error."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kp.config.study import StudyConfig
from kp.errors import UserError
from kp.study import run
from kp.study.profile import Profile
from kp.study.stage import Command

REFUSED = UserError("a question without words", field="facts.source")


@pytest.mark.parametrize(
    ("failures", "refusals", "code"),
    [({}, [], 0), ({"a": {}}, [], 3), ({"a": {}}, [REFUSED], None), ({"a": {}, "b": {}}, [REFUSED, UserError("another")], None)],
)
def test_run_study_ends_after_all_stages_by_what_its_trials_failed_of(
    failures: dict[str, Any], refusals: list[UserError], code: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[Command] = []
    store = SimpleNamespace(is_done=lambda step: True)
    display = SimpleNamespace(line=lambda text: None)
    graph = SimpleNamespace(steps={"categorise": None})
    parts = {"store": store, "display": display, "graph": graph, "profile": Profile()}
    session = SimpleNamespace(failures=failures, refusals=refusals, **parts)
    monkeypatch.setattr(run, "open_session", lambda config, root, until: nullcontext(session))
    monkeypatch.setattr(run, "run_stages", lambda session, until: ran.append(until))
    config = StudyConfig.model_validate({"name": "s", "training": {"lora_alpha": 16}})
    if code is None:
        with pytest.raises(UserError) as caught:
            run.run_study(config, tmp_path, Command.REPORT)
        assert caught.value is REFUSED
    else:
        assert run.run_study(config, tmp_path, Command.REPORT) == code
    assert ran == [Command.REPORT]


def test_run_study_asks_a_cluster_before_the_facts_are_made_only_if_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: dict[str, bool] = {"categorise": False}
    store = SimpleNamespace(is_done=lambda step: done[step])
    display, graph = SimpleNamespace(line=lambda text: None), SimpleNamespace(steps={"categorise": "categorise"})
    session = SimpleNamespace(failures={}, refusals=[], store=store, display=display, graph=graph, profile=Profile())
    monkeypatch.setattr(run, "open_session", lambda config, root, until: nullcontext(session))
    monkeypatch.setattr(run, "run_stages", lambda session, until: None)
    monkeypatch.setenv("RAY_ADDRESS", "no address")
    config = StudyConfig.model_validate({"name": "s", "training": {"lora_alpha": 16}})
    with pytest.raises(UserError, match=r"^RAY_ADDRESS: "):
        run.run_study(config, tmp_path, Command.CATEGORISE)
    assert run.run_study(config, tmp_path, Command.FACTS) == 0
    done["categorise"] = True
    (tmp_path / "s").mkdir()
    assert run.run_study(config, tmp_path, Command.CATEGORISE) == 0
