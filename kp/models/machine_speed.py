"""How fast this machine computes what a model is made of: products in two number formats, and attention in two ways.

A CPU with matrix units for bfloat16 multiplies it several times as fast as float32, one without them several times as slowly, and neither
its name nor its flags say by how much; the backward pass of torch's fused attention is a quarter of a training step on some and none on
others. So both are timed, which takes a second, once for a machine and a shape.
"""

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from kp.models.names import CONFIG_FILE, cache_root
from kp.store.files import digest_json, read_json, write_json
from kp.store.hardware import hardware

FORMATS = ("bfloat16", "float32")
_TOKENS = 256  # rows of a product: about as many as a pass over a batch has
_SECONDS = 0.6  # for all that is compared
_WARM_UP = 2
_ATTENTION_TOKENS = 160  # of a prefix tree: eight short rows without what they share
_CACHE = "machine_speed"


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
    size, key_heads = int(config.get("head_dim") or hidden // heads), int(config.get("num_key_value_heads") or heads)
    return _once(["attention", heads, key_heads, size, dtype], lambda: _attentions(heads, key_heads, size, dtype))


def _once(what: list[Any], measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    """What is known of this machine; of several processes that measure at once, all take the numbers of the last one to write."""
    key = [hardware()["processor"], os.cpu_count(), *what]
    file = cache_root() / _CACHE / f"{digest_json(key)[:16]}.json"
    known = read_json(file)
    if known is None:
        known = {"of": key, "measured": measure()}
        with contextlib.suppress(OSError):  # a cache that cannot be written is none: it is measured again
            file.parent.mkdir(parents=True, exist_ok=True)
            known = read_json(file) or known  # another process may have been faster
            write_json(file, known)
    rates: dict[str, float] = known["measured"]
    return rates


def _config(folder: Path) -> dict[str, Any]:
    written: dict[str, Any] = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8-sig"))
    return {name: max(value) if _is_sizes(value) else value for name, value in (written | (written.get("text_config") or {})).items()}


def _is_sizes(value: object) -> bool:
    """Whether this is a list of sizes, one a layer."""
    return isinstance(value, list) and bool(value) and all(isinstance(item, int) for item in value)


def _hidden(config: dict[str, Any]) -> int:
    return int(config.get("hidden_size") or config.get("n_embd") or config.get("d_model") or 1024)


def _feed_forward(config: dict[str, Any]) -> tuple[int, int]:
    """Input and output size; four times the input if the config does not say."""
    hidden = _hidden(config)
    return hidden, int(config.get("intermediate_size") or config.get("ffn_dim") or config.get("n_inner") or 4 * hidden)


def _products(hidden: int, intermediate: int) -> dict[str, float]:
    import torch

    calls = {}
    for name in FORMATS:
        dtype = getattr(torch, name)
        tokens, matrix = torch.ones(_TOKENS, hidden, dtype=dtype), torch.ones(intermediate, hidden, dtype=dtype)
        calls[name] = partial(torch.nn.functional.linear, tokens, matrix)
    return {name: round(2 * _TOKENS * hidden * intermediate / seconds / 1e9, 1) for name, seconds in _seconds(calls).items()}


def _attentions(heads: int, key_heads: int, size: int, dtype: str) -> dict[str, float]:
    import torch

    from kp.models.product_attention import attend

    kind, tokens = getattr(torch, dtype), _ATTENTION_TOKENS
    numbers = (heads, key_heads, key_heads)
    queries, keys, values = (torch.randn(1, number, tokens, size, dtype=kind, requires_grad=True) for number in numbers)
    hidden = torch.triu(torch.ones(tokens, tokens, dtype=torch.bool), 1)
    mask = torch.zeros(tokens, tokens, dtype=kind).masked_fill(hidden, torch.finfo(kind).min)

    def sdpa() -> None:
        wide_keys, wide_values = (shared.repeat_interleave(heads // key_heads, dim=1) for shared in (keys, values))
        torch.nn.functional.scaled_dot_product_attention(queries, wide_keys, wide_values, attn_mask=mask).sum().backward()

    def eager() -> None:
        attend(queries, keys, values, mask, size**-0.5).sum().backward()

    return _seconds({"sdpa": sdpa, "eager": eager})


def _seconds(calls: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """The shortest time of each call, made in turns: other processes slow all of them down, and none for the whole time."""
    shortest = dict.fromkeys(calls, math.inf)
    for call in calls.values():
        for _ in range(_WARM_UP):
            call()
    until = time.perf_counter() + _SECONDS
    while time.perf_counter() < until or math.inf in shortest.values():
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            shortest[name] = min(shortest[name], time.perf_counter() - began)
    return shortest
