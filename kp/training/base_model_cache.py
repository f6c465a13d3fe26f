"""What a worker keeps from one trial to the next: tokenizer and chat, the base model if the trial did not change it, and what the layers
below the first adapted one have computed.

The latter is right for every trial, also for one that changed its base: an init moves weights of adapted layers only.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from kp.errors import UserError
from kp.inference.answering import EngineSpec
from kp.models.architecture import longest_row_in_windows, recurrent_layers
from kp.models.chat import Chat
from kp.models.loading import load_model, load_tokenizer, resolve_model
from kp.models.memory import keep_freed_memory, share_gpu, use_expandable_segments
from kp.models.node_copies import on_this_node
from kp.training.activations import ActivationStore
from kp.training.encoding import EncodedRow
from kp.training.frozen_layers import FrozenLayers, first_adapted_layer
from kp.training.loss import validate_layout
from kp.vocabulary import Attention, Packing

_log = logging.getLogger(__name__)


class BaseModelCache:
    """One worker's base model; `engine` determines the model, its dtype and its device."""

    def __init__(self, engine: EngineSpec) -> None:
        self.engine = engine
        self.resolved = on_this_node(resolve_model(engine.model, engine.model_field), engine.model_field)
        self.tokenizer = load_tokenizer(self.resolved, engine.model_field)
        self.chat = Chat(self.tokenizer, engine.model_field)
        self.device = "cuda" if engine.use_gpu else "cpu"
        if engine.use_gpu:
            use_expandable_segments()
            share_gpu(engine.per_gpu)
        else:
            keep_freed_memory()
        self._base: Any = None
        self._tried: set[Packing] = set()
        self._stores: dict[int, ActivationStore] = {}  # by the layer that is entered, the last one used last
        self._reasons: dict[tuple[Packing, int], str | None] = {}

    def acquire(self) -> Any:
        """The base model without an adapter; it is loaded unless one was released."""
        base, self._base = self._base, None
        if base is None:
            base = load_model(self.resolved, self.engine.model.dtype, self.device)
            if (attention := self.engine.attention) is not Attention.AUTO:
                # What torch's fused kernel cannot compute, such as attention sinks, has only matrix products.
                if attention is Attention.SDPA and base._supports_sdpa:
                    base.set_attn_implementation(str(attention))
                else:
                    from kp.models.product_attention import use_products  # only now, because it imports torch

                    use_products(base)
        return base

    def validate_layout(self, base: Any, rows: Sequence[EncodedRow], packing: Packing) -> None:
        """See kp.training.loss; once for each packing, with the longest of these rows and the shortest."""
        if packing not in self._tried:
            by_length = sorted(rows, key=lambda row: len(row.ids))
            validate_layout(base, [by_length[0], by_length[-1]], packing, self.tokenizer.pad_token_id, self.device)
        self._tried.add(packing)

    def frozen_layers(self, model: Any, packing: Packing, rows: Sequence[EncodedRow]) -> FrozenLayers | None:
        """The layers below the first adapted one of `model`, which is PEFT's; None if there are none or they must be computed in each step.

        Whether they must is tried once for each packing, with the longest of `rows` and the shortest; a reason is logged.
        """
        base = model.get_base_model()
        limit = int(self.engine.activation_cache_gib * 2**30)
        if not limit or model.peft_config["default"].layers_to_transform is None or not (first := first_adapted_layer(base)):
            return None
        frozen = FrozenLayers(base, first, self._store(first, limit), packing, self.tokenizer.pad_token_id, self.device)
        if (packing, first) not in self._reasons:
            by_length = sorted(rows, key=lambda row: len(row.ids))
            trial = replace(frozen, store=ActivationStore())
            self._reasons[packing, first] = reason = trial.reason_against([by_length[0], by_length[-1]])
            if reason:
                _log.warning("%s: all layers are computed in every step", reason)
        return None if self._reasons[packing, first] else frozen

    def _store(self, first: int, limit: int) -> ActivationStore:
        """What is kept of this layer; other layers' are dropped, the longest unused first, until they leave half of the room."""
        store = self._stores.pop(first, None)
        while self._stores and sum(other.bytes for other in self._stores.values()) > limit // 2:
            del self._stores[next(iter(self._stores))]
        if store is None:
            store = ActivationStore()
        store.limit = limit - sum(other.bytes for other in self._stores.values())
        self._stores[first] = store
        return store

    def release(self, base: Any) -> None:
        """Return the model from `acquire`, with its weights and modules unchanged."""
        if self.engine.gradient_checkpointing:
            base.gradient_checkpointing_disable()
        self._base = base


def checkpoint_layers(base: Any) -> None:
    """Let a model in training mode compute each layer again in the backward pass, with the dropout of the forward pass.

    To be called once it has its adapter: PEFT would have such a model compute gradients down to its embeddings. Raises UserError if a model
    cannot.
    """
    if not base.supports_gradient_checkpointing:
        raise UserError(f"a {base.config.model_type} cannot compute its layers again", field="resources.gradient_checkpointing")
    # The other way, by re-entering autograd, needs inputs with gradients, and so a backward pass down to the embeddings.
    base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def validate_packing(config: Any, packing: Packing, longest: int) -> None:
    """Raise UserError for a model that cannot read a prefix tree; `config` is transformers', `longest` the tokens of the longest row."""
    if packing is Packing.PREFIX_TREE and (reason := against_trees(config, longest)) is not None:
        raise UserError(f"{reason}: use 'padded'", field="training.packing")


def against_trees(config: Any, longest: int) -> str | None:
    """Why a model cannot read a prefix tree; None if nothing in its config is against it.

    A token of the tree sees the tokens on its path from the root, and its position is its depth. That is all that attention needs, but a
    recurrent state would be wrong. A sliding window is ignored, which is right as long as no row is longer than the window.
    """
    window = longest_row_in_windows(config)
    if window and longest > window:
        return f"a row of {longest} tokens is longer than the model's sliding window of {window}"
    text = config.get_text_config()
    stateful = sorted({"conv_kernel", "mamba_d_state", "ssm_state_size", "state_size", "linear_num_value_heads"} & set(vars(text)))
    stateful += [f"layers of kind {kind}" for kind in recurrent_layers(config)]
    return f"{config.model_type} keeps a recurrent state (its config has {stateful[0]})" if stateful else None
