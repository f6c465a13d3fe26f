"""Resolve a study's model to files on this machine and a revision that names their content, and load it.

Three kinds of name resolve to one kind of value, `ResolvedModel`: a folder in transformers' format, and a revision that changes whenever
the weights or the tokenizer may have changed. All other code reads only that folder. So the embedded model, a local folder and a Hub model
run the same code, and identities of steps never contain a path.

torch and transformers are imported inside the functions, so that configs and plans do not pay for them. This module needs only two fields
of a study's config: a benchmark on a bare GPU box also loads its model here, without the packages that validate a config.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from kp.errors import UserError, first_line
from kp.models.digests import remembered_sha256
from kp.models.embedded import describe_embedded, embedded_folder, resolve_embedded
from kp.models.folders import folder_revision, model_files, refuse_quantised, require_model, resolve_folder
from kp.models.hub import cached_small_files, cached_snapshot, fetch_small_files, resolve_hub
from kp.models.names import CONFIG_FILE, EMBEDDED, NAME_FIELD, NOT_FETCHED, NamedModel, ResolvedModel

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def resolve_model(config: NamedModel, field: str = NAME_FIELD) -> ResolvedModel:
    """Make the model available on this machine and return its folder and revision.

    Raises UserError for `field`, the config field of the model, with what was tried, within seconds.
    """
    if config.name == EMBEDDED:
        return resolve_embedded(field)
    folder = Path(config.name).expanduser()
    if folder.is_dir():
        return resolve_folder(config, folder, field)
    if _HUB_ID.fullmatch(config.name):
        return resolve_hub(config, field)
    raise UserError(f"'{config.name}' is neither the embedded model '{EMBEDDED}', nor an existing folder, nor a Hub id", field=field)


def is_hub_model(config: NamedModel) -> bool:
    """Whether the name is a Hub id, as `resolve_model` reads it."""
    return config.name != EMBEDDED and not Path(config.name).expanduser().is_dir()


def describe_model(config: NamedModel, field: str = NAME_FIELD) -> str:
    """The revision if it is known on this machine, otherwise "not fetched yet"; fetches nothing and hashes no weights.

    Raises UserError for `field`, the config field of the model, if the name does not resolve.
    """
    if config.name == EMBEDDED:
        return describe_embedded(field)
    folder = Path(config.name).expanduser()
    if folder.is_dir():
        digests = {file.name: remembered_sha256(file) for file in model_files(folder)}
        known = {name: digest for name, digest in digests.items() if digest is not None}
        return folder_revision(known) if len(known) == len(digests) else "local folder, not hashed yet"
    if not _HUB_ID.fullmatch(config.name):
        resolve_model(config, field)  # raises, because the name does not resolve
    snapshot = cached_snapshot(config)
    return NOT_FETCHED if snapshot is None else snapshot.name


def small_files(config: NamedModel, fetch: bool, field: str = NAME_FIELD) -> Path | None:
    """The folder with the model's config and tokenizer; None if they are not here and, for a Hub model, not to be fetched.

    The weights of a local folder are checked, too: they must be whole. Raises UserError for `field`, the config field of the model.
    """
    if config.name == EMBEDDED:
        return Path(resolve_embedded(field).path) if fetch else embedded_folder(field)
    folder = Path(config.name).expanduser()
    if folder.is_dir():
        require_model(config, folder, field)
        return folder
    if not _HUB_ID.fullmatch(config.name):
        resolve_model(config, field)  # raises, because the name does not resolve
    return fetch_small_files(config, field) if fetch else cached_small_files(config, field)


def load_model(resolved: ResolvedModel, dtype: str, device: str) -> "PreTrainedModel":
    """The model in eval mode, with weights in `dtype` ("bfloat16", "float32") on `device` ("cpu", "cuda", "cuda:1").

    Weights are read straight onto the device, all of them: a process needs no main memory for them, and nothing is left on a CPU or a disk.
    Raises UserError if the files lack a weight, which transformers would draw at random, or hold one of another shape, or a quantised one.
    """
    import torch
    from transformers import AutoModelForCausalLM

    torch_dtype = {"bfloat16": torch.bfloat16, "float32": torch.float32}.get(dtype)
    if torch_dtype is None:
        raise UserError(f"'{dtype}' is neither 'bfloat16' nor 'float32'", field="model.dtype")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"a model was to be loaded on {device}, but torch sees no GPU", field="resources.gpu")
    refuse_quantised(Path(resolved.path), resolved.name)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            resolved.path,
            dtype=torch_dtype,
            device_map={"": exact_device(device)},
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except torch.OutOfMemoryError:
        raise  # of the GPU, on which something else may have been for a moment
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"'{resolved.name}' cannot be loaded: {first_line(error)}", field=NAME_FIELD) from error
    model, read = loaded
    _refuse_unused(resolved, model, read["unexpected_keys"])
    absent = sorted([*read["missing_keys"], *(str(key[0]) for key in read["mismatched_keys"])])
    if absent:
        raise UserError(
            f"the files of '{resolved.name}' lack {len(absent)} weights of its architecture, or hold them in another shape, "
            f"such as {absent[0]}: fetch it again, or name a checkpoint of the whole model",
            field=NAME_FIELD,
        )
    return cast("PreTrainedModel", model.eval())


def exact_device(device: str) -> "torch.device":
    """The device with its number: transformers takes "cuda" for the first GPU, but a worker has its own as the current one."""
    import torch

    found = torch.device(device)
    return torch.device("cuda", torch.cuda.current_device()) if found.type == "cuda" and found.index is None else found


def _refuse_unused(resolved: ResolvedModel, model: Any, unexpected: Iterable[str]) -> None:
    """Raise UserError if the files hold weights of the model's own layers that its config knows nothing of, such as biases."""
    modules = {name for name, _ in model.named_modules()}
    lists = tuple(f"{name}." for name, module in model.named_modules() if type(module).__name__ == "ModuleList")
    owned = [key for key in sorted(unexpected) if key.rpartition(".")[0] in modules or key.startswith(lists or ("\0",))]
    weights = [key for key in owned if key.rpartition(".")[2] in ("weight", "bias")]
    if weights:
        raise UserError(
            f"the files of '{resolved.name}' hold {len(weights)} weights that its config.json does not provide for, such as {weights[0]}: "
            "the config is of another model",
            field=NAME_FIELD,
        )


def load_tokenizer(resolved: ResolvedModel, field: str = NAME_FIELD) -> "PreTrainedTokenizerBase":
    """The tokenizer with padding on the left; without a pad token, or with one that the model has no embedding for, it pads with its
    end-of-sequence token.

    Raises UserError for `field`, the config field of the model, if it has neither, or if it cannot be read.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(resolved.path, local_files_only=True, padding_side="left", trust_remote_code=False)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ImportError) as error:
        raise UserError(f"the tokenizer of '{resolved.name}' cannot be read: {first_line(error)}", field=field) from error
    rows = _embedding_rows(Path(resolved.path))
    if tokenizer.pad_token is None or (rows is not None and tokenizer.pad_token_id >= rows):
        if tokenizer.eos_token is None:
            raise UserError(f"the tokenizer of '{resolved.name}' has neither a usable pad nor an end-of-sequence token", field=field)
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _embedding_rows(folder: Path) -> int | None:
    """The size of the vocabulary by the model's config; None if it does not say."""
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    rows = config.get("vocab_size") or (config.get("text_config") or {}).get("vocab_size")
    return rows if isinstance(rows, int) else None
