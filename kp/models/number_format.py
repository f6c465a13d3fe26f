"""Which of bfloat16 and float32 a machine multiplies faster, by products of a model's own shapes.

A CPU with matrix units for bfloat16 multiplies it several times as fast as float32, one without them several times as slowly, and neither
its name nor its flags say by how much. So a product is timed, which takes a second, once for a machine and a shape.
"""

import json
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from kp.models.names import CONFIG_FILE, cache_root
from kp.store.files import read_json, write_json
from kp.store.hardware import hardware

FORMATS = ("bfloat16", "float32")
_TOKENS = 256  # rows of a product: about as many as a pass over a batch has
_SECONDS = 0.25  # for each format
_WARM_UP = 2
_CACHE = "number_format.json"


def sees_gpu() -> bool:
    """Whether torch sees a GPU on this machine."""
    import torch

    return torch.cuda.is_available()


def product_rates(folder: Path) -> dict[str, float]:
    """GFLOP/s of a product of 256 tokens with a feed-forward matrix of the model in `folder`, by format; measured once for a machine."""
    hidden, intermediate = _feed_forward(folder)
    key = json.dumps([hardware()["processor"], os.cpu_count(), hidden, intermediate])
    cache = cache_root() / _CACHE
    known: dict[str, dict[str, float]] = read_json(cache) or {}
    if key not in known:
        known[key] = _measured(hidden, intermediate)
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_json(cache, known)
    return known[key]


def _feed_forward(folder: Path) -> tuple[int, int]:
    """Input and output size; four times the input if the config does not say."""
    written = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    config = written | written.get("text_config", {})
    hidden = int(config.get("hidden_size") or config.get("n_embd") or config.get("d_model") or 1024)
    return hidden, int(config.get("intermediate_size") or config.get("ffn_dim") or config.get("n_inner") or 4 * hidden)


def _measured(hidden: int, intermediate: int) -> dict[str, float]:
    import torch

    rates = {}
    for name in FORMATS:
        dtype = getattr(torch, name)
        tokens, matrix = torch.ones(_TOKENS, hidden, dtype=dtype), torch.ones(intermediate, hidden, dtype=dtype)
        seconds = _seconds(partial(torch.nn.functional.linear, tokens, matrix))
        rates[name] = round(2 * _TOKENS * hidden * intermediate / seconds / 1e9, 1)
    return rates


def _seconds(product: Callable[[], object]) -> float:
    """The median time of one product."""
    for _ in range(_WARM_UP):
        product()
    times: list[float] = []
    while sum(times) < _SECONDS:
        began = time.perf_counter()
        product()
        times.append(time.perf_counter() - began)
    return statistics.median(times)
