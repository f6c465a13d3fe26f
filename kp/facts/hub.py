"""Facts from a data set on the Hub, or from a folder that `datasets` can read.

`datasets` and its Hub client fail in many ways (no network, no such data set, no such split), which all mean the same to the person who
wrote the study: `facts.source` cannot be had. They become one error that says so and quotes the first line of the cause.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kp.errors import UserError

PREFIX = "hf:"
DEFAULT_SPLIT = "train"
COMMIT = re.compile(r"[0-9a-f]{40}")
PATTERN = re.compile(r"hf:(?P<name>[^@:]+)(@(?P<revision>[^@:]+))?(:(?P<split>[^@:]+))?")


@dataclass(frozen=True)
class HubSource:
    """The parts of `hf:NAME[@REVISION][:SPLIT]`."""

    name: str
    revision: str | None
    split: str


def parse(source: str) -> HubSource:
    """Take `hf:NAME[@REVISION][:SPLIT]` apart; the split is `train` where none is named."""
    match = PATTERN.fullmatch(source)
    if match is None:
        raise UserError(f"facts.source: '{source}': expected hf:NAME[@REVISION][:SPLIT]")
    return HubSource(match["name"], match["revision"], match["split"] or DEFAULT_SPLIT)


def load_rows(source: str) -> list[dict[str, Any]]:
    """All rows of the data set; UserError naming facts.source where it cannot be had."""
    import datasets  # here and not above: it takes seconds to import and most studies do not need it

    wanted = parse(source)
    with _explained(source):
        loaded = datasets.load_dataset(wanted.name, revision=wanted.revision, split=wanted.split)
    return [dict(row) for row in loaded]


def identity(source: str) -> str:
    """`NAME@COMMIT:SPLIT`, or a SHA-256 of its files for a local folder; UserError where the Hub does not tell the commit."""
    wanted = parse(source)
    if Path(wanted.name).is_dir():
        return f"{_folder_digest(Path(wanted.name))}:{wanted.split}"
    return f"{wanted.name}@{_commit(wanted, source)}:{wanted.split}"


def _commit(wanted: HubSource, source: str) -> str:
    if wanted.revision and COMMIT.fullmatch(wanted.revision):
        return wanted.revision
    from huggingface_hub import HfApi

    with _explained(source):
        return str(HfApi().dataset_info(wanted.name, revision=wanted.revision).sha)


def _folder_digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()}\n".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


@contextmanager
def _explained(source: str) -> Iterator[None]:
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HfHubHTTPError

    transport = HfHubHTTPError.__bases__  # what the Hub client's HTTP library raises; which library it is depends on the client's version
    try:
        yield
    except (OSError, ValueError, DatasetsError, *transport) as error:
        cause = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"facts.source: '{source}' cannot be loaded: {cause[0]}") from error
