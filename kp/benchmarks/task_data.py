"""The data of lm-eval tasks in a local folder, one file a split: `ORGANISATION/NAME/CONFIG/SPLIT.parquet`, or .jsonl or .json, also .gz.

`kp prefetch` writes such a folder; a user may as well. The names are those of the data set on the Hub as the task's file gives them
(cais/mmlu, anatomy, test), the columns those of that data set. What is fetched is of one commit, which a record beside the files names.
"""

import hashlib
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kp.errors import UserError
from kp.store.data_commits import explained
from kp.store.files import read_json, write_json

FIELD = "evaluate.task_data"
ENDINGS = (".parquet", ".jsonl", ".json", ".jsonl.gz", ".json.gz")
FETCHED = "fetched.json"  # written last, with the commit


@dataclass(frozen=True)
class DataSet:
    """A data set on the Hub, its config ("default" if it has none), the splits that a task names, and those that it cannot do without."""

    path: str
    config: str
    splits: tuple[str, ...]
    needed: tuple[str, ...]

    @property
    def key(self) -> str:
        """Its name in the manifest of a prefetched folder."""
        return f"{self.path}:{self.config}"

    def folder(self, root: Path) -> Path:
        """Where its files are below a folder of task data."""
        return root / self.path / self.config


def data_files(root: Path, data: DataSet, task: str) -> list[Path]:
    """The files of a data set's splits that are there; raises UserError if one that the task needs is missing."""
    folder = data.folder(root)
    found = {split: path for split in data.splits for path in _of_split(folder, split)[:1]}
    for split in data.needed:
        if split not in found:
            expected = folder / f"{split}{ENDINGS[0]}"
            raise UserError(f"{expected} (or {', '.join(ENDINGS[1:])}) is missing, which task '{task}' reads", field=FIELD)
    return list(found.values())


def _of_split(folder: Path, split: str) -> list[Path]:
    return [path for ending in ENDINGS if (path := folder / f"{split}{ending}").is_file()]


def data_digest(root: Path, data: Iterable[tuple[DataSet, str]]) -> str:
    """SHA-256 over the contents of all files of these data sets, each with the name of a task that reads it."""
    digest = hashlib.sha256()
    for one, task in data:
        for file in data_files(root, one, task):
            digest.update(f"{one.path}\0{one.config}\0{file.name}\0".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def fetch_data(root: Path, data: DataSet, commit: str) -> None:
    """Bring the splits of a data set on the Hub into `root`, unless those of this commit are there.

    Raises MissingSourceError if the Hub does not give it, or UserError if it lacks a split that a task needs.
    """
    from datasets import get_dataset_split_names, load_dataset

    config = None if data.config == "default" else data.config
    folder = data.folder(root)
    if (read_json(folder / FETCHED) or {}).get("commit") == commit:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with explained(f"{data.path} ({data.config})", FIELD):
        there = set(get_dataset_split_names(data.path, config, revision=commit))
        if absent := set(data.needed) - there:
            raise UserError(f"{data.path} ({data.config}) at {commit} has no split {' or '.join(sorted(absent))}", field=FIELD)
        for split in data.splits:
            if split in there:
                load_dataset(data.path, config, revision=commit, split=split).to_parquet(folder / f"{split}.parquet")
    write_json(folder / FETCHED, {"commit": commit})
