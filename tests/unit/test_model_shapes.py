"""How many numbers an adapter has, told from a config.json alone, is what PEFT really makes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from kp.config.study import ModelConfig
from kp.models.loading import load_model, resolve_model
from kp.models.names import EMBEDDED
from kp.models.shapes import FAMILIES, PUBLISHED, ModelShape, model_folder, model_shape, shape_of_config

MLP = ("down_proj", "gate_proj", "up_proj")
ALL = (*MLP, "q_proj", "k_proj", "v_proj", "o_proj")


def trainable(model: Any, modules: tuple[str, ...], rank: int) -> int:
    """The numbers that PEFT trains."""
    from peft import LoraConfig, get_peft_model

    wrapped = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=rank, target_modules=list(modules)))
    return sum(parameter.numel() for parameter in wrapped.parameters() if parameter.requires_grad)


@pytest.mark.parametrize(("modules", "rank"), [(MLP, 8), (ALL, 3)], ids=["mlp", "all"])
def test_adapter_parameters_of_the_embedded_model_are_those_of_peft(modules: tuple[str, ...], rank: int) -> None:
    resolved = resolve_model(ModelConfig())
    shape = model_shape(ModelConfig())
    assert shape is not None
    assert shape.origin == "config.json"
    assert shape.adapter_parameters(modules, rank) == trainable(load_model(resolved, "bfloat16", "cpu"), modules, rank)


@pytest.mark.parametrize("family", FAMILIES)
def test_adapter_parameters_of_every_family_are_those_of_peft(family: str) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 2}
    config = AutoConfig.for_model(family, vocab_size=64, pad_token_id=0, **sizes)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    shape = shape_of_config(config.to_dict())
    assert shape is not None
    assert shape.adapter_parameters(ALL, 4) == trainable(model, ALL, 4)


@pytest.mark.parametrize("tied", [None, False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_of_every_family_are_those_of_its_matrices(family: str, tied: bool | None) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 2}
    named = {} if tied is None else {"tie_word_embeddings": tied}
    config = AutoConfig.for_model(family, vocab_size=64, pad_token_id=0, **sizes, **named)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    model.tie_weights()
    written = {name: value for name, value in config.to_dict().items() if name != "tie_word_embeddings" or tied is not None}
    shape = shape_of_config(written)
    assert shape is not None
    assert shape.parameters == sum(weights.numel() for weights in model.parameters() if weights.ndim == 2)


def test_shape_of_config_of_a_model_with_other_matrices_is_not_guessed() -> None:
    from transformers import GPT2Config

    assert shape_of_config(GPT2Config().to_dict()) is None


def test_adapter_parameters_on_a_module_that_is_no_matrix_of_a_layer_are_not_known() -> None:
    shape = ModelShape(4096, 14336, 32, 32, 8, 128, "config.json")
    assert shape.adapter_parameters(("down_proj", "lm_head"), 8) is None
    assert shape.adapter_parameters(MLP, 1) == 32 * 3 * (4096 + 14336)


def test_model_shape_of_a_hub_model_that_is_not_here_is_the_published_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    llama = ModelConfig(name="meta-llama/Llama-3.1-8B-Instruct")
    assert model_folder(llama) is None
    assert model_shape(llama) == ModelShape(4096, 14336, 32, 32, 8, 128, PUBLISHED, 2 * 128256 * 4096)
    assert model_shape(ModelConfig(name="someone/some-model")) is None
    assert model_shape(ModelConfig(name="no such folder/at all/here")) is None


def test_model_shape_of_a_hub_model_in_the_cache_is_the_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--someone--some-model"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    config = {
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    (snapshot / "config.json").write_text(json.dumps(config))
    assert model_shape(ModelConfig(name="someone/some-model")) == ModelShape(64, 96, 2, 4, 4, 16, "config.json")


def test_model_shape_of_a_local_folder_is_its_configs(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(Path(resolve_model(ModelConfig()).path, "config.json").read_text())
    assert model_folder(ModelConfig(name=str(tmp_path))) == tmp_path
    assert model_shape(ModelConfig(name=str(tmp_path))) == model_shape(ModelConfig())


def test_model_shape_of_the_embedded_model_before_it_is_converted_is_published(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    here = model_shape(ModelConfig())
    assert here is not None
    monkeypatch.setenv("KP_CACHE", str(tmp_path))
    before = model_shape(ModelConfig(name=EMBEDDED))
    assert before is not None
    assert before.origin == PUBLISHED
    assert before.matrices() == here.matrices()
    assert before.layers == here.layers
