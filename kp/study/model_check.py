"""Whether a node can use a study's model: it finds the same files, or can fetch them, and has the memory for it and a batch.

The memory is a lower bound, so what is refused could not have run: the weights, and the keys and values of one answer. Generation makes
its batches as large as the rest of the memory allows.
"""

import json
import math
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from kp.config.study import ModelConfig, StudyConfig
from kp.errors import UserError
from kp.models.hub import cached_snapshot
from kp.models.loading import is_hub_model
from kp.models.names import CONFIG_FILE, EMBEDDED
from kp.models.node_copies import room_fault
from kp.models.shapes import shape_of_config
from kp.store.files import digest_file
from kp.study.pricing import NUMBER_BYTES

_WIDTHS = NUMBER_BYTES | {"auto": NUMBER_BYTES["bfloat16"]}  # the least that it may stand for
_SECONDS = 5.0  # for the Hub to answer
_LEAST_RATE = 50e6  # bytes a second that a node reads from storage


@dataclass(frozen=True)
class ModelNeed:
    """What a node must have: `files` are the sizes in bytes of a local folder's weights by name, None of any other model."""

    model: ModelConfig
    config_digest: str
    files: dict[str, int] | None
    least: int  # bytes
    on_gpu: bool
    stored: int = 0  # bytes of the weights' files
    per_gpu: int = 1  # processes that share a GPU
    copy: str | None = None  # the name of a node's own copy; None if the model's revision is not known yet

    @property
    def loading_seconds(self) -> float:
        """Seconds in which every node has read it, from storage that is slow or in use by many."""
        return self.stored / _LEAST_RATE


def model_need(study: StudyConfig, model: ModelConfig, folder: Path, on_gpu: bool, copy: str | None = None) -> ModelNeed:
    """What the study needs of a node for its model, whose files are in `folder` here; `model` has the resolved revision."""
    weights = sorted(folder.glob("*.safetensors"))
    width = _WIDTHS[study.model.dtype]
    shape = shape_of_config(json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8-sig")))
    of_token = 2 * shape.layers * shape.kv_heads * shape.head_dim * width if shape else 0
    least = width * sum(map(parameters_in, weights)) + of_token * study.categorise.max_new_tokens
    is_local = model.name != EMBEDDED and not is_hub_model(model)
    files = {file.name: file.stat().st_size for file in weights} if is_local else None
    stored = sum(file.stat().st_size for file in weights)
    return ModelNeed(model, digest_file(folder / CONFIG_FILE), files, least, on_gpu, stored, study.resources.per_gpu, copy)


def parameters_in(weights: Path) -> int:
    """The numbers that a safetensors file holds, from its header."""
    from safetensors import safe_open

    with safe_open(weights, framework="np") as stored:
        return sum(math.prod(stored.get_slice(name).get_shape()) for name in stored.keys())  # noqa: SIM118  # it is no mapping


def model_fault(need: ModelNeed) -> str | None:
    """What this node lacks for the model, as the end of a sentence; None if nothing, or if no model will be loaded here."""
    gpus = gpu_memory()
    if need.on_gpu and not gpus:
        return None
    memory = min(gpus) // need.per_gpu if need.on_gpu else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if memory < need.least:
        part = "a part" if need.per_gpu > 1 else "the memory"
        what = f"{part} of its GPU is" if need.on_gpu else "its memory is"
        told = f"needs {need.least / 2**30:.1f} GiB for the weights and one answer, and {what} {memory / 2**30:.1f} GiB"
        return told + _remedy(need) if need.on_gpu else told
    if need.copy is not None and (fault := room_fault(need.copy, need.stored)) is not None:
        return fault
    return _absence(need)


def _remedy(need: ModelNeed) -> str:
    fewer = f", and resources.per_gpu lets {need.per_gpu} processes share one" if need.per_gpu > 1 else ""
    return f"{fewer}; resources.accelerator_type chooses GPUs of one kind, where others have more"


def _absence(need: ModelNeed) -> str | None:
    if need.files is not None:
        folder = Path(need.model.name).expanduser()
        if not (folder / CONFIG_FILE).is_file():
            return f"is not in {folder}: mount or copy it to the same place on every node"
        found = {name: (folder / name).stat().st_size if (folder / name).is_file() else None for name in need.files}
        if found != need.files or digest_file(folder / CONFIG_FILE) != need.config_digest:
            return f"is another one in {folder} than where the study was started: copy the same files to every node"
        return None
    if need.model.name == EMBEDDED:
        return None
    snapshot = cached_snapshot(need.model)
    return None if snapshot and any(snapshot.glob("*.safetensors")) else _hub_fault(need.model)


def _hub_fault(model: ModelConfig) -> str | None:
    from httpx2 import HTTPError
    from huggingface_hub import HfApi

    try:
        HfApi().model_info(model.name, revision=model.revision, timeout=_SECONDS)
    except (HTTPError, OSError, ValueError, UserError) as error:
        return f"is not in the Hub's cache of the node, which cannot fetch it either ({type(error).__name__})"
    return None


def gpu_memory() -> list[int]:
    """Bytes of each GPU of this node, whichever of them Ray shows this process; none if it has no NVIDIA driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    asked = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    told = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=False)
    return [int(line) << 20 for line in told.stdout.split() if line.isdigit()] if told.returncode == 0 else []
