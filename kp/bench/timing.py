"""Seconds that the device, too, is done with: CUDA returns before it has computed."""

import time
from collections.abc import Callable
from typing import TypeVar

import torch

Result = TypeVar("Result")


def timed(device: torch.device, compute: Callable[[], Result]) -> tuple[Result, float]:
    """What `compute` returns, and the seconds until all of its work on `device` is done."""
    _wait(device)
    start = time.perf_counter()
    result = compute()
    _wait(device)
    return result, time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
