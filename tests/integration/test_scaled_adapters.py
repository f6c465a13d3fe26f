"""An adapter at a scale is the adapter whose change of the weights is that much smaller; tiny models."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from kp.config.study import ModelConfig
from kp.errors import UserError
from kp.generation.adapters import CONFIG_FILE, WEIGHTS_FILE, adapter_digest, save_scaled_adapter
from kp.models.loading import load_model, resolve_model

IDS = torch.arange(12).reshape(2, 6)
KINDS: dict[str, dict[str, Any]] = {
    "plain": {"r": 4, "lora_alpha": 8},
    "rank-stabilised": {"r": 4, "lora_alpha": 8, "use_rslora": True},
    "other ranks and alphas": {"r": 4, "lora_alpha": 8, "rank_pattern": {"up_proj": 2}, "alpha_pattern": {"down_proj": 3}},
}


def base_of(model: Path) -> Any:
    return load_model(resolve_model(ModelConfig(name=str(model))), "float32", "cpu")


@pytest.fixture(params=KINDS)
def adapter(request: pytest.FixtureRequest, model: Path, tmp_path: Path) -> Path:
    torch.manual_seed(1)
    config = LoraConfig(target_modules=["up_proj", "down_proj"], init_lora_weights=False, **KINDS[request.param])
    get_peft_model(base_of(model), config).save_pretrained(str(tmp_path / "adapter"))
    return tmp_path / "adapter"


def logits(model: Path, adapter: Path | None) -> torch.Tensor:
    base = base_of(model)
    with torch.no_grad():
        return (PeftModel.from_pretrained(base, str(adapter)) if adapter else base)(IDS).logits


def with_smaller_weights(adapter: Path, scale: float, folder: Path) -> Path:
    folder.mkdir()
    weights = load_file(adapter / WEIGHTS_FILE)
    save_file({name: tensor * scale if "lora_B" in name else tensor for name, tensor in weights.items()}, folder / WEIGHTS_FILE)
    (folder / CONFIG_FILE).write_bytes((adapter / CONFIG_FILE).read_bytes())
    return folder


@pytest.mark.parametrize("scale", [0.25, 0.7])
def test_scaled_adapter_is_the_one_with_smaller_weights(adapter: Path, model: Path, tmp_path: Path, scale: float) -> None:
    save_scaled_adapter(adapter, scale, tmp_path / "scaled")
    found, expected = logits(model, tmp_path / "scaled"), logits(model, with_smaller_weights(adapter, scale, tmp_path / "smaller"))
    assert torch.allclose(found, expected, atol=1e-5)
    assert not torch.allclose(found, logits(model, adapter), atol=1e-2)
    assert adapter_digest(tmp_path / "scaled") != adapter_digest(adapter)


def test_adapter_at_a_vanishing_scale_is_the_base_and_at_scale_1_itself(adapter: Path, model: Path, tmp_path: Path) -> None:
    save_scaled_adapter(adapter, 1e-9, tmp_path / "vanishing")
    assert torch.allclose(logits(model, tmp_path / "vanishing"), logits(model, None), atol=1e-6)
    save_scaled_adapter(adapter, 1.0, tmp_path / "same")
    assert torch.equal(logits(model, tmp_path / "same"), logits(model, adapter))


def test_what_is_no_lora_is_not_scaled(adapter: Path, tmp_path: Path) -> None:
    config = json.loads((adapter / CONFIG_FILE).read_text())
    (adapter / CONFIG_FILE).write_text(json.dumps(config | {"peft_type": "LOHA"}))
    with pytest.raises(UserError, match="expected 'LORA'"):
        save_scaled_adapter(adapter, 0.5, tmp_path / "scaled")
