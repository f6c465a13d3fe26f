"""Everything about a model that can be found out without its weights: whether kp can use it, and how it reads a chat.

A model that kp cannot use is refused here, from a few small files, before Ray starts and before weights are fetched; and what kp settles by
itself, such as the place of the system's text, is said.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from kp.errors import UserError
from kp.models.architecture import empty_model, model_config, resolved_modules, without_prefix_trees
from kp.models.chat import Chat
from kp.models.loading import load_tokenizer
from kp.models.names import NAME_FIELD, NamedModel, ResolvedModel

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ModelProbe:
    """What was found out; `modules` are those that an adapter targets, groups written out, or the error that says why it cannot."""

    chat_digest: str  # of a chat as the model reads it
    layers: int
    notes: tuple[str, ...]  # what kp settled, one line each
    modules: tuple[str, ...] | UserError
    against_trees: str | None  # why rows must be padded, if they must


def probe_model(model: NamedModel, folder: Path, target_modules: Sequence[str] = (), field: str = NAME_FIELD) -> ModelProbe:
    """Probe the model whose small files are in `folder`; UserError for `field`, the config field of the model, if kp cannot use it."""
    config = model_config(folder, model.name, field)
    empty = empty_model(config, model.name, field)
    chat = Chat(load_tokenizer(ResolvedModel(model.name, str(folder), ""), field), field)
    rows = len(cast("torch.Tensor", empty.get_input_embeddings().weight))
    if (largest := max(chat.probe_ids)) >= rows:
        token = chat.tokenizer.convert_ids_to_tokens(largest)
        raise UserError(
            f"'{model.name}': a prompt has the token {token!r} ({largest}), and its embedding has {rows} rows: "
            "the tokenizer is of another model",
            field=field,
        )
    modules: tuple[str, ...] | UserError
    try:
        modules = resolved_modules(empty, target_modules)
    except UserError as error:
        modules = error
    layers = config.get_text_config().num_hidden_layers
    return ModelProbe(chat.digest, layers, tuple(chat.form.notes()), modules, without_prefix_trees(config))
