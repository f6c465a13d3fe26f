"""Freed memory that a process keeps is used again without a page of it coming from the system."""

import subprocess
import sys

import pytest

_ROUNDS = """
import resource, sys, threading
import torch
from kp.models.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    activations = [torch.ones(750_000) for _ in range(40)]  # 3 MB each, 120 MB in all
    while activations:  # freed from the last to the first, as by a backward pass
        activations.pop()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def run():
    if sys.argv[1] == "keep":
        keep_freed_memory()
    print([faults() for _ in range(4)][-1])

if sys.argv[2] == "thread":  # where Ray Train trains
    worker = threading.Thread(target=run)
    worker.start()
    worker.join()
else:
    run()
"""
_PAGES = 120_000_000 // 4096


def _faults_of_a_later_round(keep: str, where: str) -> int:
    done = subprocess.run([sys.executable, "-c", _ROUNDS, keep, where], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="only the C library of Linux gives memory back in this way")
def test_freed_memory_is_used_again() -> None:
    assert _faults_of_a_later_round("give back", "main") > _PAGES / 2
    assert _faults_of_a_later_round("keep", "main") < _PAGES / 20
    assert _faults_of_a_later_round("keep", "thread") < _PAGES / 20
