"""Starting a vLLM engine on a machine where others start, or end, at the same time.

vLLM sizes its memory by what is free on the GPU while it starts. Another engine that starts there takes of it, and a process that is about
to end gives it back, and in both cases vLLM refuses to start. So engines of one GPU start one after another, and one that finds memory or
its port taken tries once more. Engines of different GPUs start at the same time, because they share neither.
"""

import gc
import logging
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from kp.errors import UserError, first_line
from kp.store.file_locks import locked

RETRY_SECONDS = 15.0
"""Until the second try: what a process takes to end and give its memory back."""

_MEMORY = re.compile(r"[Ff]ree memory on device|[Ee]rror in memory profiling|[Aa]vailable memory on node")
_PORT = re.compile(r"EADDRINUSE|[Aa]ddress already in use")

_log = logging.getLogger(__name__)

Engine = TypeVar("Engine")


def started(make: Callable[[], Engine], clean: Callable[[], None], wait: Callable[[float], None] = time.sleep) -> Engine:
    """The engine that `make` starts, while no other one starts on this GPU; `clean` removes what a failed start has left.

    Raises UserError naming resources.vllm_memory_share if memory is taken at the second try, too.
    """
    with alone_on_gpu():
        try:
            return make()
        except Exception as error:
            if not _is_race(error):
                raise
            reason = first_line(error)
        _log.warning("vLLM could not start (%s); it is tried once more in %.0f s", reason, RETRY_SECONDS)
        clean()
        gc.collect()
        wait(RETRY_SECONDS)
        try:
            return make()
        except Exception as error:
            if not _says(error, _MEMORY):
                raise
            raise UserError(
                f"vLLM found too little free memory, twice ({first_line(error)}): end what else computes there, or lower this share",
                field="resources.vllm_memory_share",
            ) from error


@contextmanager
def alone_on_gpu(folder: Path | None = None) -> Iterator[None]:
    """Wait until no other process of this user is within this block for the same GPUs of this machine."""
    gpus = re.sub(r"[^A-Za-z0-9]+", "-", os.environ.get("CUDA_VISIBLE_DEVICES") or "all")
    path = (folder or Path(tempfile.gettempdir())) / f"kp-vllm-{os.getuid()}-{gpus}.lock"
    with locked(path, lambda: _log.info("waiting for another vLLM engine of GPU %s to start", gpus)):
        yield


def _is_race(error: BaseException) -> bool:
    return _says(error, _MEMORY) or _says(error, _PORT)


def _says(error: BaseException | None, what: re.Pattern[str]) -> bool:
    """Whether the error, or one that led to it, has such a message."""
    while error is not None:
        if what.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False
