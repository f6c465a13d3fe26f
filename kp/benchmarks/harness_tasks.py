"""Any task of lm-eval's collection by its name: which single tasks a name stands for, and one of them made ready to be asked.

A group (mmlu) or tag stands for its single tasks. Finding a name reads all of lm-eval's task files, which takes seconds; so that is done
once, by the driver, and an actor is told the file of the task it is to ask. lm-eval's own loader would fetch a task's data from the Hub
when a task is made. Here a task is made from its file's contents with the place of its data replaced, so nothing is fetched.

lm-eval is imported inside the functions, so that plans can use this module without paying for it.
"""

import contextlib
import difflib
import hashlib
import importlib.metadata
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from kp.benchmarks.task_data import DataSet, data_files
from kp.config.study import EvaluateConfig
from kp.errors import UserError, first_line
from kp.models.names import cache_root
from kp.store.files import read_json, write_json

FIELD = "evaluate.tasks"
KINDS = ("multiple_choice", "loglikelihood", "generate_until")
"""lm-eval's kinds of tasks that score one question at a time."""


@dataclass(frozen=True)
class HarnessTask:
    """A single task: its name, and its file below lm-eval's folder of tasks."""

    name: str
    file: str


def single_tasks(name: str) -> list[HarnessTask]:
    """The single tasks that a task, group or tag of lm-eval stands for, in lm-eval's order.

    Raises UserError if lm-eval has none of that name, or one that is Python code instead of a task file.
    """
    index = _index()
    if name not in index:
        near = difflib.get_close_matches(name, index, n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UserError(f"lm-eval {importlib.metadata.version('lm-eval')} has no task '{name}'{hint}", field=FIELD)
    return [HarnessTask(one, index[one]) for one in dict.fromkeys(_below(name, index))]  # type: ignore[arg-type]


def _below(name: str, index: Mapping[str, str | list[str] | None]) -> Iterator[str]:
    members = index.get(name)
    if members is None:
        raise UserError(f"lm-eval's '{name}' is not made of plain task files, which kp needs to read", field=FIELD)
    if isinstance(members, str):
        yield name
        return
    for one in members:
        yield from _below(one, index)


@cache
def _index() -> dict[str, str | list[str] | None]:
    """Name -> the file of a single task, the members of a group or tag, or None for what is no plain task file.

    It is kept for this version of lm-eval, because reading all files takes seconds.
    """
    kept = cache_root() / f"lm-eval-{importlib.metadata.version('lm-eval')}-tasks.json"
    if (found := read_json(kept)) is not None:
        return found
    from lm_eval.tasks import TaskManager

    made = {name: _indexed(entry) for name, entry in TaskManager().task_index.items()}
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_json(kept, made)
    return made


def _indexed(entry: Any) -> str | list[str] | None:
    if entry.kind.name == "TASK":
        return str(Path(entry.yaml_path).relative_to(_folder()))
    if entry.kind.name == "TAG":
        return sorted(entry.tags)
    if entry.kind.name == "GROUP" and all(isinstance(member, str) for member in entry.cfg["task"]):
        return list(entry.cfg["task"])
    return None


def _folder() -> Path:
    import lm_eval.tasks

    return Path(lm_eval.tasks.__file__).parent


@cache  # of every step of every trial
def data_set(task: HarnessTask) -> DataSet:
    """The data that a task asks questions and shots of."""
    config = _config(task)
    splits = tuple(
        dict.fromkeys(
            str(config[name]) for name in ("test_split", "validation_split", "fewshot_split", "training_split") if config.get(name)
        )
    )
    needed = tuple(str(config[name]) for name in ("test_split", "fewshot_split") if config.get(name)) or splits[:1]
    return DataSet(str(config["dataset_path"]), str(config.get("dataset_name") or "default"), splits, needed)


def validate_tasks(settings: EvaluateConfig) -> None:
    """Raise UserError if lm-eval lacks a task that is asked for, or the folder with task data lacks a file."""
    for asked in settings.tasks:
        if asked.fewshot is None:
            _validate_shots(asked.name)
        for task in single_tasks(asked.name):
            _validate_kind(task)
            if settings.task_data:
                data_files(Path(settings.task_data), data_set(task), task.name)


def _validate_shots(name: str) -> None:
    shots = sorted({int(_config(task).get("num_fewshot") or 0) for task in single_tasks(name)})
    if len(shots) > 1:
        raise UserError(
            f"'{name}' has tasks with {' and '.join(map(str, shots))} shots, which make no one score; give it `fewshot`, or name its tasks",
            field=FIELD,
        )


def _validate_kind(task: HarnessTask) -> None:
    kind = _config(task).get("output_type", "generate_until")
    if kind not in KINDS:
        raise UserError(
            f"'{task.name}' is of lm-eval's kind {kind}, which has no score a question; kp asks {', '.join(KINDS)}", field=FIELD
        )


def template_hash(task: HarnessTask) -> str:
    """SHA-256 over the task's file and every task file and Python file beside it, which it may include."""
    folder = (_folder() / task.file).parent
    digest = hashlib.sha256(task.name.encode())
    for file in sorted([*folder.glob("*.yaml"), *folder.glob("*.py"), *folder.glob("_*")]):
        if file.is_file():
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def make_task(task: HarnessTask, folder: Path) -> Any:
    """The task as lm-eval asks it, with its data from `folder`; raises UserError naming the file that is missing."""
    from lm_eval.api.task import ConfigurableTask

    files = data_files(folder, data_set(task), task.name)
    kind = "parquet" if files[0].suffix == ".parquet" else "json"
    named = {file.name.split(".")[0]: str(file) for file in files}
    config = _config(task)
    absent = [name for name in ("training_split", "validation_split", "test_split") if config.get(name) and config[name] not in named]
    local: dict[str, Any] = {"dataset_path": kind, "dataset_name": None, "dataset_kwargs": {"data_files": named}}
    asked = next((config[name] for name in ("test_split", "validation_split") if config.get(name) in named), None)
    others = [config[name] for name in ("fewshot_split", "training_split", "validation_split") if config.get(name) in named]
    # lm-eval leaves a question out of its own shots only where it is told that both are of one split.
    local["fewshot_split"] = next((split for split in others if split != asked), asked)
    with contextlib.redirect_stderr(io.StringIO()):  # bars of datasets
        return ConfigurableTask(config=config | local | dict.fromkeys(absent))


def _config(task: HarnessTask) -> dict[str, Any]:
    """The contents of the task's file, with its functions; raises UserError if those need a package that is not installed."""
    from lm_eval.tasks._yaml_loader import load_yaml

    try:
        return dict(load_yaml(_folder() / task.file, resolve_func=True))
    except ImportError as error:
        raise UserError(f"'{task.name}' needs packages of its own: {first_line(error)}", field=FIELD) from error
