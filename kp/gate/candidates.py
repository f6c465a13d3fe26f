"""What may be given to the gate, found and checked before any weight of the base is loaded.

An adapter is refused if it cannot be one of this base: by the name that it carries where both are names of the Hub, and by its matrices'
shapes in any case. Also refused is what PEFT would load, but not as the adapter was trained, or not without changing the base.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kp.config.study import ModelConfig
from kp.errors import UserError, first_line
from kp.gate.hub_adapters import fetched_adapter
from kp.generation.adapters import CONFIG_FILE, WEIGHTS_FILE, adapter_config, read_adapter
from kp.models.folders import resolve_folder
from kp.models.names import EMBEDDED

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ADAPTER_FIELD = "ADAPTER"
MODEL_FIELD = "--model"
CANDIDATE_FIELD = "--candidate"

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_QUANTISED_NAME = re.compile(r"(-unsloth)?-bnb-[48]bit$", re.IGNORECASE)
_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<part>[AB])(?:\.[^.]+)?\.weight")
_PLAIN_STARTS = (True, False, "gaussian", "orthogonal", "eva", None)  # of the matrices; others change the base's weights as well


@dataclass(frozen=True)
class Candidate:
    """An adapter or a merged checkpoint: how the user named it, its folder, and what identifies its content."""

    name: str
    folder: Path
    identity: str
    is_merged: bool = False
    notes: tuple[str, ...] = ()


def find_adapter(name: str, base: ModelConfig, model: "PreTrainedModel") -> Candidate:
    """The adapter in a folder or of the Hub, checked against the base, whose modules `model` has without weights.

    Raises UserError, one clear line with the remedy, if it is no LoRA of this base that can be measured.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir():
        if not _HUB_ID.fullmatch(name):
            raise UserError(f"'{name}' is neither an existing folder nor a Hub id", field=ADAPTER_FIELD)
        folder = fetched_adapter(name, ADAPTER_FIELD)
    elif (folder / "config.json").is_file() and not (folder / CONFIG_FILE).is_file():
        raise UserError(f"'{name}' holds a whole model: give it as {CANDIDATE_FIELD} {name}", field=ADAPTER_FIELD)
    saved = read_adapter(folder)
    config = adapter_config(folder)
    _refuse_kind(name, config)
    notes = _named_base(name, config, base)
    _refuse_weights(name, folder, model)
    return Candidate(name, folder, saved.digest, notes=notes)


def find_merged(folder: Path, base: Path, model: "PreTrainedModel") -> Candidate:
    """The merged checkpoint in a folder, checked against the base in the folder `base`.

    Raises UserError if it is of another architecture or vocabulary, quantised, or incomplete.
    """
    from kp.models.architecture import empty_model, model_config

    if not folder.is_dir():
        raise UserError(f"'{folder}' is no folder", field=CANDIDATE_FIELD)
    if (folder / CONFIG_FILE).is_file():
        raise UserError(f"'{folder}' holds an adapter: give it without {CANDIDATE_FIELD}", field=CANDIDATE_FIELD)
    resolved = resolve_folder(ModelConfig(name=str(folder)), folder, CANDIDATE_FIELD)
    config = model_config(folder, str(folder), CANDIDATE_FIELD)
    if config.model_type != model.config.model_type:
        raise UserError(
            f"'{folder}' is a {config.model_type} and the base a {model.config.model_type}: "
            f"name the model that it was made from as {MODEL_FIELD}",
            field=CANDIDATE_FIELD,
        )
    _compare_shapes(folder, _shapes(empty_model(config, str(folder), CANDIDATE_FIELD)), _shapes(model))
    if _vocabulary(folder) != _vocabulary(base):
        raise UserError(
            f"'{folder}' has another vocabulary than the base: its tokenizer must be the base's; name its own base as {MODEL_FIELD}",
            field=CANDIDATE_FIELD,
        )
    return Candidate(str(folder), folder, resolved.revision, is_merged=True)


def _refuse_kind(name: str, config: Mapping[str, Any]) -> None:
    """Raise UserError for a LoRA of a kind that cannot be measured as it was trained."""
    if config.get("use_dora"):
        raise UserError(
            f"adapter '{name}' is a DoRA (use_dora), which kp cannot measure: merge it and give it as {CANDIDATE_FIELD}",
            field=ADAPTER_FIELD,
        )
    start = config.get("init_lora_weights", True)
    if start not in _PLAIN_STARTS:
        raise UserError(
            f"adapter '{name}' began as {start!r} (init_lora_weights), which also changes the base: convert it to a plain LoRA "
            f"(path_initial_model_for_weight_conversion in PEFT), or merge it and give it as {CANDIDATE_FIELD}",
            field=ADAPTER_FIELD,
        )
    if config.get("bias", "none") != "none":
        raise UserError(f"adapter '{name}' replaces biases of the base: merge it and give it as {CANDIDATE_FIELD}", field=ADAPTER_FIELD)


