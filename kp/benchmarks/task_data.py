"""The data of lm-eval tasks in a local folder, one file a split: `ORGANISATION/NAME/CONFIG/SPLIT.parquet`, or .jsonl or .json, also .gz.

`kp prefetch` writes such a folder; a user may as well. The names are those of the data set on the Hub as the task's file gives them
(cais/mmlu, anatomy, test), the columns those of that data set.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kp.errors import UserError, first_line

FIELD = "evaluate.task_data"
ENDINGS = (".parquet", ".jsonl", ".json", ".jsonl.gz", ".json.gz")


@dataclass(frozen=True)
class DataSet:
    """A data set on the Hub, its config ("default" if it has none), the splits that a task names, and those that it cannot do without."""

    path: str
    config: str
    splits: tuple[str, ...]
    needed: tuple[str, ...]

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


def fetch_data(root: Path, data: DataSet) -> None:
    """Bring the splits of a data set on the Hub that are not there yet into `root`; raises UserError if it cannot be had."""
    from datasets import get_dataset_split_names, load_dataset

    config = None if data.config == "default" else data.config
    folder = data.folder(root)
    wanted = [split for split in data.splits if not _of_split(folder, split)]
    if not wanted or all(_of_split(folder, split) for split in data.needed):
        return
    folder.mkdir(parents=True, exist_ok=True)
    try:
        there = set(get_dataset_split_names(data.path, config))
        for split in wanted:
            if split in there:
                part = folder / f".{split}.parquet.part"
                load_dataset(data.path, config, split=split).to_parquet(part)
                part.rename(folder / f"{split}.parquet")
    except (OSError, ValueError) as error:
        raise UserError(
            f"{data.path} ({data.config}) cannot be had: {first_line(error)}; `evaluate.task_data` names a folder that has it", field=FIELD
        ) from error
