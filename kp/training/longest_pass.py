"""How many rows of a trial fit in one pass, tried with its longest rows before the first step.

Batches are drawn at random, so the longest rows of a trial may come together in any step of any epoch, and a pass that does not fit then
costs its epoch. So a pass over the longest ones is made first, forwards and backwards, next to the most memory that the optimiser's states
will take. It is thrown away: no weight changes, and what a step draws is seeded by its epoch.
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from kp.training.encoding import EncodedRow
from kp.training.engine import Place, collect_memory, parameter_count

STATE_BYTES = 16
"""Of each trained number: its master copy, two moments, and the sum of its gradients, in float32."""

_log = logging.getLogger(__name__)


def fitting_rows(try_pass: Callable[[Sequence[EncodedRow]], None], rows: Sequence[EncodedRow], most: int, place: Place) -> int:
    """The most rows of a pass, half of `most` and so on until a pass over the longest of `rows` fits in the memory of every worker.

    `try_pass` makes a pass. All workers must call this at the same point. Raises the error of a pass if a single row does not fit.
    """
    longest = sorted(rows, key=lambda row: len(row.ids), reverse=True)
    tried = most
    while True:
        error = _error_of(try_pass, longest[:tried])
        if not any(place.gathered(error is not None)):
            break
        if tried == 1:
            raise error or MemoryError("a row does not fit in the memory of another worker")
        error = None  # its traceback keeps the tensors of the pass
        collect_memory()
        tried = math.ceil(tried / 2)
    if tried < most:
        _log.warning("passes have %d rows, because %d of the longest do not fit in memory", tried, most)
    return tried


def _error_of(try_pass: Callable[[Sequence[EncodedRow]], None], rows: Sequence[EncodedRow]) -> Exception | None:
    """What memory ran out with, if it did."""
    from kp.generation.memory import is_out_of_memory  # only now, because it imports torch

    try:
        try_pass(rows)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return error
    return None


@contextmanager
def room_for_states(model: Any, device: str) -> Iterator[None]:
    """A model in training mode, next to memory of the size that its optimiser's states will have; afterwards it has no gradients."""
    import torch

    trained = sum(parameter_count(parameter) for parameter in model.parameters() if parameter.requires_grad)
    states = torch.empty(STATE_BYTES * trained, dtype=torch.uint8, device=device)
    was_training = model.training
    model.train()
    try:
        yield
    finally:
        model.train(was_training)
        model.zero_grad(set_to_none=True)
        del states
