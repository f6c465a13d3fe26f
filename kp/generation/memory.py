"""The limits of one pass, from the device's free memory and from the measured memory of a pass."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from kp.generation.decoding import Limits, Work, read_prefixes
from kp.generation.forward import Forward
from kp.generation.protocol import DEFAULT_ROWS
from kp.generation.slots import Prefix

LEAST_TOKENS = 512
"""Tokens of a pass on a CPU. More are no faster, and with fewer, fewer rows are unfinished when the questions run out."""

_CUDA_MOST_TOKENS = 16_384
_ROWS_OF_GPUS = ((70 << 30, 1024), (35 << 30, 512))  # by bytes: a GPU of 80 GB reports somewhat less
_PROBE_TOKENS = 1024  # at least
_SHARE = 0.4  # of the free memory, for the rows' keys and values, and as much for a pass
_CACHE_SHARE = 1 / 8
_CACHE_ELSE = 1 << 30

_OUT_OF_MEMORY = re.compile(
    r"CUDA(?: driver)? error: out of memory|\bCU[A-Z]+_STATUS_ALLOC_FAILED|DefaultCPUAllocator: can't allocate memory"
)


@dataclass(frozen=True)
class Room:
    """What was measured next to the model; rows of every length are limited by it.

    Chunks of questions come from the shortest to the longest, so what is right for the first is too much for later ones.
    """

    columns: int | None  # own tokens of all rows together; None if the system does not report its memory
    tokens: int  # of a pass
    longest: int
    """The most tokens, with its prefix, of a row for which the pass was measured."""

    def limits(self, columns: int, most_rows: int) -> Limits:
        """Those of passes whose rows have at most `columns` own tokens."""
        return Limits(most_rows if self.columns is None else max(1, min(most_rows, self.columns // columns)), self.tokens)


def measured_room(forward: Forward, prefix: Prefix | None, longest: int) -> Room:
    """The room for rows of at most `longest` tokens, their prefix included.

    On CUDA the peak of a probe pass is measured; on a CPU free memory limits only the rows. Without a prefix to measure the size of keys
    and values, a short one is made.
    """
    free = _free_bytes(forward.device)
    probe = prefix or read_prefixes(forward, [[0] * 8], 8, Work())[0]
    stored = sum(tensor.element_size() * tensor.numel() for tensor in probe.tensors)
    columns = None if free is None else int(_SHARE * free * probe.tokens / stored)
    if forward.device.type != "cuda":
        return Room(columns, LEAST_TOKENS, sys.maxsize)
    assert free is not None
    probed = max(_PROBE_TOKENS, longest)
    tokens = int(_SHARE * free / _cuda_token_bytes(forward, probed))
    return Room(columns, max(LEAST_TOKENS, min(_CUDA_MOST_TOKENS, tokens)), probed)


def measured_limits(forward: Forward, prefix: Prefix | None, columns: int, most_rows: int) -> Limits:
    """Rows and tokens of a pass that fit in memory next to the model; a row has at most `columns` own tokens."""
    longest = columns + (prefix.tokens if prefix else 0)
    return measured_room(forward, prefix, longest).limits(columns, most_rows)


def default_rows(device: torch.device) -> int:
    """Rows that are decoded together if a study does not say: the larger a GPU, the more. Whether they fit is measured later."""
    if device.type != "cuda":
        return DEFAULT_ROWS
    total = torch.cuda.get_device_properties(device).total_memory
    return next((rows for least, rows in _ROWS_OF_GPUS if total >= least), DEFAULT_ROWS)


def cache_bytes(device: torch.device) -> int:
    """How much an ActivationCache may keep: an eighth of the free memory, or a GiB if the system does not report it."""
    free = _free_bytes(device)
    return _CACHE_ELSE if free is None else int(_CACHE_SHARE * free)


def _cuda_token_bytes(forward: Forward, tokens: int) -> float:
    """Peak memory per token, including its logits, of a pass over one row of so many tokens."""
    device = forward.device
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    read_prefixes(forward, [[0] * tokens], tokens, Work())
    torch.cuda.synchronize(device)
    taken = torch.cuda.max_memory_allocated(device) - before
    logits = forward.base.config.get_text_config().vocab_size * (forward.base.dtype.itemsize + 4)
    return taken / tokens + logits


def _free_bytes(device: torch.device) -> int | None:
    """Memory that this process may still allocate; None if the system does not report it."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        # What others on this GPU have not taken yet seems free; a process that shares it is held to its part.
        part = int(total * torch.cuda.get_per_process_memory_fraction(device))
        return int(min(free + torch.cuda.memory_reserved(device), part) - torch.cuda.memory_allocated(device))
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    available = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), None)
    return None if available is None else int(available) * 1024


def release_memory() -> None:
    """Release freed CUDA memory that PyTorch has cached."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, so that a smaller pass may succeed in the same process.

    Only the allocator of PyTorch has a class for it. CUDA's own allocations (contexts, graphs, NCCL) raise torch.AcceleratorError, its
    libraries a status when they allocate their workspaces, and the allocator of a CPU a plain RuntimeError.
    """
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and bool(_OUT_OF_MEMORY.search(str(error)))
    )
