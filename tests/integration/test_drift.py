"""Drift of adapters on texts: exactly none of one that changes nothing, and otherwise what torch computes of one text alone; tiny model."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from kp import schema
from kp.benchmarks.neutral_text import first_passages
from kp.config.study import ModelConfig
from kp.errors import UserError
from kp.generation.adapters import save_scaled_adapter
from kp.generation.drift import TextDrift, text_drifts
from kp.generation.hf import HFGenerator
from kp.models.loading import load_model, resolve_model
from kp.study.measurements.drift import DriftTask
from tests.made_up_study import facts
from tests.tiny_model import tiny_tokenizer

TEXTS = ["The kettle sings before the light.", "A", "The street is blue, the windows white, and someone has been awake.", "No."]


def base_of(model: Path) -> Any:
    return load_model(resolve_model(ModelConfig(name=str(model))), "float32", "cpu")


def saved(model: Path, folder: Path, null: bool = False, layers: list[int] | None = None) -> Path:
    torch.manual_seed(1)
    config = LoraConfig(r=4, target_modules=["up_proj", "down_proj"], init_lora_weights=null, layers_to_transform=layers)
    get_peft_model(base_of(model), config).save_pretrained(str(folder))
    return folder


@pytest.fixture
def adapter(model: Path, tmp_path: Path) -> Path:
    return saved(model, tmp_path / "adapter")


def generator_with(model: Path, adapter: Path | None) -> HFGenerator:
    generator = HFGenerator(base_of(model), tiny_tokenizer())
    generator.load_adapter(None if adapter is None else str(adapter))
    return generator


def alone(model: Path, adapter: Path, text: str) -> TextDrift:
    """What torch computes of one text, in float64 after the logits."""
    ids = torch.tensor([tiny_tokenizer()(text).input_ids])
    base = base_of(model)
    with torch.no_grad():
        expected = base(ids).logits[0, :-1].double().log_softmax(-1)
        found = PeftModel.from_pretrained(base, str(adapter))(ids).logits[0, :-1].double().log_softmax(-1)
    kl = torch.nn.functional.kl_div(found, expected, log_target=True, reduction="sum")
    nll, base_nll = (-logs.gather(1, ids[0, 1:, None]).sum() for logs in (found, expected))
    return TextDrift(len(ids[0]) - 1, float(kl), float(nll), float(base_nll))


def assert_close(found: TextDrift, expected: TextDrift) -> None:
    assert found.tokens == expected.tokens
    assert (found.kl, found.nll, found.base_nll) == pytest.approx((expected.kl, expected.nll, expected.base_nll), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("layers", [None, [1]])
def test_drift_of_texts_read_together_is_that_of_each_alone(model: Path, tmp_path: Path, layers: list[int] | None) -> None:
    adapter = saved(model, tmp_path / "adapter", layers=layers)
    found = text_drifts(generator_with(model, adapter), TEXTS)
    for text, drift in zip(TEXTS, found, strict=True):
        assert_close(drift, alone(model, adapter, text))
    assert found[0].kl > 0.1
    assert found[1] == TextDrift(0, 0.0, 0.0, 0.0)


def test_text_of_many_passes_and_chunks_has_the_drift_of_torch(model: Path, adapter: Path) -> None:
    text = " ".join(TEXTS * 8)
    (found,) = text_drifts(generator_with(model, adapter), [text])
    assert found.tokens > 512
    assert_close(found, alone(model, adapter, text))


def test_null_adapter_has_no_drift_at_all(model: Path, tmp_path: Path) -> None:
    for null in (saved(model, tmp_path / "null", null=True), None):
        for drift in text_drifts(generator_with(model, null), TEXTS):
            assert drift.kl == 0.0
            assert drift.nll == drift.base_nll


def test_drift_shrinks_with_the_scale_of_an_adapter(model: Path, adapter: Path, tmp_path: Path) -> None:
    save_scaled_adapter(adapter, 0.5, tmp_path / "half")
    save_scaled_adapter(adapter, 1e-9, tmp_path / "vanishing")
    whole, half, vanishing = (
        sum(drift.kl for drift in text_drifts(generator_with(model, folder), TEXTS))
        for folder in (adapter, tmp_path / "half", tmp_path / "vanishing")
    )
    assert whole > half > 10 * abs(vanishing)
    assert vanishing == pytest.approx(0, abs=1e-5)


def test_adapter_is_active_again_after_it_was_compared(model: Path, adapter: Path) -> None:
    generator = generator_with(model, adapter)
    ids = torch.arange(12)[None]
    with torch.no_grad():
        before = generator.model(ids).logits
        text_drifts(generator, TEXTS)
        assert torch.equal(generator.model(ids).logits, before)
        with generator.without_adapter() as base:
            assert not torch.equal(base(ids).logits, before)


def test_text_beyond_the_positions_of_the_model_is_refused(model: Path, adapter: Path) -> None:
    generator = generator_with(model, adapter)
    too_long = "a" * (generator.model.config.max_position_embeddings + 1)
    with pytest.raises(UserError, match=r"evaluate\.drift_words.*exceeds"):
        text_drifts(generator, [too_long])


def test_every_adapter_reads_the_same_texts_in_the_same_parts() -> None:
    task = DriftTask(tuple(first_passages(1500)), questions=30)
    asked = facts().to_arrow().cast(schema.FACTS)
    parts = task.parts(asked)
    assert task.parts(asked.take(list(reversed(range(len(asked)))))) == parts
    assert len({part.name for part in parts}) == len(parts)
    texts = [tuple(text) for part in parts for text in part.content["texts"]]
    assert sum(register == "questions" for register, _, _ in texts) == 30
    assert [text for register, _, text in texts if register != "questions"] == [passage.text for passage in task.passages]
