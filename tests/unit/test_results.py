"""Which trials are measured: those with an adapter and, where the study says so, none that was stopped."""

from pathlib import Path

import pytest

from kp.config.study import StudyConfig
from kp.store.steps import Store
from kp.study.building import build_graph
from kp.study.graph import Graph
from kp.study.identities import Identities
from kp.study.results import evaluated, with_adapter


def study(stopped: bool) -> StudyConfig:
    search = {"unknown": [10], "rank": [1, 2, 4, 8]}
    settings = {"name": "s", "search": search, "training": {"lora_alpha": 16}, "evaluate": {"stopped": stopped}}
    return StudyConfig.model_validate(settings)


@pytest.fixture
def ended(tmp_path: Path) -> tuple[Graph, Store]:
    """A completed, a stopped and a diverged trial; the fourth has not been run."""
    graph, store = build_graph(study(True), Identities("model", "facts", "shots")), Store(tmp_path)
    for trial, status in zip(graph.trials[:3], ("completed", "stopped", "diverged"), strict=True):
        details = {"status": status, "adapter_digest": None if status == "diverged" else "0123"}
        store.commit(trial.step, lambda folder: (folder / "x").write_text("x"), seconds=1.0, details=details)
    return graph, store


def test_with_adapter_trials_that_diverged_or_have_not_run_have_none(ended: tuple[Graph, Store]) -> None:
    graph, store = ended
    assert with_adapter(graph, store) == list(graph.trials[:2])


@pytest.mark.parametrize(("stopped", "expected"), [(True, 2), (False, 1)])
def test_evaluated_stopped_trials_are_left_out_where_the_study_says_so(ended: tuple[Graph, Store], stopped: bool, expected: int) -> None:
    graph, store = ended
    assert evaluated(study(stopped), graph, store) == list(graph.trials[:expected])
