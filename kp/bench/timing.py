"""Timing that waits for the device: CUDA calls return before they have computed."""

import time
from collections.abc import Callable
from typing import TypeVar

import torch

Result = TypeVar("Result")


def timed(device: torch.device, compute: Callable[[], Result]) -> tuple[Result, float]:
    """What `compute` returns, and the seconds until all of its work on `device` is done."""
    wait_for(device)
    start = time.perf_counter()
    result = compute()
    wait_for(device)
    return result, time.perf_counter() - start


def wait_for(device: torch.device) -> None:
    """Wait until the device has finished all queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
