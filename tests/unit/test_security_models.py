"""Nothing of a model or an adapter runs code: pickles are refused, and so is a repository's own code."""

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from kp.config.study import ModelConfig
from kp.errors import UserError
from kp.generation.adapters import read_adapter
from kp.generation.loaded_adapters import LoadedAdapters
from kp.models.loading import load_model, load_tokenizer, resolve_model, small_files
from kp.models.names import ResolvedModel
from kp.models.probe import probe_model
from tests.tiny_model import save_tiny_model, tiny_llama


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.path),))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_tiny_model(tmp_path / "model")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pkl"])
def test_model_whose_weights_are_a_pickle_is_refused_and_not_read(name: str, model: Path, tmp_path: Path) -> None:
    (model / "model.safetensors").unlink()
    torch.save(Bomb(tmp_path / "ran"), model / name)
    with pytest.raises(UserError, match=rf"has its weights as {name}, which can run code .* \*\.safetensors") as refused:
        resolve_model(ModelConfig(name=str(model)))
    assert refused.value.field == "model.name"
    with pytest.raises(UserError, match="cannot be loaded"):
        load_model(ResolvedModel("m", str(model), ""), "float32", "cpu")
    assert not (tmp_path / "ran").exists()


def test_pickle_next_to_safetensors_is_not_read(model: Path, tmp_path: Path) -> None:
    torch.save(Bomb(tmp_path / "ran"), model / "pytorch_model.bin")
    load_model(resolve_model(ModelConfig(name=str(model))), "float32", "cpu")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["weights.bin", "../other/model.safetensors", "/etc/model.safetensors"])
def test_index_that_names_another_kind_of_file_or_folder_is_refused(name: str, model: Path) -> None:
    (model / "model.safetensors").rename(model / "model-1.safetensors")
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "model-1.safetensors", "b": name}}))
    with pytest.raises(UserError, match=r"is no \.safetensors file of its folder"):
        resolve_model(ModelConfig(name=str(model)))


def test_hub_model_without_safetensors_is_refused_before_it_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [SimpleNamespace(rfilename=name) for name in ("config.json", "pytorch_model-1.bin")]
    fetched: list[object] = []
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *args, **options: SimpleNamespace(siblings=files))
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *args, **options: fetched.append(args))
    with pytest.raises(UserError, match=r"has its weights as pytorch_model-1\.bin"):
        resolve_model(ModelConfig(name="somebody/model"))
    assert fetched == []


def test_code_of_a_model_does_not_run(model: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    code = f"import os\nos.mkdir({str(ran)!r})\n"
    for name in ("modeling_own.py", "configuration_own.py", "tokenization_own.py"):
        (model / name).write_text(code)
    (model / "custom_generate").mkdir()
    (model / "custom_generate" / "generate.py").write_text(code)
    own = {"AutoConfig": "configuration_own.Own", "AutoModelForCausalLM": "modeling_own.Own"}
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"auto_map": own}))
    tokenizer = json.loads((model / "tokenizer_config.json").read_text())
    (model / "tokenizer_config.json").write_text(json.dumps(tokenizer | {"auto_map": {"AutoTokenizer": [None, "tokenization_own.Own"]}}))
    asked = ModelConfig(name=str(model))
    folder = small_files(asked, fetch=True)
    assert folder is not None
    probe_model(asked, folder, ("q_proj",), "model.name")
    found = resolve_model(asked)
    loaded = load_model(found, "float32", "cpu")  # transformers knows a llama itself, so the model's own code is not needed
    load_tokenizer(found)
    loaded.generate(torch.tensor([[5, 6]]), max_new_tokens=1)  # type: ignore[operator]
    assert not ran.exists()
    (model / "config.json").write_text(json.dumps(config | {"auto_map": own, "model_type": "own_kind"}))
    with pytest.raises(UserError, match=r"needs code of its own .* which kp does not run") as refused:
        probe_model(asked, folder, ("q_proj",), "model.name")
    assert (refused.value.field, ran.exists()) == ("model.name", False)


def saved_adapter(folder: Path, **changes: Any) -> Path:
    from peft import LoraConfig, get_peft_model

    adapted: Any = get_peft_model(tiny_llama(), LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))  # type: ignore[arg-type]
    adapted.save_pretrained(str(folder))
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | changes))
    return folder


def test_adapter_whose_weights_are_a_pickle_is_refused_and_not_read(tmp_path: Path) -> None:
    folder = saved_adapter(tmp_path / "adapter")
    (folder / "adapter_model.safetensors").unlink()
    torch.save(Bomb(tmp_path / "ran"), folder / "adapter_model.bin")
    for read in (read_adapter, LoadedAdapters(tiny_llama()).activate):
        with pytest.raises(UserError, match=r"has its weights as adapter_model\.bin, which can run code"):
            read(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"megatron_config": {"a": 1}, "megatron_core": "antigravity"}, "names a module to import"),
        ({"peft_type": "PROMPT_TUNING"}, "expected 'LORA'"),
    ],
)
def test_adapter_whose_config_asks_for_more_than_a_lora_is_refused(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    folder = saved_adapter(tmp_path / "adapter", **changes)
    for read in (read_adapter, LoadedAdapters(tiny_llama()).activate):
        with pytest.raises(UserError, match=told):
            read(folder)
