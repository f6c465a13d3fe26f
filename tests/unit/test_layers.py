"""Which layers an adapter changes: how a study says it, and what becomes of it."""

from pathlib import Path
from typing import Any

import pytest

from kp.config.layers import layer_numbers
from kp.config.study import StudyConfig, load_study
from kp.errors import UserError
from kp.search.proposals import proposed
from kp.study.freeze import live
from kp.study.probing import probed
from kp.training.engine import lora_config, with_lora
from kp.training.spec import TrialSpec, grid
from tests.tiny_model import save_tiny_model, tiny_llama


def study(search: dict[str, Any] | None = None, training: dict[str, Any] | None = None, **sections: Any) -> StudyConfig:
    return StudyConfig.model_validate(
        {"name": "s", "search": {"unknown": [2], **(search or {})}, "training": {"lora_alpha": 16, **(training or {})}, **sections}
    )


def trial(layers: Any) -> TrialSpec:
    (spec,) = grid(study(training={"layers": layers}))
    return spec


@pytest.mark.parametrize(
    ("written", "kept", "numbers"),
    [
        ("all", "all", [0, 1, 2, 3]),
        ("upper:1", "upper:1", [3]),
        ("upper:4", "upper:4", [0, 1, 2, 3]),
        ([3, 1, 1], "1,3", [1, 3]),
        ((0,), "0", [0]),
        ("2,0", "0,2", [0, 2]),
    ],
)
def test_layers_are_kept_as_one_text_and_read_as_numbers(written: Any, kept: str, numbers: list[int]) -> None:
    assert study(training={"layers": written}).training.layers == kept
    assert layer_numbers(kept, 4) == numbers


@pytest.mark.parametrize("written", ["upper", "upper:0", "upper:-1", "lower:3", "", [], [-1], [1.5], [True], "1-3", 3, None])
def test_what_names_no_layers_is_refused_with_what_would(written: Any) -> None:
    with pytest.raises(ValueError, match="expected 'all', 'upper:K'"):
        study(training={"layers": written})


@pytest.mark.parametrize("layers", ["upper:5", "4", "0,17"])
def test_layers_that_the_model_lacks_are_refused_before_ray_starts(layers: str, tmp_path: Path) -> None:
    folder = str(save_tiny_model(tmp_path / "tiny"))
    for field, sections in (("training.layers", {"training": {"layers": layers}}), ("search.layers", {"search": {"layers": [layers]}})):
        config = study(**sections, model={"name": folder, "dtype": "float32"}, resources={"attention": "sdpa"})
        with pytest.raises(UserError, match=f"{field}.*of a model of 2 layers"):
            probed(config, tmp_path, lambda line: None, fetch=False, trains=True)


def test_command_line_and_file_say_the_same_layers(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text('name = "s"\n[search]\nunknown = [2]\n[training]\nlora_alpha = 16\n', encoding="utf-8")
    for override, kept in (("upper:2", "upper:2"), ("[0,2]", "0,2"), ("0,2", "0,2")):
        assert load_study(path, [f"training.layers={override}"]).training.layers == kept
    assert load_study(path, ["search.layers=[all, upper:2]"]).search.layers == ("all", "upper:2")


def test_a_search_varies_layers_with_every_sampler() -> None:
    layers = ["all", "upper:2", [0, 1]]
    specs = grid(study({"layers": layers}))
    assert [spec.layers for spec in specs] == [spec.training.layers for spec in specs] == ["all", "upper:2", "0,1"]
    assert [spec.columns()["layers"] for spec in specs] == ["all", "upper:2", "0,1"]
    assert "layers upper:2" in specs[1].label()
    drawn = proposed(study({"layers": layers, "sampler": "random", "trials": 3}), lambda spec: None).specs
    assert {spec.layers for spec in drawn} == {"all", "upper:2", "0,1"}
    with pytest.raises(ValueError, match="give either training"):
        study({"layers": layers}, {"layers": "upper:2"})


def test_layers_are_a_part_of_a_trials_identity_only_where_they_are_not_all() -> None:
    every, upper = grid(study({"layers": ["all", "upper:2"]}))
    assert every.literals() == trial("all").literals()
    assert "training.layers" not in every.literals()
    assert upper.literals() == {**every.literals(), "training.layers": "upper:2"}


@pytest.mark.parametrize(("layers", "adapted"), [("all", {0, 1}), ("upper:1", {1}), ("0", {0})])
def test_an_adapter_has_matrices_in_its_layers_alone(layers: str, adapted: set[int]) -> None:
    model = with_lora(tiny_llama(), trial(layers))
    trained = {int(name.split(".layers.")[1].split(".")[0]) for name, one in model.named_parameters() if one.requires_grad}
    assert trained == adapted
    assert (lora_config(trial(layers), tiny_llama()).layers_to_transform is None) is (layers == "all")


def test_layers_are_frozen_among_the_defaults() -> None:
    assert live().defaults["TrainingConfig"]["layers"] == "all"
