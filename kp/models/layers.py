"""A causal model that is left or entered between two of its layers.

Below the first layer that an adapter changes, a model computes the same for every such adapter and in every epoch of training. So these
layers are run once (`left_at`), and the model is then run from the first adapted layer on (`entered_at`).

Only the `forward` of the layers that are skipped is replaced, on the objects, within a context. So the model does everything else itself:
embeddings, masks, positions, the norm and the head above. Its layers keep their attributes and their hooks, whoever has wrapped the model.
A model whose upper layers read more of the lower ones than hidden states (keys that several layers share) is found out by
`validate_entering`, which compares logits.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kp.errors import UserError
from kp.vocabulary import LAYERS_FIELD

_RANDOM = ("drop", "jitter")  # in the names of a config's fields that make a model in training draw random numbers
_NOT_OF_LAYERS = ("classifier", "summary")
_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-7}
_TOLERANCE_ELSE = 2e-2

_tuples: dict[type[nn.Module], bool] = {}  # by a layer's class, whether it returns its hidden states in a tuple


@dataclass
class Reached:
    """What `left_at` finds."""

    hidden: Tensor | None = None
    """The hidden states [lines, tokens, width] that entered the layer in the last pass; None before the first."""


def decoder_layers(base: Any) -> nn.ModuleList:
    """The layers of a causal model, in order, each with attention and feed-forward; `base` is not wrapped by PEFT.

    Raises UserError naming LAYERS_FIELD if the model keeps them otherwise than in one list of `num_hidden_layers` modules.
    """
    wanted = int(base.config.get_text_config().num_hidden_layers)
    modules = deque([base.get_decoder()])
    while modules:  # the outermost such list: the experts of a layer may be as many
        module = modules.popleft()
        if isinstance(module, nn.ModuleList) and len(module) == wanted:
            return module
        modules.extend(module.children())
    raise UserError(f"a {base.config.model_type} has no list of {wanted} layers: use all layers", field=LAYERS_FIELD)


@contextmanager
def left_at(base: Any, layer: int) -> Iterator[Reached]:
    """Skip the layers from `layer` on; the value has the hidden states that entered it after each pass of the model.

    The head is computed on them, and its logits mean nothing: request few.
    """
    layers, reached = decoder_layers(base), Reached()
    _validate(layers, layer)
    as_tuple = returns_tuples(base)

    def keep(hidden: Tensor) -> Tensor:
        reached.hidden = hidden
        return hidden

    with _replaced(layers[layer : layer + 1], keep, as_tuple), _replaced(layers[layer + 1 :], _untouched, as_tuple):
        yield reached


@contextmanager
def entered_at(base: Any, layer: int, hidden: Tensor) -> Iterator[None]:
    """Skip the layers below `layer`, whose input is `hidden` [lines, tokens, width] instead; gradients end there.

    The model must be called with the same tokens or as many others, positions and masks as those that `hidden` was computed with.
    """
    layers = decoder_layers(base)
    _validate(layers, layer)
    as_tuple = returns_tuples(base)

    def enter(_: Tensor) -> Tensor:
        return hidden.detach()

    with _replaced(layers[: layer - 1], _untouched, as_tuple), _replaced(layers[layer - 1 : layer], enter, as_tuple):
        yield


def validate_entering(base: Any, layer: int, ids: Sequence[int]) -> None:
    """Raise UserError naming LAYERS_FIELD unless the model, entered at `layer`, has the logits that it has from its first layer on.

    `ids` are some tokens to try it with.
    """
    with _evaluating(base), torch.no_grad():
        tokens = torch.tensor([list(ids)], device=base.get_input_embeddings().weight.device)
        own = base(input_ids=tokens, use_cache=False).logits
        with left_at(base, layer) as reached:
            base(input_ids=tokens, use_cache=False)
        assert reached.hidden is not None
        with entered_at(base, layer, reached.hidden):
            entered = base(input_ids=tokens, use_cache=False).logits
    distance = float((entered.double() - own.double()).norm() / own.double().norm())
    if not distance <= _TOLERANCE.get(own.dtype, _TOLERANCE_ELSE):
        kind = base.config.model_type
        raise UserError(
            f"a {kind} cannot be run from layer {layer} on (its logits move by {distance:.1%}): use all layers", field=LAYERS_FIELD
        )


def has_own_dropout(base: Any) -> bool:
    """Whether the model itself, without an adapter, draws random numbers in training (dropout, jitter of routers).

    If so, its lower layers compute something else in each pass of training, and the same in each pass of evaluation.
    """
    config = base.config.get_text_config().to_dict()
    fields = (
        value
        for name, value in config.items()
        if any(word in name for word in _RANDOM) and not any(word in name for word in _NOT_OF_LAYERS)
    )
    modules = (module for path, module in base.named_modules() if isinstance(module, nn.Dropout) and "lora_" not in path)
    return any(isinstance(value, int | float) and value > 0 for value in fields) or any(module.p > 0 for module in modules)


def returns_tuples(base: Any) -> bool:
    """Whether the layers return their hidden states in a tuple.

    One token is passed through a model with layers of a class that was not seen before; call it where that is allowed.
    """
    first = decoder_layers(base)[0]
    if type(first) not in _tuples:
        seen = []
        handle = first.register_forward_hook(lambda module, inputs, output: seen.append(isinstance(output, tuple)))
        try:
            with _evaluating(base), torch.no_grad():
                base(input_ids=torch.zeros(1, 1, dtype=torch.long, device=base.get_input_embeddings().weight.device), use_cache=False)
        finally:
            handle.remove()
        _tuples[type(first)] = seen[0]
    return _tuples[type(first)]


def _validate(layers: nn.ModuleList, layer: int) -> None:
    if not 0 < layer < len(layers):
        raise ValueError(f"layer {layer}: a model of {len(layers)} layers can be left and entered at 1 to {len(layers) - 1}")


def _untouched(hidden: Tensor) -> Tensor:
    return hidden


@contextmanager
def _replaced(layers: Any, give: Any, as_tuple: bool) -> Iterator[None]:
    """Each of these layers gives `give(its input)` within the context."""

    def forward(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        given = give(hidden_states)
        return (given,) if as_tuple else given

    own = [layer.__dict__.get("forward") for layer in layers]  # whoever wrapped the model may have replaced it on the object, too
    for layer in layers:
        layer.forward = forward
    try:
        yield
    finally:
        for layer, replaced in zip(layers, own, strict=True):
            if replaced is None:
                del layer.forward
            else:
                layer.forward = replaced


@contextmanager
def _evaluating(base: Any) -> Iterator[None]:
    training = [module for module in base.modules() if module.training]
    base.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
