"""Whether a file of a model is what its name says: downloads break off, and a clone without Git LFS has pointers instead of weights."""

import json
from pathlib import Path

_LFS = b"version https://git-lfs"
_LENGTH_BYTES = 8  # of the length of a safetensors header, at its beginning
_MOST_HEADER = 100_000_000  # bytes, the limit of safetensors itself
_TRUNCATED = "is truncated: fetch it again"


def fault_of(file: Path) -> str | None:
    """What is wrong with a .json or .safetensors file and the remedy, as the end of a sentence; None if nothing is."""
    try:
        with file.open("rb") as stream:
            begins = stream.read(len(_LFS))
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if begins == _LFS:
        return "is a Git LFS pointer and not the file itself: run `git lfs pull` in its folder, or fetch it again"
    if file.suffix == ".safetensors":
        return _fault_of_safetensors(file)
    return _fault_of_json(file)


def _fault_of_json(file: Path) -> str | None:
    try:
        json.loads(file.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        return f"is not valid JSON: {error}"
    return None


def _fault_of_safetensors(file: Path) -> str | None:
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
        if size < _LENGTH_BYTES + 2 or length > size - _LENGTH_BYTES:
            return _TRUNCATED if length <= _MOST_HEADER else "is not a safetensors file: fetch it again"
        try:
            tensors = json.loads(stream.read(length))
            ends = [tensor["data_offsets"][1] for name, tensor in tensors.items() if name != "__metadata__"]
        except (ValueError, KeyError, TypeError, AttributeError):
            return "is not a safetensors file: fetch it again"
    missing = _LENGTH_BYTES + length + max(ends, default=0) - size
    return f"is truncated, {missing:,} bytes are missing: fetch it again" if missing > 0 else None
