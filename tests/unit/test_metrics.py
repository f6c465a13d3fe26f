"""A metric that cannot be exported is no fault of the study that it tells of."""

from types import SimpleNamespace
from typing import Any

import pytest

from kp.cluster import metrics
from kp.cluster.metrics import Metric, record

TAGS = {"study": "s", "stage": "search"}


@pytest.fixture(autouse=True)
def _nothing_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_made", {})
    monkeypatch.setattr(metrics, "_broken", set())


def test_record_in_a_process_without_ray_does_nothing_and_does_not_import_it(monkeypatch: pytest.MonkeyPatch) -> None:
    modules: dict[str, Any] = {}
    monkeypatch.setattr(metrics.sys, "modules", modules)
    record(Metric.PROMPTS, 3, **TAGS)
    assert modules == {}
    assert metrics._made == {}


def test_record_where_ray_is_not_running_makes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics.sys, "modules", {"ray": SimpleNamespace(is_initialized=lambda: False)})
    record(Metric.PROMPTS, 3, **TAGS)
    assert metrics._made == {}


def test_record_that_fails_is_told_once_and_tried_no_more(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    asked: list[Metric] = []

    def failing(metric: Metric, value: float, tags: dict[str, str]) -> None:
        asked.append(metric)
        raise ValueError("no such tag")

    monkeypatch.setattr(metrics, "_record", failing)
    monkeypatch.setitem(metrics.sys.modules, "ray", SimpleNamespace(is_initialized=lambda: True))
    for _ in range(3):
        record(Metric.EPOCHS, 1, **TAGS)
    assert asked == [Metric.EPOCHS]
    assert [entry.getMessage() for entry in caplog.records] == ["kp_epochs_total is exported no more: no such tag"]


def test_every_metric_is_described_and_has_its_tags() -> None:
    assert set(metrics._METRICS) == set(Metric)
    assert all(described.description and described.tags[:2] == ("study", "stage") for described in metrics._METRICS.values())
