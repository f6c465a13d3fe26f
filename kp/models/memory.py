"""Keep the memory that a process frees, where passes of a model on a CPU allocate and free the same activations again and again.

The C library of Linux returns freed memory to the system, which gives it back page by page, each zeroed at its first use. For a training
step of a small model that is up to a fifth of its time. The peak is the same: what is kept is what a step needs again.
"""

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # numbers in malloc.h
_LARGEST_INT = 2**31 - 1
_MEGABYTE = 2**20


def keep_freed_memory() -> None:
    """Let this process keep what it frees; does nothing where the C library is another than that of GNU."""
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 32 * _MEGABYTE)  # the most that it accepts
        mallopt(_TRIM_THRESHOLD, _LARGEST_INT)
        mallopt(_TOP_PAD, 64 * _MEGABYTE)
