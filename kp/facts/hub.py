"""Rows of a data set on the Hub, or of a folder that `datasets` can read: facts and shots.

`datasets` and its Hub client fail in many ways (no network, no such data set, no such split), which mean the same to the author of a study:
the field's source is not available. They become one error that says so and quotes the first line of the cause.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kp.errors import MissingSourceError, UserError

PREFIX = "hf:"
DEFAULT_SPLIT = "train"
COMMIT = re.compile(r"[0-9a-f]{40}")
PATTERN = re.compile(r"hf:(?P<name>[^@:]+)(@(?P<revision>[^@:]+))?(:((?P<config>[^@:/]+)/)?(?P<split>[^@:/]+))?")
SYNTAX = "hf:NAME[@REVISION][:[CONFIG/]SPLIT]"


@dataclass(frozen=True)
class HubSource:
    """The parts of `hf:NAME[@REVISION][:[CONFIG/]SPLIT]`."""

    name: str
    revision: str | None
    config: str | None
    split: str

    @property
    def part(self) -> str:
        """`[CONFIG/]SPLIT`."""
        return f"{self.config}/{self.split}" if self.config else self.split


def parse(source: str, field: str) -> HubSource:
    """Parse `hf:NAME[@REVISION][:[CONFIG/]SPLIT]`; the default split is `train`. UserError naming the config field."""
    match = PATTERN.fullmatch(source)
    if match is None:
        raise UserError(f"'{source}': expected {SYNTAX}", field=field)
    return HubSource(match["name"], match["revision"], match["config"], match["split"] or DEFAULT_SPLIT)


def load_rows(source: str, field: str) -> Iterator[dict[str, Any]]:
    """The rows of the data set in its order; MissingSourceError naming the config field if it is not available."""
    import datasets  # imported here because it takes seconds and most studies do not need it

    wanted = parse(source, field)
    with _explained(source, field):
        loaded = datasets.load_dataset(wanted.name, wanted.config, revision=wanted.revision, split=wanted.split)
    return map(dict, loaded)


def identity(source: str, field: str) -> str:
    """`NAME@COMMIT:[CONFIG/]SPLIT`, or `SHA-256:[CONFIG/]SPLIT` for a local folder; MissingSourceError if the Hub returns no commit."""
    wanted = parse(source, field)
    if Path(wanted.name).is_dir():
        return f"{_folder_digest(Path(wanted.name))}:{wanted.part}"
    return f"{wanted.name}@{_commit(wanted, source, field)}:{wanted.part}"


def _commit(wanted: HubSource, source: str, field: str) -> str:
    if wanted.revision and COMMIT.fullmatch(wanted.revision):
        return wanted.revision
    from huggingface_hub import HfApi

    with _explained(source, field):
        return str(HfApi().dataset_info(wanted.name, revision=wanted.revision).sha)


def _folder_digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()}\n".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


@contextmanager
def _explained(source: str, field: str) -> Iterator[None]:
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HfHubHTTPError

    transport = HfHubHTTPError.__bases__  # the errors of the Hub client's HTTP library, which depends on the client's version
    try:
        yield
    except (OSError, ValueError, DatasetsError, *transport) as error:
        cause = str(error).strip().splitlines() or [type(error).__name__]
        raise MissingSourceError(f"'{source}' cannot be loaded: {cause[0]}", field=field) from error
