"""What the gate refuses before it loads a weight of the base: each a line that names what is wrong and the remedy."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from kp.config.study import ModelConfig
from kp.errors import UserError
from kp.gate.candidates import find_adapter, find_merged
from kp.models.architecture import empty_model, model_config
from tests.tiny_model import save_tiny_model, tiny_llama

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def empty(base: Path) -> PreTrainedModel:
    return empty_model(model_config(base, "tiny", "--model"), "tiny", "--model")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    model: Any = get_peft_model(tiny_llama(), LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))  # type: ignore[arg-type]
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def adapter(trained: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(trained, tmp_path / "adapter"))


def with_config(folder: Path, **changes: object) -> None:
    path = folder / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def with_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS)


def refusal(folder: Path, base: Path | str, empty: PreTrainedModel) -> str:
    with pytest.raises(UserError) as refused:
        find_adapter(str(folder), ModelConfig(name=str(base)), empty)
    assert "\n" not in str(refused.value)
    assert refused.value.field == "ADAPTER" or refused.value.message.startswith("adapter ")
    return refused.value.message


def test_adapter_of_this_base_is_found_with_its_digest(adapter: Path, base: Path, empty: PreTrainedModel) -> None:
    found = find_adapter(str(adapter), ModelConfig(name=str(base)), empty)
    assert (found.folder, len(found.identity), found.notes, found.is_merged) == (adapter, 64, (), False)


def test_adapter_that_names_a_folder_is_noted_and_one_that_names_another_model_of_the_hub_refused(
    adapter: Path, base: Path, empty: PreTrainedModel
) -> None:
    with_config(adapter, base_model_name_or_path="/somebody/elses/folder")
    (note,) = find_adapter(str(adapter), ModelConfig(name=str(base)), empty).notes
    assert "/somebody/elses/folder" in note
    with_config(adapter, base_model_name_or_path="org/SmolLM2-135M")
    assert refusal(adapter, "smollm2-135m-instruct", empty).endswith("not on 'smollm2-135m-instruct': give --model org/SmolLM2-135M")


def test_adapter_trained_on_a_quantised_copy_of_the_base_is_taken(adapter: Path, empty: PreTrainedModel) -> None:
    with_config(adapter, base_model_name_or_path="unsloth/SmolLM2-135M-Instruct-bnb-4bit")
    assert find_adapter(str(adapter), ModelConfig(name="smollm2-135m-instruct"), empty).notes == ()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"use_dora": True}, "is a DoRA"),
        ({"peft_type": "IA3"}, "says peft_type 'IA3'"),
        ({"init_lora_weights": "pissa"}, "began as 'pissa'"),
        ({"bias": "all"}, "replaces biases"),
    ],
)
def test_kinds_of_adapters_that_cannot_be_measured_are_refused(
    adapter: Path, base: Path, empty: PreTrainedModel, changes: dict[str, object], told: str
) -> None:
    with_config(adapter, **changes)
    assert told in refusal(adapter, base, empty)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda weights: {key: weight * torch.nan for key, weight in weights.items()}, "holds NaN or infinity"),
        (lambda weights: {key: weight.to(torch.int8) for key, weight in weights.items()}, "is quantised (int8)"),
        (lambda weights: {key: weight[:, :1].contiguous() for key, weight in weights.items()}, "is of another base"),
        (lambda weights: {key.replace("q_proj", "query"): weight for key, weight in weights.items()}, "no module model.layers.0"),
        (lambda weights: {"something": torch.zeros(2)}, "holds no LoRA matrices"),
    ],
)
def test_weights_that_cannot_be_of_this_base_are_refused(
    adapter: Path,
    base: Path,
    empty: PreTrainedModel,
    change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]],
    told: str,
) -> None:
    with_weights(adapter, change)
    assert told in refusal(adapter, base, empty)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_adapter_that_lacks_a_file_is_refused(adapter: Path, base: Path, empty: PreTrainedModel, name: str) -> None:
    (adapter / name).unlink()
    assert f"has no {name}" in refusal(adapter, base, empty)


def test_cut_weights_and_names_of_nothing_are_refused(adapter: Path, base: Path, empty: PreTrainedModel) -> None:
    (adapter / WEIGHTS).write_bytes((adapter / WEIGHTS).read_bytes()[:100])
    assert "cannot be read" in refusal(adapter, base, empty)
    assert "neither an existing folder nor a Hub id" in refusal(Path("no such/thing at all"), base, empty)
    assert refusal(base, base, empty).endswith(f"give it as --candidate {base}")


def merged_refusal(folder: Path, base: Path, empty: PreTrainedModel) -> str:
    with pytest.raises(UserError) as refused:
        find_merged(folder, base, empty)
    assert refused.value.field == "--candidate"
    return refused.value.message


def test_merged_checkpoint_of_this_base_is_found(base: Path, empty: PreTrainedModel, tmp_path: Path) -> None:
    found = find_merged(Path(shutil.copytree(base, tmp_path / "merged")), base, empty)
    assert (found.is_merged, len(found.identity)) == (True, 16)


def test_merged_checkpoint_of_another_architecture_is_refused(base: Path, empty: PreTrainedModel, tmp_path: Path) -> None:
    assert "is of another architecture: its model.layers.2" in merged_refusal(save_tiny_model(tmp_path / "three", layers=3), base, empty)


def test_merged_checkpoint_that_is_quantised_or_of_another_vocabulary_or_an_adapter_is_refused(
    base: Path, empty: PreTrainedModel, adapter: Path, tmp_path: Path
) -> None:
    merged = Path(shutil.copytree(base, tmp_path / "merged"))
    config = json.loads((merged / "config.json").read_text())
    (merged / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "gptq", "bits": 4}}))
    assert "is quantised (gptq)" in merged_refusal(merged, base, empty)
    (merged / "config.json").write_text(json.dumps(config))
    tokens = (merged / "tokenizer.json").read_text()
    (merged / "tokenizer.json").write_text(tokens.replace('"<u>"', '"<x>"'))
    assert "another vocabulary" in merged_refusal(merged, base, empty)
    assert "holds an adapter" in merged_refusal(adapter, base, empty)
    assert "is no folder" in merged_refusal(tmp_path / "none", base, empty)
