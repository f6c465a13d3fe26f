"""Whether a model gives the same logits with packed attention as with its own: checked on a real prompt, before anything is relied on."""

from collections.abc import Callable

from torch import Tensor

from kp.errors import first_line
from kp.generation.forward import Forward, validate_logits
from kp.generation.memory import is_out_of_memory
from kp.generation.slots import NotShareableError


def validate_packed(forward: Forward, packed: Callable[[], Tensor], own: Tensor) -> None:
    """Raise NotShareableError unless `packed()`, called with exchanged attention, returns the model's own logits [vocabulary]."""
    try:
        with forward.exchanged():
            validate_logits(packed(), own)
    except RuntimeError as error:  # tensors of other shapes than usual attention has
        if is_out_of_memory(error):
            raise
        raise NotShareableError(f"its attention cannot be replaced: {first_line(error)}") from error
