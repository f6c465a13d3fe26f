"""Answers and training losses of tiny models of many families of attention, compared with transformers' own forward pass."""

import copy
import random
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from kp.errors import UserError
from kp.models.architecture import empty_model, longest_row_in_windows
from kp.training.base_model_cache import against_trees
from kp.training.batches import make_batch
from kp.training.encoding import IGNORED, EncodedRow
from kp.training.loss import batch_loss
from kp.vocabulary import Packing
from tests.unit import test_generation as generation

_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "vocab_size": 261,
    "max_position_embeddings": 512,
}
_WIDE = _SIZES | {"head_dim": 8}
_WINDOW = 16
_VISION = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28, "patch_size": 14}
_EXPERTS = {"num_local_experts": 2, "num_experts_per_tok": 1}
SHARING: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", _SIZES),
    "mistral": ("MistralConfig", _SIZES | {"sliding_window": _WINDOW}),
    "qwen2": ("Qwen2Config", _SIZES | {"use_sliding_window": True, "sliding_window": _WINDOW, "max_window_layers": 2}),
    "qwen3": ("Qwen3Config", _WIDE),
    "gemma2": ("Gemma2Config", _WIDE | {"sliding_window": _WINDOW}),
    "gemma3": ("Gemma3TextConfig", _WIDE | {"sliding_window": _WINDOW, "sliding_window_pattern": 2}),
    "gemma3 with images": (
        "Gemma3Config",
        {"text_config": _WIDE | {"sliding_window": _WINDOW, "sliding_window_pattern": 2}, "vision_config": _VISION},
    ),
    "gemma4, layers of several widths": ("Gemma4TextConfig", _WIDE),
    "phi3": ("Phi3Config", _SIZES | {"pad_token_id": 0, "sliding_window": _WINDOW}),
    "granite": ("GraniteConfig", _SIZES | {"attention_multiplier": 0.3}),
    "olmo": ("OlmoConfig", _SIZES),
    "olmo2": ("Olmo2Config", _SIZES),
    "olmo3": ("Olmo3Config", _SIZES | {"sliding_window": _WINDOW}),
    "cohere2": ("Cohere2Config", _SIZES | {"sliding_window": _WINDOW}),
}
PLAIN: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt_oss": ("GptOssConfig", _WIDE | _EXPERTS | {"sliding_window": _WINDOW}),
    "llama4": ("Llama4TextConfig", _WIDE | {"intermediate_size_mlp": 48, "num_local_experts": 2, "attention_chunk_size": _WINDOW}),
    "lfm2": ("Lfm2Config", _SIZES | {"layer_types": ["conv", "full_attention"] * 2}),
}
RECURRENT: dict[str, tuple[str, dict[str, Any]]] = {
    "mamba": ("MambaConfig", {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 261}),
    "jamba": ("JambaConfig", _SIZES | {"num_experts": 2, "num_experts_per_tok": 1}),
    "minimax": ("MiniMaxConfig", _WIDE | _EXPERTS),
    "qwen3_next": ("Qwen3NextConfig", _WIDE | {"num_experts": 2, "num_experts_per_tok": 1}),
    "recurrent_gemma": ("RecurrentGemmaConfig", {name: size for name, size in _SIZES.items() if name != "max_position_embeddings"}),
}
FAMILIES = SHARING | PLAIN


def _config(name: str) -> Any:
    kind, settings = (FAMILIES | RECURRENT)[name]
    config = getattr(transformers, kind)(**copy.deepcopy(settings))
    for part in {id(one): one for one in (config, config.get_text_config())}.values():
        part.eos_token_id, part.pad_token_id, part.bos_token_id = 1, 0, None
        part.initializer_range, part.tie_word_embeddings = 0.4, False
    return config


def _model(name: str) -> Any:
    torch.manual_seed(3)
    return transformers.AutoModelForCausalLM.from_config(_config(name), dtype=torch.float32).eval()


def _rows(lengths: list[int]) -> list[EncodedRow]:
    """Rows that begin alike, of these lengths; the second half of each is trained."""
    draw = random.Random(2)
    rows = []
    for length in lengths:
        ids = [*range(20, 24), *(draw.randrange(5, 261) for _ in range(length - 4))]
        rows.append(EncodedRow(tuple(ids), tuple([IGNORED] * (length // 2) + ids[length // 2 :])))
    return rows


def _own_loss(model: Any, rows: list[EncodedRow]) -> float:
    losses = []
    for row in rows:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([row.ids])).logits[0, :-1]
        losses.append(float(torch.nn.functional.cross_entropy(logits, torch.tensor(row.labels[1:]), ignore_index=IGNORED, reduction="sum")))
    return sum(losses)


@pytest.mark.parametrize("name", FAMILIES)
def test_answers_of_each_family_equal_plain_generation(name: str, caplog: pytest.LogCaptureFixture) -> None:
    model, prompts = _model(name), generation._prompts(6)

    answers = generation._texts(generation._generator(model, batch_size=4).generate(prompts))

    assert answers == generation._plain(model, generation._tokenizer(), prompts)
    assert ("computed anew" in caplog.text) == (name in PLAIN)  # all others share what their prompts share


@pytest.mark.parametrize("name", FAMILIES)
def test_loss_of_padded_rows_longer_than_any_window_equals_that_of_each_row_alone(name: str) -> None:
    model, rows = _model(name), _rows([44, 9, 30, 12])

    with torch.no_grad():
        found = batch_loss(model, None, make_batch(rows, Packing.PADDED, 0), "cpu", torch.float32)

    np.testing.assert_allclose(float(found.cross_entropy), _own_loss(model, rows), rtol=1e-4)


@pytest.mark.parametrize("name", SHARING)
def test_loss_of_a_tree_within_the_window_equals_that_of_each_row_alone(name: str) -> None:
    model, rows = _model(name), _rows([16, 9, 14, 12])
    assert against_trees(model.config, 16) is None

    with torch.no_grad():
        found = batch_loss(model, None, make_batch(rows, Packing.PREFIX_TREE, 0), "cpu", torch.float32)

    np.testing.assert_allclose(float(found.cross_entropy), _own_loss(model, rows), rtol=1e-4)


@pytest.mark.parametrize("name", SHARING)
def test_window_of_each_family_is_found_and_keeps_longer_rows_out_of_trees(name: str) -> None:
    config = _config(name)
    most = _WINDOW if "sliding_window" in str(SHARING[name]) else None
    if name.startswith("gemma4"):
        most = config.sliding_window  # its own default
    assert longest_row_in_windows(config) == most
    if most is not None:
        assert "longer than the model's sliding window" in str(against_trees(config, most + 1))
        assert against_trees(config, most) is None


@pytest.mark.parametrize("name", RECURRENT)
def test_family_with_a_recurrent_state_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(UserError, match="keeps a recurrent state") as refused:
        empty_model(_config(name), name, "model.name")
    assert "\n" not in refused.value.message
