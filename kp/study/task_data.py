"""What the data of a study's lm-eval tasks are: a user's files, by their digest, or data sets on the Hub, each at a commit.

A study stays with the commits that it began with, which its folder keeps: adapters that are trained later answer the questions that the
base has answered, and a study that goes on needs the Hub no more.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from kp.benchmarks.harness_tasks import data_set, single_tasks
from kp.benchmarks.task_data import FIELD, DataSet, data_digest
from kp.config.study import StudyConfig
from kp.errors import MissingSourceError, UserError
from kp.models.digests import sha256_of
from kp.store import prefetched
from kp.store.data_commits import data_set_commit
from kp.store.filenames import TASK_DATA_FILE
from kp.store.files import read_json, write_json

REMEDY = "`evaluate.task_data` names a folder that has it, and `kp prefetch` brings it where there is a network"

TaskData = str | Mapping[str, str]
"""The digest of files, or the commit of each data set by its name on the Hub."""


def task_data_identities(config: StudyConfig, folder: Path) -> dict[str, TaskData]:
    """The data of each task that the study asks for, by the task's name; `folder` is the study's, which may not exist yet.

    Raises MissingSourceError if neither the folder, nor the prefetched one, nor the Hub tells a commit, or UserError for damaged files.
    """
    settings = config.evaluate
    read = {task.name: [(data_set(one), one.name) for one in single_tasks(task.name)] for task in settings.tasks}
    if settings.task_data is not None:
        return {name: data_digest(Path(settings.task_data), data) for name, data in read.items()}
    commits = _commits((data for of_task in read.values() for data, _ in of_task), folder)
    return {name: {data.path: commits[data.path] for data, _ in of_task} for name, of_task in read.items()}


def validate_task_data(config: StudyConfig) -> None:
    """Raise UserError if the data of tasks would be fetched into the study's folder, which other nodes do not see."""
    if config.evaluate.tasks and config.evaluate.task_data is None and prefetched.in_use() is None:
        raise UserError(
            "with results in a bucket there is no folder that every node sees: name one that every node has with the data of "
            "evaluate.tasks, or give resources.prefetched",
            field=FIELD,
        )


def described_task_data(config: StudyConfig, folder: Path, note: Callable[[MissingSourceError], None]) -> dict[str, TaskData]:
    """The same for a plan; `note` is called if it is not known."""
    try:
        return task_data_identities(config, folder)
    except MissingSourceError as error:
        note(error)
        return {}


def keep_task_data(found: Mapping[str, TaskData], folder: Path) -> None:
    """Write down which commits a study uses."""
    used = {name: commit for data in found.values() if not isinstance(data, str) for name, commit in data.items()}
    kept = read_json(folder / TASK_DATA_FILE) or {}
    if used.items() - kept.items():
        write_json(folder / TASK_DATA_FILE, kept | used)


def _commits(asked: Iterable[DataSet], folder: Path) -> dict[str, str]:
    """Commits by the names of data sets: what was prefetched, else what the study began with, else what the Hub has now."""
    here = prefetched.in_use()
    known: dict[str, str] = read_json(folder / TASK_DATA_FILE) or {} if here is None else {}
    for data in dict.fromkeys(asked):
        if here is not None:
            commit = _prefetched_commit(here, data)
            if known.setdefault(data.path, commit) != commit:
                raise UserError(f"{here.folder} holds {data.path} at two commits: run `kp prefetch` again", field=FIELD)
        elif data.path not in known:
            known[data.path] = data_set_commit(data.path, None, data.path, FIELD, REMEDY)
    return known


def _prefetched_commit(here: prefetched.Prefetched, data: DataSet) -> str:
    entry = here.tasks.get(data.key)
    if entry is None:
        raise MissingSourceError(f"'{data.path}' ({data.config}) is not in {here.folder}: run `kp prefetch` for this study", field=FIELD)
    for name, listed in entry["files"].items():
        file = here.folder / name
        if not file.is_file() or file.stat().st_size != listed["bytes"] or sha256_of(file) != listed["sha256"]:
            raise UserError(f"{file}: missing, or not the file that was fetched: run `kp prefetch` again", field=FIELD)
    return str(entry["revision"])
