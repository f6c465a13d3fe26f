"""`kp prefetch`: bring what a study takes from the Hub into one folder, for machines without a network.

The folder can hold what several studies need; what is there at the asked revision is kept. Its manifest names every file with its digest,
and is written after each part, so that an interrupted call continues.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from kp.benchmarks.harness_tasks import data_set, single_tasks
from kp.benchmarks.task_data import FIELD as TASK_DATA_FIELD
from kp.benchmarks.task_data import DataSet, data_files, fetch_data
from kp.config.derived import PARAPHRASER_FIELD, paraphraser
from kp.config.study import StudyConfig
from kp.errors import UserError
from kp.facts import hub
from kp.facts.replay import SOURCE_FIELD
from kp.facts.shots import FIELD as SHOTS_FIELD
from kp.facts.tables import FIELD as FACTS_FIELD
from kp.models.digests import sha256_of
from kp.models.hub import fetch_into
from kp.models.names import EMBEDDED, NAME_FIELD, NamedModel
from kp.progress import Display
from kp.store.data_commits import data_set_commit
from kp.store.draws import draw_key
from kp.store.files import read_json, write_json
from kp.store.prefetched import MANIFEST, hub_cache, model_key, task_folder
from kp.study.task_data import REMEDY


def prefetch_study(config: StudyConfig, to: Path) -> int:
    """Fetch the study's models and data sets into `to`; returns the exit code. UserError if one cannot be had."""
    folder, display = to.expanduser().resolve(), Display()
    try:
        (folder / "data").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{to}: cannot be made: {error.strerror}", field="--to") from error
    manifest: dict[str, Any] = read_json(folder / MANIFEST) or {"models": {}, "data": {}, "tasks": {}}
    for field, model in models_of(config):
        entry = _fetched_model(model, folder, field)
        manifest["models"][model_key(model.name, model.revision)] = entry
        write_json(folder / MANIFEST, manifest)
        display.line(f"{field}: {model.name} at {entry['revision']}, {_size(entry['files'])}")
    for field, source in data_sets_of(config):
        entry = manifest["data"][source] = _fetched_data(source, folder, field)
        write_json(folder / MANIFEST, manifest)
        display.line(f"{field}: {entry['identity']}, {entry['rows']:,} rows")
    commit_of = cache(lambda name: data_set_commit(name, None, name, TASK_DATA_FIELD, REMEDY))  # one of all configs of a data set
    for task, data in task_data_of(config):
        entry = manifest["tasks"][data.key] = _fetched_task_data(task, data, commit_of(data.path), folder)
        write_json(folder / MANIFEST, manifest)
        display.line(f"evaluate.tasks: {data.path} ({data.config}) at {entry['revision']}, for {task}")
    write_json(folder / MANIFEST, manifest)
    display.line(f"prefetched into {folder}; without a network: kp study STUDY resources.prefetched={folder}")
    return 0


def models_of(config: StudyConfig) -> Iterator[tuple[str, NamedModel]]:
    """The study's models on the Hub, with the fields that name them."""
    named: list[tuple[str, NamedModel | None]] = [(NAME_FIELD, config.model), (PARAPHRASER_FIELD, paraphraser(config))]
    seen = set()
    for field, model in named:
        if model is None or model.name == EMBEDDED or Path(model.name).expanduser().is_dir():
            continue
        key = model_key(model.name, model.revision)
        if key not in seen:
            yield field, model
        seen.add(key)


def data_sets_of(config: StudyConfig) -> Iterator[tuple[str, str]]:
    """The study's data sets on the Hub, with the fields that name them."""
    named = ((FACTS_FIELD, config.facts.source), (SHOTS_FIELD, config.categorise.shots), (SOURCE_FIELD, config.search.replay_source))
    seen = set()
    for field, source in named:
        if source and source.startswith(hub.PREFIX) and not hub.is_local(source, field) and source not in seen:
            yield field, source
            seen.add(source)


def task_data_of(config: StudyConfig) -> Iterator[tuple[str, DataSet]]:
    """The data sets on the Hub of the lm-eval tasks that are asked for by name, each with the first task that reads it."""
    if config.evaluate.task_data is not None:
        return
    tasks = [task for asked in config.evaluate.tasks for task in single_tasks(asked.name)]
    yield from {data_set(task): (task.name, data_set(task)) for task in reversed(tasks)}.values()


def _fetched_model(model: NamedModel, folder: Path, field: str) -> dict[str, Any]:
    """Its entry in the manifest, with the size and the digest of every file of its snapshot."""
    resolved = fetch_into(model, hub_cache(folder), field)
    snapshot = Path(resolved.path)
    listed = sorted(file for file in snapshot.rglob("*") if file.is_file())
    return {
        "revision": resolved.revision,
        "files": {str(file.relative_to(folder)): {"bytes": file.stat().st_size, "sha256": sha256_of(file)} for file in listed},
    }


def _fetched_data(source: str, folder: Path, field: str) -> dict[str, Any]:
    """Its entry in the manifest, with the identity that a run on the Hub's own copy would have."""
    file = folder / "data" / f"{draw_key(0, source)[:16]}.parquet"
    identity, rows = hub.save_rows(source, file, field)
    return {
        "file": str(file.relative_to(folder)),
        "identity": identity,
        "rows": rows,
        "bytes": file.stat().st_size,
        "sha256": sha256_of(file),
    }


def _fetched_task_data(task: str, data: DataSet, commit: str, folder: Path) -> dict[str, Any]:
    """Its entry in the manifest, with the size and the digest of the file of every split."""
    fetch_data(task_folder(folder), data, commit)
    files = data_files(task_folder(folder), data, task)
    return {
        "revision": commit,
        "files": {str(file.relative_to(folder)): {"bytes": file.stat().st_size, "sha256": sha256_of(file)} for file in files},
    }


def _size(files: dict[str, dict[str, Any]]) -> str:
    return f"{len(files)} files, {sum(entry['bytes'] for entry in files.values()) / 1e9:.2f} GB"
