"""How fast this machine computes what a model is made of: products in two number formats, and attention in two ways.

A CPU with matrix units for bfloat16 multiplies it several times as fast as float32, one without them several times as slowly, and neither
its name nor its flags say by how much; the backward pass of torch's fused attention is a quarter of a training step on some and none on
others. So both are timed, which takes a second, once for a machine and a shape.
"""

import json
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from kp.models.names import CONFIG_FILE, cache_root
from kp.store.files import read_json, write_json
from kp.store.hardware import hardware

FORMATS = ("bfloat16", "float32")
_TOKENS = 256  # rows of a product: about as many as a pass over a batch has
_SECONDS = 0.25  # for each format
_WARM_UP = 2
_ATTENTION_TOKENS = 160  # of a prefix tree: eight short rows without what they share
_CACHE = "machine_speed.json"


def sees_gpu() -> bool:
    """Whether torch sees a GPU on this machine."""
    import torch

    return torch.cuda.is_available()


def product_rates(folder: Path) -> dict[str, float]:
    """GFLOP/s of a product of 256 tokens with a feed-forward matrix of the model in `folder`, by format; measured once for a machine."""
    hidden, intermediate = _feed_forward(_config(folder))
    return _once(["product", hidden, intermediate], lambda: _products(hidden, intermediate))


def attention_rates(folder: Path, dtype: str) -> dict[str, float]:
    """Seconds of the forward and backward pass of one layer's attention over 160 tokens, by way (`sdpa`, `eager`); measured once."""
    config = _config(folder)
    hidden, heads = _hidden(config), int(config.get("num_attention_heads") or config.get("n_head") or config.get("n_heads") or 8)
    size = int(config.get("head_dim") or hidden // heads)
    return _once(["attention", heads, size, dtype], lambda: _attentions(heads, size, dtype))


def _once(what: list[Any], measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    key, cache = json.dumps([hardware()["processor"], os.cpu_count(), *what]), cache_root() / _CACHE
    known: dict[str, dict[str, float]] = read_json(cache) or {}
    if key not in known:
        known[key] = measure()
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_json(cache, known)
    return known[key]


def _config(folder: Path) -> dict[str, Any]:
    written: dict[str, Any] = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    return written | written.get("text_config", {})


def _hidden(config: dict[str, Any]) -> int:
    return int(config.get("hidden_size") or config.get("n_embd") or config.get("d_model") or 1024)


def _feed_forward(config: dict[str, Any]) -> tuple[int, int]:
    """Input and output size; four times the input if the config does not say."""
    hidden = _hidden(config)
    return hidden, int(config.get("intermediate_size") or config.get("ffn_dim") or config.get("n_inner") or 4 * hidden)


def _products(hidden: int, intermediate: int) -> dict[str, float]:
    import torch

    rates = {}
    for name in FORMATS:
        dtype = getattr(torch, name)
        tokens, matrix = torch.ones(_TOKENS, hidden, dtype=dtype), torch.ones(intermediate, hidden, dtype=dtype)
        seconds = _seconds(partial(torch.nn.functional.linear, tokens, matrix))
        rates[name] = round(2 * _TOKENS * hidden * intermediate / seconds / 1e9, 1)
    return rates


def _attentions(heads: int, size: int, dtype: str) -> dict[str, float]:
    import torch

    kind, tokens = getattr(torch, dtype), _ATTENTION_TOKENS
    queries, keys, values = (torch.randn(1, heads, tokens, size, dtype=kind, requires_grad=True) for _ in range(3))
    hidden = torch.triu(torch.ones(tokens, tokens, dtype=torch.bool), 1)
    mask = torch.zeros(tokens, tokens, dtype=kind).masked_fill(hidden, torch.finfo(kind).min)

    def sdpa() -> None:
        torch.nn.functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask).sum().backward()

    def eager() -> None:
        weights = torch.softmax(queries @ keys.transpose(2, 3) * size**-0.5 + mask, dim=-1, dtype=torch.float32).to(kind)
        (weights @ values).sum().backward()

    return {"sdpa": _seconds(sdpa), "eager": _seconds(eager)}


def _seconds(call: Callable[[], object]) -> float:
    """The median time of one call."""
    for _ in range(_WARM_UP):
        call()
    times: list[float] = []
    while sum(times) < _SECONDS:
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times)
