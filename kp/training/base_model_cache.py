"""What a worker keeps from one trial to the next: tokenizer and chat, and the base model if the trial did not change it."""

from collections.abc import Sequence
from typing import Any

from kp.errors import UserError
from kp.inference.answering import EngineSpec
from kp.models.chat import Chat
from kp.models.loading import load_model, load_tokenizer, resolve_model
from kp.training.encoding import EncodedRow
from kp.training.loss import validate_layout
from kp.vocabulary import Attention, Packing


class BaseModelCache:
    """One worker's base model; `engine` determines the model, its dtype and its device."""

    def __init__(self, engine: EngineSpec) -> None:
        self.engine = engine
        self.resolved = resolve_model(engine.model, engine.model_field)
        self.tokenizer = load_tokenizer(self.resolved, engine.model_field)
        self.chat = Chat(self.tokenizer, engine.model_field)
        self.device = "cuda" if engine.use_gpu else "cpu"
        self._base: Any = None
        self._tried: set[Packing] = set()

    def acquire(self) -> Any:
        """The base model without an adapter; it is loaded unless one was released."""
        base, self._base = self._base, None
        if base is None:
            base = load_model(self.resolved, self.engine.model.dtype, self.device)
            if (attention := self.engine.attention) is not Attention.AUTO:
                # What torch's fused kernel cannot compute, such as attention sinks, has only matrix products.
                base.set_attn_implementation(str(attention if base._supports_sdpa else Attention.EAGER))
        return base

    def validate_layout(self, base: Any, rows: Sequence[EncodedRow], packing: Packing) -> None:
        """See kp.training.loss; once for each packing, with the longest of these rows and the shortest."""
        if packing not in self._tried:
            by_length = sorted(rows, key=lambda row: len(row.ids))
            validate_layout(base, [by_length[0], by_length[-1]], packing, self.tokenizer.pad_token_id, self.device)
        self._tried.add(packing)

    def release(self, base: Any) -> None:
        """Return the model from `acquire`, with its weights and modules unchanged."""
        self._base = base


def validate_packing(config: Any, packing: Packing, longest: int) -> None:
    """Raise UserError for a model that cannot read a prefix tree; `config` is transformers', `longest` the tokens of the longest row."""
    if packing is Packing.PREFIX_TREE and (reason := against_trees(config, longest)) is not None:
        raise UserError(f"{reason}: use 'padded'", field="training.packing")


def against_trees(config: Any, longest: int) -> str | None:
    """Why a model cannot read a prefix tree; None if nothing in its config is against it.

    A token of the tree sees the tokens on its path from the root, and its position is its depth. That is all that attention needs, but a
    recurrent state would be wrong. A sliding window is ignored, which is right as long as no row is longer than the window.
    """
    window = getattr(config, "sliding_window", None)
    if window and longest > window and getattr(config, "use_sliding_window", True):
        return f"a row of {longest} tokens is longer than the model's sliding window of {window}"
    stateful = sorted({"conv_kernel", "mamba_d_state", "ssm_state_size", "state_size", "linear_num_value_heads"} & set(vars(config)))
    return f"{config.model_type} keeps a recurrent state (its config has {stateful[0]})" if stateful else None
