"""What a model's config says it is: whether kp can ask and train it, and which of its modules an adapter can target.

The model is made without weights, on torch's meta device, so that a model of any size is known within seconds and before it is fetched.
"""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kp.errors import UserError, first_line
from kp.models.folders import refuse_quantised
from kp.models.names import CONFIG_FILE
from kp.vocabulary import ModuleGroup

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

TARGETS_FIELD = "training.target_modules"

_UNREADABLE = (OSError, ValueError, LookupError, TypeError, ArithmeticError, AttributeError)  # what sizes that make no sense end in
_CAUSAL = re.compile(r"ForCausalLM|LMHeadModel|ForConditionalGeneration|LMModel")  # in the names of classes that write text
_ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)
_RECURRENT = frozenset(("linear_attention", "mamba", "recurrent", "hybrid"))  # kinds of layers that keep a state
_ROUTERS = frozenset(("gate", "router", "shared_expert_gate", "classifier"))  # they choose experts and hold no knowledge


def model_config(folder: Path, name: str, field: str) -> "PretrainedConfig":
    """The config in this folder; UserError for `field`, the config field of the model, if kp cannot ask and train such a model."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (*_UNREADABLE, StrictDataclassError) as error:
        raise UserError(f"'{name}': {_unknown(folder, error)}", field=field) from None
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise UserError(f"'{name}' is a {config.model_type}, which is no causal language model of transformers", field=field)
    made_for = getattr(config, "architectures", None) or []
    if made_for and not any(_CAUSAL.search(architecture) for architecture in made_for):
        raise UserError(f"'{name}' holds a {made_for[0]}, which does not write text: its head would be random", field=field)
    if getattr(config, "is_encoder_decoder", False):
        raise UserError(f"'{name}' is a {config.model_type}, an encoder with a decoder; kp asks causal language models", field=field)
    refuse_quantised(folder, name, field)
    return config


def _unknown(folder: Path, error: Exception) -> str:
    """Why transformers knows no such config."""
    try:
        written: Any = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8-sig"))
    except ValueError:
        written = {}
    kind = written.get("model_type") if isinstance(written, dict) else None
    if isinstance(written, dict) and written.get("auto_map"):
        return f"a {kind} needs code of its own (auto_map in config.json), which kp does not run: name a model that transformers implements"
    if kind is None:
        return "config.json names no model_type: it is not a model in transformers' format"
    return f"transformers cannot read a {kind}: {first_line(error)}"


def without_prefix_trees(config: "PretrainedConfig") -> str | None:
    """Why rows of this model cannot share their first tokens; None if nothing in its config is against it.

    ALiBi takes the distance of two tokens from their columns, and no mask or position says where a branch of a tree begins.
    """
    attention = getattr(config, "attn_config", None)
    alibi = getattr(config, "alibi", False) or getattr(attention, "alibi", False) or config.model_type == "bloom"
    return f"a {config.model_type} attends by the distance of columns (ALiBi)" if alibi else None


def recurrent_layers(config: "PretrainedConfig") -> tuple[str, ...]:
    """The kinds of layers, as the config names them, that keep a state instead of keys and values."""
    return tuple(sorted(_RECURRENT & set(getattr(config.get_text_config(), "layer_types", None) or ())))


def longest_row_in_windows(config: "PretrainedConfig") -> int | None:
    """The most tokens of a row that no sliding window and no chunk of any layer cuts; None if there is neither.

    A model of text and images keeps these in the config of its text model.
    """
    text = config.get_text_config()
    window = getattr(text, "sliding_window", None) if getattr(text, "use_sliding_window", True) else None
    kinds = getattr(text, "layer_types", None)
    if kinds and "sliding_attention" not in kinds:
        window = None
    chunk = getattr(text, "attention_chunk_size", None) if kinds and "chunked_attention" in kinds else None
    return min((size for size in (window, chunk) if size), default=None)


def empty_model(config: "PretrainedConfig", name: str, field: str) -> "PreTrainedModel":
    """The model without weights, on the meta device; UserError for `field` if it cannot be made or keeps a recurrent state."""
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except (*_UNREADABLE, RuntimeError, ImportError) as error:
        told = f"'{name}': transformers cannot make a {config.model_type} from its config: {first_line(error)}"
        raise UserError(told, field=field) from None
    if getattr(model, "_is_stateful", False) or recurrent_layers(config):
        raise UserError(
            f"'{name}' is a {config.model_type}, which keeps a recurrent state: kp shares and trains prompts by keys and values alone",
            field=field,
        )
    return model


def resolved_modules(model: "PreTrainedModel", wanted: Sequence[str]) -> tuple[str, ...]:
    """The names of `wanted`, groups (`attention`, `mlp`, `all-linear`) written out; sorted.

    A name stands for all modules that have it, or whose path ends in it, as in PEFT. A group is written in the shortest such names that
    match no other module. Raises UserError naming TARGETS_FIELD if a name matches no module, or one that has no matrix to adapt.
    """
    linear = _linear(model)
    within = {group: _of_group(model, linear, group) for group in ModuleGroup}
    unmatched = [name for name in wanted if name not in within and not _matched(name, linear)]
    if unmatched:
        raise UserError(_unmatched(model, unmatched, linear, within), field=TARGETS_FIELD)
    groups = [ModuleGroup(name) for name in wanted if name in within]
    written = [_shortest(within[group], linear, model, group) for group in groups]
    return tuple(sorted({name for name in wanted if name not in within}.union(*written)))


def _linear(model: "PreTrainedModel") -> list[str]:
    """The paths of all modules that are one matrix."""
    import torch
    from transformers.pytorch_utils import Conv1D

    return [path for path, module in model.named_modules() if isinstance(module, torch.nn.Linear | Conv1D)]


def _of_group(model: "PreTrainedModel", linear: Iterable[str], group: ModuleGroup) -> list[str]:
    head = {path for path, module in model.named_modules() if module is model.get_output_embeddings()}
    layered = [path for path in linear if path not in head and re.search(r"\.\d+\.", path) and path.rpartition(".")[2] not in _ROUTERS]
    if group is ModuleGroup.ALL_LINEAR:
        return layered
    attention = [path for path in layered if _ATTENTION.search(_within_layer(path))]
    return attention if group is ModuleGroup.ATTENTION else [path for path in layered if path not in set(attention)]


def _within_layer(path: str) -> str:
    """The path of a module's parents below its layer, whose number comes first in a path."""
    return re.split(r"\.\d+\.", path, maxsplit=1)[-1].rpartition(".")[0] + "."


