"""What an engine needs to know of a saved LoRA adapter before it loads the weights.

An engine caches what it computed with an adapter under the adapter's name; a name that is used twice would return the old adapter's
answers. The digest of the content is the one name that cannot be used twice.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kp.errors import UserError, first_line

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
PICKLED_FILE = "adapter_model.bin"


@dataclass(frozen=True)
class SavedAdapter:
    """An adapter in PEFT's format: its folder, the SHA-256 over its config and weights, and its largest LoRA rank."""

    folder: Path
    digest: str
    rank: int


def read_adapter(folder: Path) -> SavedAdapter:
    """Raises UserError if the folder has no adapter, or one that is not a LoRA."""
    digest, config = adapter_digest(folder), adapter_config(folder)
    return SavedAdapter(folder, digest, max([config["r"], *(config.get("rank_pattern") or {}).values()]))


def adapter_config(folder: Path) -> dict[str, Any]:
    """The adapter's config; raises UserError if it is not that of a LoRA, or if PEFT would import a module that it names."""
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"adapter {folder}: {CONFIG_FILE} is not valid JSON: {first_line(error)}") from None
    kind = config.get("peft_type") if isinstance(config, dict) else None
    if kind != "LORA":
        raise UserError(f"adapter {folder}: {CONFIG_FILE} says peft_type {kind!r}, expected 'LORA'")
    if config.get("megatron_config"):
        raise UserError(f"adapter {folder}: {CONFIG_FILE} names a module to import (megatron_core), which kp does not do")
    return config


def adapter_digest(folder: Path) -> str:
    """SHA-256 over the adapter's config and weights, in hex; raises UserError if either is missing."""
    digest = hashlib.sha256()
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise UserError(f"adapter {folder}: {_lacking(folder, name)}")
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def _lacking(folder: Path, name: str) -> str:
    if name == WEIGHTS_FILE and (folder / PICKLED_FILE).is_file():
        return f"has its weights as {PICKLED_FILE}, which can run code when it is read: save them as {WEIGHTS_FILE}"
    return f"has no {name}"


def save_scaled_adapter(folder: Path, scale: float, target: Path) -> None:
    """Write into the folder `target`, which must not exist, the adapter whose change of the weights is `scale` times this one's.

    LoRA changes a weight by alpha / r (or alpha / sqrt(r)) times B A, so alpha alone is scaled and the weights stay as they are: at any
    scale the adapter is as exact as it was trained. Raises UserError if the folder has no LoRA adapter.
    """
    read_adapter(folder)
    config = adapter_config(folder)
    config["lora_alpha"] *= scale
    config["alpha_pattern"] = {name: alpha * scale for name, alpha in (config.get("alpha_pattern") or {}).items()}
    target.mkdir(parents=True)
    shutil.copyfile(folder / WEIGHTS_FILE, target / WEIGHTS_FILE)
    (target / CONFIG_FILE).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def first_adapted_layer(folder: Path) -> int:
    """The first layer that the adapter in this folder changes: those below it compute what they compute in the base.

    Raises UserError if the folder has no adapter, or one that cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    if not (folder / WEIGHTS_FILE).is_file():
        raise UserError(f"adapter {folder}: {_lacking(folder, WEIGHTS_FILE)}")
    try:
        with safe_open(folder / WEIGHTS_FILE, framework="np") as stored:
            return first_layer(stored.keys())
    except SafetensorError as error:
        raise UserError(f"adapter {folder}: {WEIGHTS_FILE} cannot be read: {first_line(error)}") from None


def first_layer(names: Iterable[str]) -> int:
    """The lowest layer among modules with these paths, in which a layer's number comes first; 0 if one of them is in no layer.

    The weights that an adapter has say it, because in its config the same layers can be written in several ways.
    """
    numbers = (re.search(r"\.(\d+)\.", name) for name in names)
    return min((int(found.group(1)) if found else 0 for found in numbers), default=0)
