"""What `auto` becomes, by the speed of a machine and by what a study began with."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from kp.config.study import StudyConfig
from kp.models import machine_speed
from kp.study import machine_choices
from kp.study.machine_choices import keep_machine_choices, with_machine_choices
from tests.model_zoo import save_zoo_model

FAST, SLOW = {"bfloat16": 400.0, "float32": 100.0}, {"bfloat16": 50.0, "float32": 100.0}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_zoo_model(tmp_path_factory.mktemp("model"))


def study(model: Path, dtype: str = "auto", **sections: Any) -> StudyConfig:
    training = {"lora_alpha": 16, **sections.pop("training", {})}
    sections["resources"] = {"attention": "sdpa", **sections.get("resources", {})}
    search = {"unknown": [2], "rank": [1]}
    return StudyConfig.model_validate(
        {"name": "s", "model": {"name": str(model), "dtype": dtype}, "search": search, "training": training, **sections}
    )


def settled(config: StudyConfig, root: Path, monkeypatch: pytest.MonkeyPatch, rates: dict[str, float]) -> tuple[str, str]:
    """The format and what is said of it."""
    monkeypatch.setattr(machine_choices, "product_rates", lambda folder: rates)
    notes: list[str] = []
    return with_machine_choices(config, root, notes.append, fetch=False).model.dtype, " ".join(notes)


@pytest.mark.parametrize(("rates", "expected"), [(FAST, "bfloat16"), (SLOW, "float32")])
def test_auto_is_the_format_of_the_faster_product(
    rates: dict[str, float], expected: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dtype, told = settled(study(model), tmp_path, monkeypatch, rates)
    assert dtype == expected
    assert "GFLOP/s" in told


def test_auto_of_a_study_that_has_begun_stays_on_a_machine_with_other_rates(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s").mkdir()
    monkeypatch.setattr(machine_choices, "product_rates", lambda folder: FAST)
    begun = with_machine_choices(study(model), tmp_path, print, fetch=False)
    keep_machine_choices(study(model), begun, tmp_path / "s")
    assert settled(study(model), tmp_path, monkeypatch, SLOW)[0] == "bfloat16"


def test_a_stated_format_is_kept_and_nothing_is_written(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = study(model, "float32")
    assert settled(config, tmp_path, monkeypatch, FAST) == ("float32", "")
    keep_machine_choices(config, config, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_auto_on_gpus_is_bfloat16(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settled(study(model, resources={"gpu": True}), tmp_path, monkeypatch, SLOW)[0] == "bfloat16"


def test_product_rates_are_measured_once_and_written_down(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KP_CACHE", str(tmp_path))
    monkeypatch.setattr(machine_speed, "_SECONDS", 0.001)
    first = machine_speed.product_rates(model)
    assert set(first) == {"bfloat16", "float32"}
    assert all(rate > 0 for rate in first.values())
    monkeypatch.setattr(machine_speed, "_products", lambda hidden, intermediate: pytest.fail("measured again"))
    assert machine_speed.product_rates(model) == first


def test_auto_with_zero_stage_0_is_refused_as_it_may_be_bfloat16(model: Path) -> None:
    with pytest.raises(ValidationError, match=r"stage 0 drifts with model\.dtype auto"):
        study(model, training={"zero_stage": 0})


TIMES = {"sdpa": 0.002, "eager": 0.001}


@pytest.mark.parametrize(("seconds", "expected"), [(TIMES, "eager"), ({"sdpa": 0.001, "eager": 0.002}, "sdpa")])
def test_auto_attention_is_the_faster_one_and_stays(
    seconds: dict[str, float], expected: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = study(model, "float32", resources={"attention": "auto"})
    monkeypatch.setattr(machine_choices, "attention_rates", lambda folder, dtype: seconds)
    begun = with_machine_choices(asked, tmp_path, print, fetch=False)
    assert begun.resources.attention == expected
    (tmp_path / "s").mkdir()
    keep_machine_choices(asked, begun, tmp_path / "s")
    monkeypatch.setattr(machine_choices, "attention_rates", lambda folder, dtype: pytest.fail("measured again"))
    assert with_machine_choices(asked, tmp_path, print, fetch=False).resources.attention == expected


def test_product_rates_of_layers_of_several_sizes_are_of_the_largest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KP_CACHE", str(tmp_path / "cache"))
    (tmp_path / "config.json").write_text('{"hidden_size": 16, "intermediate_size": [16, 32], "text_config": null}')
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(machine_speed, "_products", lambda hidden, intermediate: asked.append((hidden, intermediate)) or {"float32": 1.0})
    assert machine_speed.product_rates(tmp_path) == {"float32": 1.0}
    assert asked == [(16, 32)]


def test_product_rates_that_were_not_written_whole_are_measured_again(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KP_CACHE", str(tmp_path))
    monkeypatch.setattr(machine_speed, "_products", lambda hidden, intermediate: {"float32": 1.0})
    machine_speed.product_rates(model)
    (file,) = tmp_path.rglob("*.json")
    file.write_text("{")
    assert machine_speed.product_rates(model) == {"float32": 1.0}


def test_attention_rates_are_of_both_ways(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KP_CACHE", str(tmp_path))
    monkeypatch.setattr(machine_speed, "_SECONDS", 0.001)
    found = machine_speed.attention_rates(model, "bfloat16")
    assert set(found) == {"sdpa", "eager"}
    assert all(seconds > 0 for seconds in found.values())
