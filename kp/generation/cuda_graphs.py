"""Passes recorded as CUDA graphs: a GPU then launches the thousand operations of a pass by itself, from one call of the host.

A recording takes about three passes and keeps what a pass has in memory, in a pool that all recordings share. So a shape is recorded when
it has come up a few times, and the recording that was used least recently is dropped for a new one.
"""

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

import torch

from kp.errors import first_line
from kp.generation.memory import is_out_of_memory
from kp.generation.static_passes import PassShape

_log = logging.getLogger(__name__)

MOST_GRAPHS = 24
SEEN_BEFORE = 3
"""Passes of a shape that are made in the usual way before one is recorded."""


class GraphRecorder:
    """A Recorder of one CUDA device; see kp.generation.static_passes."""

    def __init__(self) -> None:
        self.replayed = 0
        self._graphs: OrderedDict[PassShape, torch.cuda.CUDAGraph] = OrderedDict()
        self._seen: Counter[PassShape] = Counter()
        self._pool: Any = None
        self._refused = False

    def takes(self, shape: PassShape) -> bool:
        """After SEEN_BEFORE passes of the shape, and never again after one that could not be recorded."""
        self._seen[shape] += 1
        return not self._refused and self._seen[shape] > SEEN_BEFORE

    def run(self, shape: PassShape, work: Callable[[], None]) -> None:
        """Replay the pass, which is recorded first if it is not.

        A model whose passes wait for the device cannot be recorded: a warning says so, and its passes are made in the usual way.
        """
        if shape not in self._graphs:
            while len(self._graphs) >= MOST_GRAPHS:
                self._graphs.popitem(last=False)
            try:
                self._graphs[shape] = self._recorded(work)
            except RuntimeError as error:
                if is_out_of_memory(error):
                    raise
                self._refused = True
                _log.warning("passes are launched operation by operation, because they cannot be recorded: %s", first_line(error))
                work()
                return
        self._graphs.move_to_end(shape)
        self._graphs[shape].replay()
        self.replayed += 1

    def forget(self) -> None:
        """Drop all recordings with their memory."""
        self._graphs.clear()
        self._seen.clear()
        self._pool = None

    def _recorded(self, work: Callable[[], None]) -> torch.cuda.CUDAGraph:
        beside, usual = torch.cuda.Stream(), torch.cuda.current_stream()
        beside.wait_stream(usual)
        with torch.cuda.stream(beside):
            work()  # libraries prepare themselves at their first call on a stream, which cannot be recorded
        usual.wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        # Only calls of this thread are recorded: another one may prepare text meanwhile, which a stricter mode would take for a fault.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            work()
        self._pool = graph.pool()
        return graph