def _matched(name: str, paths: Iterable[str]) -> list[str]:
    return [path for path in paths if path == name or path.endswith(f".{name}")]


def _shortest(group: Sequence[str], linear: Sequence[str], model: "PreTrainedModel", name: str) -> set[str]:
    """Names that match all modules of the group and no other."""
    if not group:
        kind = model.config.model_type
        raise UserError(f"'{name}': a {kind} has no such modules of one matrix; there are: {_listed(linear)}", field=TARGETS_FIELD)
    members, names = set(group), set()
    for path in group:
        parts = re.split(r"\.\d+\.", path, maxsplit=1)[-1].split(".")
        suffixes = (".".join(parts[start:]) for start in range(len(parts) - 1, -1, -1))
        names.add(next((suffix for suffix in suffixes if members.issuperset(_matched(suffix, linear))), path))
    return names


def _unmatched(model: "PreTrainedModel", names: list[str], linear: Sequence[str], within: dict[ModuleGroup, list[str]]) -> str:
    groups = " or ".join(f"'{group}'" for group, paths in within.items() if paths)
    others = [path for path, _ in model.named_modules() if path == names[0] or path.endswith(f".{names[0]}")]
    fault = f"is a {type(model.get_submodule(others[0])).__name__}, not one matrix" if others else "is no module"
    told = f"'{names[0]}' {fault}" if len(names) == 1 else f"{', '.join(map(repr, names))} are no modules of one matrix"
    return f"{told} of a {model.config.model_type}; there are: {_listed(linear)}; or {groups}"


def _listed(linear: Sequence[str]) -> str:
    """The modules' own names, in the order of the model."""
    return ", ".join(dict.fromkeys(path.rpartition(".")[2] for path in linear))
