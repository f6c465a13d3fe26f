"""Attention by matrix products: the results and gradients of transformers' own, in both number formats, and only for usual models."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, Gemma2Config, LlamaConfig
from transformers.models.llama.modeling_llama import eager_attention_forward

from kp.models.product_attention import attend, use_products

# Of the largest number: float32 adds up in another order; transformers' bfloat16 rounds scores three times, this once.
_TOLERANCE = {torch.float32: 3e-6, torch.bfloat16: 2**-5}
_HEADS, _SIZE = 6, 16


def _inputs(lines: int, key_heads: int, tokens: int, seen: int, dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(lines, tokens, _HEADS, _SIZE), (lines, seen, key_heads, _SIZE), (lines, seen, key_heads, _SIZE)]
    # As models make them: heads next to each other in memory, and then transposed.
    return [torch.randn(shape, generator=generator).to(dtype).transpose(1, 2).requires_grad_() for shape in shapes]


def _masks(lines: int, tokens: int, seen: int, dtype: torch.dtype) -> dict[str, Tensor | None]:
    lowest = torch.finfo(dtype).min
    causal = torch.zeros(tokens, seen, dtype=dtype).masked_fill_(torch.ones(tokens, seen, dtype=torch.bool).triu(seen - tokens + 1), lowest)
    padded = causal.expand(lines, 1, tokens, seen).clone()
    padded[0, :, :, :2] = lowest  # the first line's first tokens are padding, and those see nothing at all
    whole = causal.expand(lines, _HEADS, tokens, seen).clone()
    return {"causal": causal[None, None], "padded": padded, "a mask of each head": whole, "none": None}


@pytest.mark.parametrize("dtype", _TOLERANCE, ids=str)
@pytest.mark.parametrize("mask", ["causal", "padded", "a mask of each head", "none"])
@pytest.mark.parametrize(("lines", "key_heads", "tokens", "seen"), [(1, 2, 7, 7), (3, 3, 5, 5), (2, 6, 4, 9), (2, 1, 1, 6)])
def test_result_and_gradients_are_those_of_transformers(
    dtype: torch.dtype, mask: str, lines: int, key_heads: int, tokens: int, seen: int
) -> None:
    given = _masks(lines, tokens, seen, dtype)[mask]
    before = None if given is None else given.clone()
    module = SimpleNamespace(num_key_value_groups=_HEADS // key_heads, training=True)
    weight = torch.randn(lines, tokens, _HEADS, _SIZE, generator=torch.Generator().manual_seed(1))

    found = []
    for ours in (True, False):
        inputs = _inputs(lines, key_heads, tokens, seen, dtype)
        result = attend(*inputs, given, 0.3) if ours else eager_attention_forward(module, *inputs, given, 0.3)[0]  # type: ignore[arg-type]
        found.append([result.detach(), *torch.autograd.grad((result.float() * weight).sum(), inputs)])

    for mine, theirs in zip(*found, strict=True):
        assert mine.shape == theirs.shape
        assert float((mine - theirs).abs().max() / theirs.abs().max()) < _TOLERANCE[dtype]
    assert before is None or torch.equal(given, before)  # type: ignore[arg-type]


_SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}


@pytest.mark.parametrize(("config", "name"), [(LlamaConfig, "kp_products"), (Gemma2Config, "eager")])
def test_model_with_products_reads_padded_rows_as_before_and_an_unusual_one_keeps_its_own(config: Any, name: str) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config(**_SIZES)).eval()
    ids, real = torch.randint(64, (2, 9)), torch.ones(2, 9, dtype=torch.long)
    real[0, :4] = 0
    model.set_attn_implementation("eager")
    with torch.no_grad():
        before = model(input_ids=ids, attention_mask=real).logits
        use_products(model)
        after = model(input_ids=ids, attention_mask=real).logits

    assert model.config._attn_implementation == name
    assert torch.allclose(after[real.bool()], before[real.bool()], rtol=0, atol=1e-6)


def test_attention_with_dropout_is_transformers_own() -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(LlamaConfig(**_SIZES, attention_dropout=0.4)).train()
    ids, logits = torch.arange(9)[None], []
    for products in (True, False):
        use_products(model) if products else model.set_attn_implementation("eager")
        torch.manual_seed(1)
        logits.append(model(input_ids=ids).logits)

    assert torch.equal(*logits)