def _named_base(name: str, config: Mapping[str, Any], base: ModelConfig) -> tuple[str, ...]:
    """A note if the adapter names another base by something that can move, such as a folder; UserError if both are names of the Hub."""
    named = config.get("base_model_name_or_path") or ""
    own, ours = (_QUANTISED_NAME.sub("", text.rstrip("/").rpartition("/")[2]).casefold() for text in (str(named), base.name))
    if not named or own == ours:
        return ()
    both = _HUB_ID.fullmatch(str(named)) and not Path(base.name).expanduser().is_dir()
    if both or (named == EMBEDDED and not Path(base.name).expanduser().is_dir()):
        raise UserError(
            f"adapter '{name}' was trained on '{named}' (base_model_name_or_path), not on '{base.name}': give {MODEL_FIELD} {named}",
            field=ADAPTER_FIELD,
        )
    return (f"its config names the base '{named}', which cannot be compared with '{base.name}' by name; its matrices fit",)


def _refuse_weights(name: str, folder: Path, model: "PreTrainedModel") -> None:
    """Raise UserError unless the stored matrices are finite numbers and fit the base's modules."""
    import torch
    from safetensors import SafetensorError, safe_open

    sizes = {path: tuple(module.weight.shape) for path, module in _matrices(model)}
    adapted = 0
    try:
        with safe_open(folder / WEIGHTS_FILE, framework="pt") as stored:
            for key in stored.keys():  # noqa: SIM118  # it is no mapping
                weight = stored.get_tensor(key)
                if not weight.is_floating_point() or weight.element_size() < 2:
                    told = f"adapter '{name}': {key} is quantised ({str(weight.dtype).removeprefix('torch.')}): save it in 16 or 32 bits"
                    raise UserError(told, field=ADAPTER_FIELD)
                if not bool(torch.isfinite(weight).all()):
                    raise UserError(f"adapter '{name}': {key} holds NaN or infinity: train it again", field=ADAPTER_FIELD)
                adapted += _fits(name, key, tuple(weight.shape), sizes)
    except SafetensorError as error:
        raise UserError(f"adapter '{name}': {WEIGHTS_FILE} cannot be read: {first_line(error)}", field=ADAPTER_FIELD) from None
    if not adapted:
        raise UserError(f"adapter '{name}': {WEIGHTS_FILE} holds no LoRA matrices", field=ADAPTER_FIELD)


def _fits(name: str, key: str, shape: tuple[int, ...], sizes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether this is a matrix of a LoRA; UserError if it fits no module of the base."""
    found = _KEY.fullmatch(key)
    if found is None:
        return False
    module = found["module"]
    if module not in sizes:
        raise UserError(
            f"adapter '{name}' is of another base: this one has no module {module}; name its own as {MODEL_FIELD}", field=ADAPTER_FIELD
        )
    width = shape[-1] if found["part"] == "A" else shape[0]
    if width not in sizes[module]:
        raise UserError(
            f"adapter '{name}' is of another base: {key} is {' x '.join(map(str, shape))}, and the base's {module} "
            f"{' x '.join(map(str, sizes[module]))}; name its own as {MODEL_FIELD}",
            field=ADAPTER_FIELD,
        )
    return True


def _matrices(model: "PreTrainedModel") -> Iterator[tuple[str, Any]]:
    for path, module in model.named_modules():
        if len(getattr(getattr(module, "weight", None), "shape", ())) == 2:
            yield path, module


def _shapes(model: "PreTrainedModel") -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in model.state_dict().items()}


def _compare_shapes(folder: Path, own: Mapping[str, tuple[int, ...]], base: Mapping[str, tuple[int, ...]]) -> None:
    for name in [*base, *own]:
        if own.get(name) != base.get(name):
            told = [" x ".join(map(str, shapes[name])) if name in shapes else "missing" for shapes in (own, base)]
            raise UserError(
                f"'{folder}' is of another architecture: its {name} is {told[0]}, the base's {told[1]}; name its own base as {MODEL_FIELD}",
                field=CANDIDATE_FIELD,
            )


def _vocabulary(folder: Path) -> dict[str, int]:
    from kp.models.loading import load_tokenizer
    from kp.models.names import ResolvedModel

    return load_tokenizer(ResolvedModel(str(folder), str(folder), ""), CANDIDATE_FIELD).get_vocab()
