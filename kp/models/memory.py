"""How a process that runs passes of a model manages its memory.

On a CPU, passes allocate and free the same activations again and again, and the C library of Linux returns freed memory to the system,
which gives it back page by page, each zeroed at its first use. For a training step of a small model that is up to a fifth of its time. So
it is kept. The peak is the same: what is kept is what a step needs again.

On a GPU, PyTorch keeps what is freed in segments of the sizes that were asked for. Batches of rows differ in size, so that segments end up
with gaps that no tensor fits, and memory runs out while much of it is free. Segments that grow have no such gaps.

Several processes may share a GPU. Each takes what it finds free, the first of them all of it, unless it is held to its part.
"""

import ctypes
import os
import sys
from collections.abc import MutableMapping

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # numbers in malloc.h
_LARGEST_INT = 2**31 - 1
_MEGABYTE = 2**20
CONTEXT_BYTES = 2**30
"""Of a GPU's memory, for each process that uses it: CUDA's context and kernels, which PyTorch's allocator does not count."""
_ALLOCATOR_VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")


def keep_freed_memory() -> None:
    """Let this process keep what it frees; does nothing where the C library is another than that of GNU."""
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 32 * _MEGABYTE)  # the most that it accepts
        mallopt(_TRIM_THRESHOLD, _LARGEST_INT)
        mallopt(_TOP_PAD, 64 * _MEGABYTE)


def share_gpu(processes: int) -> None:
    """Hold this process to its part of the current GPU's memory, which so many processes share; call it before it allocates any."""
    if processes == 1:
        return
    import torch

    device = torch.cuda.current_device()
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(memory_part(total, processes), device)


def memory_part(total: int, processes: int) -> float:
    """The fraction of a GPU's `total` bytes that each of so many processes may allocate: what is left of it by their CUDA contexts."""
    return max(total / processes - CONTEXT_BYTES, 0) / total


def use_expandable_segments(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let PyTorch's CUDA allocator grow its segments, unless the environment has settings for it; call it before CUDA is used."""
    if not any(name in environment for name in _ALLOCATOR_VARIABLES):
        environment[_ALLOCATOR_VARIABLES[0]] = "expandable_segments:True"
