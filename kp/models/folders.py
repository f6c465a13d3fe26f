"""Models in folders of this machine: their revision is the digest of their files."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from kp.errors import UserError
from kp.models.digests import sha256_of
from kp.models.file_faults import fault_of
from kp.models.names import CONFIG_FILE, NAME_FIELD, TEXT_FILES, TOKENIZER_FILES, WEIGHT_FILES, NamedModel, ResolvedModel

_INDEX = "model.safetensors.index.json"
PICKLED = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.pickle", "*.ckpt")
"""Weights in formats that can run code when they are read, as glob patterns."""
_QUANTISED = ("quantization_config", "compression_config")  # in a config; the latter is the older name of compressed-tensors


def resolve_folder(config: NamedModel, folder: Path, field: str) -> ResolvedModel:
    """The model in this folder; UserError for `field`, the config field of the model, if it is not complete."""
    if config.revision is not None:
        message = f"'{config.revision}' is given, but '{config.name}' is a local folder, which has no revisions"
        raise UserError(message, field=_revision_field(field))
    require_model(config, folder, field)
    digests = {file.name: sha256_of(file) for file in model_files(folder)}
    return ResolvedModel(name=config.name, path=str(folder.resolve()), revision=folder_revision(digests))


def _revision_field(field: str) -> str:
    """The field for the model's revision, in the same section as `field`."""
    return ".".join([*field.split(".")[:-1], "revision"])


def require_model(config: NamedModel, folder: Path, field: str) -> None:
    """Raise UserError unless the folder has a config, a tokenizer, and all the weight files of its index, each of them whole."""
    require_small_files(config, folder, field)
    index = folder / _INDEX
    if index.is_file() and not (folder / "model.safetensors").is_file():
        named = _indexed(config, index, field)
        if odd := sorted(name for name in named if not name.endswith(".safetensors") or Path(name).name != name):
            raise UserError(f"'{config.name}': {_INDEX} names {odd[0]!r}, which is no .safetensors file of its folder", field=field)
        missing = sorted(name for name in named if not (folder / name).is_file())
        if missing:
            raise UserError(f"'{config.name}' lacks the weight file {missing[0]} in {folder}", field=field)
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        pickled = sorted(file.name for pattern in PICKLED for file in folder.glob(pattern))
        raise UserError(
            f"'{config.name}' {pickled_weights(pickled[0]) if pickled else f'has no weights (*.safetensors) in {folder}'}", field=field
        )
    _refuse_faulty(config, weights, field)


def require_small_files(config: NamedModel, folder: Path, field: str) -> None:
    """Raise UserError unless the folder has a readable config and a tokenizer."""
    if (folder / "adapter_config.json").is_file():  # transformers would load it onto the model, if there is one
        raise UserError(f"'{config.name}' holds an adapter (adapter_config.json): name its base model in a folder without one", field=field)
    if not (folder / CONFIG_FILE).is_file():
        raise UserError(f"'{config.name}' has no {CONFIG_FILE} in {folder}", field=field)
    texts = [file for file in model_files(folder) if file.suffix == ".json"]
    _refuse_faulty(config, texts, field)
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise UserError(f"'{config.name}' has no tokenizer in {folder}: put one of {', '.join(TOKENIZER_FILES)} there", field=field)


def refuse_quantised(folder: Path, name: str, field: str = NAME_FIELD) -> None:
    """Raise UserError for `field`, the config field of the model, if its config, or that of its text model, says that it is quantised."""
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return  # whoever reads it for its other content tells
    parts = [part for part in (config, *config.values()) if isinstance(part, dict)] if isinstance(config, dict) else []
    for quantised in [part[key] for part in parts for key in _QUANTISED if part.get(key)]:
        method = quantised.get("quant_method") if isinstance(quantised, dict) else quantised
        raise UserError(
            f"'{name}' is quantised ({method}), and adapters are trained on dense weights: name the model that it was made from",
            field=field,
        )


def pickled_weights(name: str) -> str:
    """What is wrong with a model whose only weights are this pickle, and the remedy, as the end of a sentence."""
    return f"has its weights as {name}, which can run code when it is read: name one with *.safetensors, or convert it"


def _indexed(config: NamedModel, index: Path, field: str) -> set[str]:
    """The weight files that an index names."""
    try:
        return set(map(str, json.loads(index.read_text(encoding="utf-8-sig"))["weight_map"].values()))
    except (ValueError, LookupError, TypeError, AttributeError):
        raise UserError(f"'{config.name}': {index.name} is no index of weights: fetch it again", field=field) from None


def _refuse_faulty(config: NamedModel, files: Iterable[Path], field: str) -> None:
    for file in files:
        if (fault := fault_of(file)) is not None:
            raise UserError(f"'{config.name}': {file.name} {fault}", field=field)


def model_files(folder: Path) -> list[Path]:
    """The files that a model is loaded from, sorted."""
    return sorted({file for pattern in (*TEXT_FILES, *WEIGHT_FILES) for file in folder.glob(pattern) if file.is_file()})


def folder_revision(digests: dict[str, str]) -> str:
    """The revision of a folder from the digests of its files by name."""
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()[:16]
