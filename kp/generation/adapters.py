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

from kp.errors import UserError, first_line

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"


@dataclass(frozen=True)
class SavedAdapter:
    """An adapter in PEFT's format: its folder, the SHA-256 over its config and weights, and its largest LoRA rank."""

    folder: Path
    digest: str
    rank: int


def read_adapter(folder: Path) -> SavedAdapter:
    """Raises UserError if the folder has no adapter, or one that is not a LoRA."""
    digest = adapter_digest(folder)
    config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    if config.get("peft_type") != "LORA":
        raise UserError(f"adapter {folder}: {CONFIG_FILE} says peft_type {config.get('peft_type')!r}, expected 'LORA'")
    return SavedAdapter(folder, digest, max([config["r"], *(config.get("rank_pattern") or {}).values()]))


def adapter_digest(folder: Path) -> str:
    """SHA-256 over the adapter's config and weights, in hex; raises UserError if either is missing."""
    digest = hashlib.sha256()
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise UserError(f"adapter {folder}: has no {name}")
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def save_scaled_adapter(folder: Path, scale: float, target: Path) -> None:
    """Write into the folder `target`, which must not exist, the adapter whose change of the weights is `scale` times this one's.

    LoRA changes a weight by alpha / r (or alpha / sqrt(r)) times B A, so alpha alone is scaled and the weights stay as they are: at any
    scale the adapter is as exact as it was trained. Raises UserError if the folder has no LoRA adapter.
    """
    read_adapter(folder)
    config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
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
        raise UserError(f"adapter {folder}: has no {WEIGHTS_FILE}")
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
