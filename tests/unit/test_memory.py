"""Freed memory stays with a process that keeps it, and on a GPU in segments that grow."""

import subprocess
import sys

import pytest

from kp.models.memory import use_expandable_segments

_ROUNDS = """
import resource, sys, threading
import torch
from kp.models.memory import keep_freed_memory

def held():
    before = resident()
    activations = [torch.ones(750_000) for _ in range(40)]  # 3 MB each, 120 MB in all
    while activations:  # freed from the last to the first, as by a backward pass
        activations.pop()
    return resident() - before

def resident():  # bytes
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

def run():
    if sys.argv[1] == "keep":
        keep_freed_memory()
    print(held())

if sys.argv[2] == "thread":  # where Ray Train trains
    worker = threading.Thread(target=run)
    worker.start()
    worker.join()
else:
    run()
"""
_MADE = 120_000_000  # bytes


def _held(keep: str, where: str) -> int:
    done = subprocess.run([sys.executable, "-c", _ROUNDS, keep, where], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="only the C library of Linux gives memory back in this way")
def test_freed_memory_stays_with_the_process() -> None:
    assert _held("give back", "main") < _MADE / 2
    assert _held("keep", "main") > _MADE * 0.9
    assert _held("keep", "thread") > _MADE * 0.9


def test_segments_of_a_gpu_are_expandable_unless_the_environment_says_otherwise() -> None:
    environment: dict[str, str] = {}
    use_expandable_segments(environment)
    assert environment == {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        own = {name: "max_split_size_mb:128"}
        use_expandable_segments(own)
        assert own == {name: "max_split_size_mb:128"}
