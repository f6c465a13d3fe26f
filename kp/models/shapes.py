"""The sizes of a model's matrices, and so of an adapter on it, so that a plan can estimate disk space before weights are loaded.

A model on this machine has its sizes in config.json. For other models the plan must not fetch anything; the published shapes of the models
that such studies commonly use are listed below. For any other model the size is unknown, rather than guessed.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kp.models.loading import describe_model
from kp.models.names import CONFIG_FILE, EMBEDDED, NamedModel, cache_root

# The families (`model_type`) whose every layer has exactly the seven matrices below under these names. A mixture of experts, or a model
# that fuses several of them into one matrix, is not among them.
_TIED = ("gemma", "gemma2", "smollm3")  # whose head is their embeddings, unless their config.json says otherwise
FAMILIES = ("gemma", "gemma2", "granite", "llama", "mistral", "olmo", "olmo2", "qwen2", "qwen3", "smollm3")


@dataclass(frozen=True)
class ModelShape:
    """A decoder's sizes; `origin` says where they come from."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    origin: str
    embeddings: int = 0
    """Numbers of its embeddings, and of its head if that has its own; 0 if its config does not say how many tokens it knows."""

    @property
    def parameters(self) -> int:
        """Numbers of all its matrices; norms and biases are a ten-thousandth of them."""
        return self.layers * sum(inputs * outputs for inputs, outputs in self.matrices().values()) + self.embeddings

    def matrices(self) -> dict[str, tuple[int, int]]:
        """The matrices of one layer that an adapter can target: name -> input size, output size."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return {
            "q_proj": (self.hidden, queries),
            "k_proj": (self.hidden, keys),
            "v_proj": (self.hidden, keys),
            "o_proj": (queries, self.hidden),
            "gate_proj": (self.hidden, self.intermediate),
            "up_proj": (self.hidden, self.intermediate),
            "down_proj": (self.intermediate, self.hidden),
        }

    def adapter_parameters(self, target_modules: Sequence[str], rank: int, layers: int | None = None) -> int | None:
        """Parameters of a LoRA adapter on so many layers or all, r (in + out) for each target matrix; None if a module is not one of a
        layer's."""
        matrices = self.matrices()
        if not set(target_modules) <= matrices.keys():
            return None
        return (layers or self.layers) * sum(rank * sum(matrices[name]) for name in set(target_modules))


PUBLISHED = "its published shape"

_Published = tuple[tuple[int, int, int, int, int, int], int]
# Hidden, intermediate, layers, heads, key and value heads, head size; and the rows of the embeddings and of a head that has its own.
_PUBLISHED: dict[str, _Published] = {
    EMBEDDED: ((576, 1536, 30, 9, 3, 64), 49152),
    "huggingfacetb/smollm2-135m-instruct": ((576, 1536, 30, 9, 3, 64), 49152),
    "meta-llama/llama-3.1-8b-instruct": ((4096, 14336, 32, 32, 8, 128), 2 * 128256),
    "meta-llama/llama-3.1-8b": ((4096, 14336, 32, 32, 8, 128), 2 * 128256),
    "meta-llama/llama-3.2-1b-instruct": ((2048, 8192, 16, 32, 8, 64), 128256),
    "meta-llama/llama-3.2-3b-instruct": ((3072, 8192, 28, 24, 8, 128), 128256),
    "mistralai/mistral-7b-instruct-v0.3": ((4096, 14336, 32, 32, 8, 128), 2 * 32768),
}


def model_shape(model: NamedModel) -> ModelShape | None:
    """The model's shape from its files if they are here, otherwise as published; None if unknown. Fetches nothing."""
    folder = model_folder(model)
    if folder is not None:
        return shape_of_config(json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8")))
    published = _PUBLISHED.get(model.name.lower())
    if published is None:
        return None
    sizes, rows = published
    return ModelShape(*sizes, PUBLISHED, rows * sizes[0])


def model_folder(model: NamedModel) -> Path | None:
    """The folder with the model's config.json on this machine; None if it is not here yet."""
    folder = Path(model.name).expanduser()
    if model.name == EMBEDDED:
        folder = cache_root() / "models" / f"{EMBEDDED}-{describe_model(model)}"
    elif not folder.is_dir():
        return _hub_folder(model)
    return folder if (folder / CONFIG_FILE).is_file() else None


def shape_of_config(config: dict[str, Any]) -> ModelShape | None:
    """The shape given by a config.json; None for a family that is not in FAMILIES."""
    if config.get("model_type") not in FAMILIES:
        return None
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    is_tied = config.get("tie_word_embeddings", config["model_type"] in _TIED)
    return ModelShape(
        hidden=hidden,
        intermediate=config["intermediate_size"],
        layers=config["num_hidden_layers"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or hidden // heads,
        origin=CONFIG_FILE,
        embeddings=config.get("vocab_size", 0) * hidden * (1 if is_tied else 2),
    )


def _hub_folder(model: NamedModel) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(model.name, CONFIG_FILE, revision=model.revision)
    except HFValidationError:
        return None
    return Path(found).parent if isinstance(found, str) else None
