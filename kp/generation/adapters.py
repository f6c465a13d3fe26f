"""A saved LoRA adapter as an engine needs to know it before it loads its weights: what it is, whatever its folder is called.

An engine keeps what it computed under an adapter by the adapter's name; a name that is used again would serve the old adapter's answers.
The digest of the content is the one name that cannot be used again.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from kp.errors import UserError

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"


@dataclass(frozen=True)
class SavedAdapter:
    """An adapter in PEFT's format: its folder, the SHA-256 over its config and weights, and its largest LoRA rank."""

    folder: Path
    digest: str
    rank: int


def read_adapter(folder: Path) -> SavedAdapter:
    """Raises UserError where the folder holds no adapter, or one that is no LoRA."""
    digest = adapter_digest(folder)
    config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    if config.get("peft_type") != "LORA":
        raise UserError(f"adapter {folder}: {CONFIG_FILE} says peft_type {config.get('peft_type')!r}, expected 'LORA'")
    return SavedAdapter(folder, digest, max([config["r"], *(config.get("rank_pattern") or {}).values()]))


def adapter_digest(folder: Path) -> str:
    """SHA-256 over the adapter's config and weights, in hex; raises UserError where either is missing."""
    digest = hashlib.sha256()
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise UserError(f"adapter {folder}: has no {name}")
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()
