"""Which decoder layers an adapter changes, as a study file says it and as tables keep it: `all`, `upper:8`, `4,5,20`."""

import re
from typing import Annotated

from pydantic import BeforeValidator

from kp.errors import UserError
from kp.vocabulary import LAYERS_FIELD

ALL_LAYERS = "all"
SEARCHED_LAYERS_FIELD = "search.layers"

_UPPER = re.compile(r"upper:([1-9]\d{0,5})")
_LISTED = re.compile(r"\d{1,6}(,\d{1,6})*")


def _text(value: object) -> object:
    """The text of what a study file says; a ValueError tells what it takes."""
    if isinstance(value, list | tuple) and value and all(type(number) is int for number in value):
        value = ",".join(map(str, value))
    if isinstance(value, str):
        if value == ALL_LAYERS or _UPPER.fullmatch(value):
            return value
        if _LISTED.fullmatch(bare := value.replace(" ", "").strip("[]")):
            return ",".join(map(str, sorted(set(map(int, bare.split(","))))))
    raise ValueError("expected 'all', 'upper:K' for the last K layers, or a list of layer numbers from 0 up, such as [4,5,20]")


Layers = Annotated[str, BeforeValidator(_text)]


def layer_numbers(layers: str, count: int, field: str = LAYERS_FIELD) -> list[int]:
    """The numbers of these layers in a model of `count` layers, ascending; UserError for `field` if the model has no such layer."""
    if layers == ALL_LAYERS:
        return list(range(count))
    upper = _UPPER.fullmatch(layers)
    numbers = list(range(count - int(upper[1]), count)) if upper else list(map(int, layers.split(",")))
    if numbers[0] < 0 or numbers[-1] >= count:
        raise UserError(f"'{layers}' of a model of {count} layers, which are numbered from 0 to {count - 1}", field=field)
    return numbers
