"""A causal model of transformers as functions from tokens to the requested logits."""

import inspect
from typing import Any

import torch
from torch import Tensor

from kp.generation.attention import attending_to, exchanged_attention, validate_layer_types
from kp.generation.slots import Line, NotShareableError, Slots
from kp.models.layers import entered_at, left_at

# How much the logits of a packed prompt may differ from the model's own, relative to their size. Another order of summation changes the
# sixth digit in float32 and the second in bfloat16; attention to other tokens changes the first.
_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}
_TOLERANCE_ELSE = 0.1


class Forward:
    """A model, plain or wrapped by PEFT; made once per model, because it inspects signatures."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.base = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._accepted = inspect.signature(self.base.forward).parameters

    @property
    def device(self) -> torch.device:
        """The model's device."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def layers(self) -> range:
        """The attention layers."""
        return range(int(self.base.config.get_text_config().num_hidden_layers))

    def validate_shareable(self) -> None:
        """Raise NotShareableError if the model's class or config shows that its attention cannot be replaced."""
        wanted = {"position_ids", "logits_to_keep", "past_key_values"}
        if not getattr(self.base, "_supports_attention_backend", False) or not wanted <= self._accepted.keys():
            raise NotShareableError("its attention cannot be replaced")
        validate_layer_types(self.base.config.get_text_config())

    def packed(self, line: Line, slots: Slots, entered: tuple[int, Tensor] | None = None) -> Tensor:
        """Logits [wanted, vocabulary] after the tokens of a line; call it only inside `exchanged_attention`.

        With `entered`, a layer and the hidden states [tokens, width] that enter it, the layers below it are skipped.
        """
        if entered is None:
            return self._packed(line, slots, len(self.layers))
        layer, hidden = entered
        with entered_at(self.base, layer, hidden[None]):
            return self._packed(line, slots, len(self.layers) - layer)

    def packed_below(self, layer: int, line: Line, slots: Slots) -> Tensor:
        """The hidden states [tokens, width] of a line that enter `layer`; the layers above are skipped. Call it as `packed`."""
        with left_at(self.base, layer) as reached:
            self._packed(line, slots, layer)
        assert reached.hidden is not None
        return reached.hidden[0]

    def _packed(self, line: Line, slots: Slots, layers: int) -> Tensor:
        cache = slots.begin(line)
        every = len(line.wanted) == line.ids.shape[1]
        with attending_to(slots):
            output = self.model(
                input_ids=line.ids,
                position_ids=line.positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=0 if every else line.wanted,  # 0 stands for all
            )
        slots.end(layers)
        logits: Tensor = output.logits[0]
        return logits

    def plain(self, ids: Tensor, positions: Tensor, mask: Tensor | None, cache: Any) -> tuple[Tensor, Any]:
        """The model's own way: `ids` and `positions` are [rows, new tokens]; returns logits [rows, vocabulary] and the cache."""
        optional: dict[str, Any] = {"logits_to_keep": 1} if "logits_to_keep" in self._accepted else {}
        if "position_ids" in self._accepted:
            optional["position_ids"] = positions
        output = self.model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **optional)
        return output.logits[:, -1], output.past_key_values

    def exchanged(self) -> Any:
        """The context in which `packed` may be called."""
        return exchanged_attention(self.base)


def validate_logits(ours: Tensor, own: Tensor) -> None:
    """Raise NotShareableError if the logits [vocabulary] of a packed prompt differ from those of the model's own attention."""
    allowed = _TOLERANCE.get(own.dtype, _TOLERANCE_ELSE)
    distance = float((ours.double() - own.double()).norm() / own.double().norm())
    if not distance <= allowed:
        raise NotShareableError(f"packed prompts give other logits than its own attention (by {distance:.1%})")
