"""Rows of a data set on the Hub, or of a folder that `datasets` can read: facts and shots."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from kp.errors import MissingSourceError, UserError
from kp.store import prefetched
from kp.store.data_commits import data_set_commit, explained
from kp.store.files import digest_file

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
    wanted = parse(source, field)
    if (here := _prefetched(wanted, source, field)) is not None:
        return _rows_of(here[0])
    return map(dict, _loaded(wanted, source, field))


def save_rows(source: str, file: Path, field: str) -> tuple[str, int]:
    """Write the rows of the data set into a parquet file, from which a run without a network reads them; returns identity and rows."""
    wanted = parse(source, field)
    commit = _commit(wanted, source, field)
    rows = _loaded(replace(wanted, revision=commit), source, field)  # of this commit, even if a newer one appears meanwhile
    rows.to_parquet(file)
    return f"{wanted.name}@{commit}:{wanted.part}", len(rows)


def is_local(source: str, field: str) -> bool:
    """Whether a source `hf:...` is a folder on this machine."""
    return Path(parse(source, field).name).is_dir()


def _loaded(wanted: HubSource, source: str, field: str) -> Any:
    import datasets  # imported here because it takes seconds and most studies do not need it

    with explained(source, field):
        return datasets.load_dataset(wanted.name, wanted.config, revision=wanted.revision, split=wanted.split)


def _prefetched(wanted: HubSource, source: str, field: str) -> tuple[Path, str] | None:
    """File and identity of a data set in the folder that is read instead of the Hub; None if there is no such folder.

    Raises MissingSourceError if the folder lacks it, or UserError if its file is not the one that was fetched.
    """
    store = prefetched.in_use()
    if store is None or Path(wanted.name).is_dir():
        return None
    entry = store.data_set(source)
    if entry is None:
        raise MissingSourceError(f"'{source}' is not in {store.folder}: run `kp prefetch` for this study", field=field)
    file = store.folder / entry["file"]
    if not file.is_file() or file.stat().st_size != entry["bytes"]:
        raise UserError(f"{file}: missing, or not of the {entry['bytes']:,} bytes that were fetched: run `kp prefetch` again", field=field)
    return file, entry["identity"]


def _rows_of(file: Path) -> Iterator[dict[str, Any]]:
    with pq.ParquetFile(file) as rows:
        for batch in rows.iter_batches():
            yield from batch.to_pylist()


def identity(source: str, field: str) -> str:
    """`NAME@COMMIT:[CONFIG/]SPLIT`, or `SHA-256:[CONFIG/]SPLIT` for a local folder; MissingSourceError if the Hub returns no commit."""
    wanted = parse(source, field)
    if Path(wanted.name).is_dir():
        return f"{_folder_digest(Path(wanted.name))}:{wanted.part}"
    if (here := _prefetched(wanted, source, field)) is not None:
        return here[1]
    return f"{wanted.name}@{_commit(wanted, source, field)}:{wanted.part}"


def _commit(wanted: HubSource, source: str, field: str) -> str:
    if wanted.revision and COMMIT.fullmatch(wanted.revision):
        return wanted.revision
    return data_set_commit(wanted.name, wanted.revision, source, field)


def _folder_digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()}\n".encode())
        digest.update(bytes.fromhex(digest_file(path)))
    return digest.hexdigest()
