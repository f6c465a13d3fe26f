"""A model by name: what a study says of it, and what is found on this machine; and the folder for what kp can make again."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

EMBEDDED = "smollm2-135m-instruct"
NAME_FIELD = "model.name"  # the field of the model, in messages, unless the caller passes another
NOT_FETCHED = "not fetched yet"

CONFIG_FILE = "config.json"
TEXT_FILES = (
    CONFIG_FILE,
    "generation_config.json",
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "*tokens*.json",
    "chat_template*",
    "*.model",
    "tekken.json",
)
"""A model's small files, as glob patterns."""
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model", "tekken.json")
"""A tokenizer is read from one of these."""
WEIGHT_FILES = ("*.safetensors", "*.safetensors.index.json")
"""A model's weights, as glob patterns: other formats are pickles, which can run code when they are read."""


class NamedModel(Protocol):
    """A user's choice of model: the `model` section of a study, or a benchmark's options."""

    @property
    def name(self) -> str:
        """The embedded model's name, a local folder, or a Hub id."""
        ...

    @property
    def revision(self) -> str | None:
        """Branch, tag or commit of a Hub model."""
        ...


@dataclass(frozen=True)
class ResolvedModel:
    """A model on this machine: its name in the study, its folder, and the digest or commit of the folder's content."""

    name: str
    path: str
    revision: str


def cache_root() -> Path:
    """The folder for files that kp can make again: `$KP_CACHE`, or `~/.cache/kp`."""
    return Path(os.environ.get("KP_CACHE") or Path.home() / ".cache" / "kp")
