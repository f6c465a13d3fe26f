"""A node is asked for the study's model before hours of work depend on it: the same files, and memory for it and an answer."""

from dataclasses import replace
from pathlib import Path

import pytest

from kp.cluster.preflight import compared
from kp.config.study import ModelConfig, StudyConfig
from kp.study import model_check
from kp.study.model_check import ModelNeed, model_fault, model_need, parameters_in
from tests.tiny_model import save_tiny_model, tiny_llama
from tests.unit.test_preflight import HERE, NODE, ROOT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_tiny_model(tmp_path / "model")


@pytest.fixture
def need(folder: Path) -> ModelNeed:
    study = StudyConfig.model_validate({"name": "s", "model": {"name": str(folder), "dtype": "float32"}, "training": {"lora_alpha": 16}})
    return model_need(study, study.model, folder, on_gpu=False)


def test_need_counts_weights_and_keys_and_values_of_an_answer(need: ModelNeed, folder: Path) -> None:
    parameters = sum(weight.numel() for weight in tiny_llama().parameters())
    assert parameters_in(folder / "model.safetensors") == parameters
    study = StudyConfig.model_validate({"name": "s", "training": {"lora_alpha": 16}})
    of_token = 2 * 2 * 2 * 8 * 4  # keys and values of 2 layers, 2 heads of 8 numbers, 4 bytes each
    assert need.least == 4 * parameters + of_token * study.categorise.max_new_tokens


def test_node_with_the_same_files_and_enough_memory_lacks_nothing(need: ModelNeed) -> None:
    assert model_fault(need) is None


def test_node_without_the_folder_or_with_other_files_is_named(need: ModelNeed, folder: Path) -> None:
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config + " ")
    assert "is another one" in str(model_fault(need))
    (folder / "config.json").write_text(config)
    (folder / "model.safetensors").unlink()
    assert "is another one" in str(model_fault(need))
    (folder / "config.json").unlink()
    assert str(model_fault(need)).startswith(f"is not in {folder}")


def test_node_or_gpu_with_too_little_memory_is_told_how_much_it_needs(need: ModelNeed, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "needs 1048576.0 GiB for the weights and one answer, and its memory is" in str(model_fault(replace(need, least=1 << 50)))
    on_gpu = replace(need, least=2 << 30, on_gpu=True)
    monkeypatch.setattr(model_check, "gpu_memory", lambda: [4 << 30, 1 << 30])
    assert "and the memory of its GPU is 1.0 GiB; resources.accelerator_type chooses" in str(model_fault(on_gpu))
    shared = str(model_fault(replace(on_gpu, per_gpu=4)))
    assert "and a part of its GPU is 0.2 GiB, and resources.per_gpu lets 4 processes share one" in shared
    monkeypatch.setattr(model_check, "gpu_memory", lambda: [8 << 30])
    assert model_fault(replace(on_gpu, per_gpu=4)) is None
    monkeypatch.setattr(model_check, "gpu_memory", list)
    assert model_fault(on_gpu) is None  # a head without GPUs loads no model


def test_hub_model_that_a_node_has_not_and_cannot_fetch_is_named(need: ModelNeed, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **options: object) -> None:
        raise ConnectionError

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", offline)
    asked = replace(need, model=ModelConfig(name="somebody/model", revision="0" * 40), files=None)
    assert "cannot fetch it either (ConnectionError)" in str(model_fault(asked))


def test_what_a_node_lacks_for_the_model_ends_the_study_and_names_field_and_node() -> None:
    (finding,) = compared(HERE, [replace(NODE, model_fault="is not in /m")], ROOT, began=1000.0)
    assert (finding.field, finding.message, finding.is_fatal) == ("model.name", "it is not in /m (node 10.0.0.2)", True)
