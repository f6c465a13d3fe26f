"""A folder with everything that a study takes from the Hub, so that its run needs no network.

`kp prefetch` fills such a folder and writes its manifest last; a study with `resources.prefetched` reads it. Workers on other nodes resolve
the study's model by themselves, so the folder reaches them in an environment variable, together with those that keep the Hub's own
libraries offline.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kp.errors import UserError
from kp.store.files import read_json

FIELD = "resources.prefetched"
VARIABLE = "KP_PREFETCHED"
MANIFEST = "prefetched.json"


@dataclass(frozen=True)
class Prefetched:
    """A filled folder: `models` by name and asked revision, `data` by source (`hf:...`), `tasks` by `NAME:CONFIG`."""

    folder: Path
    models: Mapping[str, Mapping[str, Any]]
    data: Mapping[str, Mapping[str, Any]]
    tasks: Mapping[str, Mapping[str, Any]]

    @property
    def hub(self) -> Path:
        """Its cache of models, in the layout of the Hub's own cache."""
        return hub_cache(self.folder)

    def data_set(self, source: str) -> Mapping[str, Any] | None:
        """`file`, `identity`, `rows` and `sha256` of a data set; None if it is not here."""
        return self.data.get(source)


def hub_cache(folder: Path) -> Path:
    """Where a prefetched folder keeps models."""
    return folder / "hub"


def task_folder(folder: Path) -> Path:
    """Where a prefetched folder keeps the data of lm-eval's tasks."""
    return folder / "task_data"


def model_key(name: str, revision: str | None) -> str:
    """The key of a model in the manifest, with the revision that was asked for."""
    return name if revision is None else f"{name}@{revision}"


def read_manifest(folder: Path) -> Prefetched:
    """What a folder holds; UserError naming the field if `kp prefetch` has not finished there."""
    manifest = read_json(folder / MANIFEST)
    if manifest is None:
        raise UserError(f"{folder}: no {MANIFEST} there; `kp prefetch STUDY --to {folder}` writes it last", field=FIELD)
    return Prefetched(folder, manifest["models"], manifest["data"], manifest["tasks"])


def in_use() -> Prefetched | None:
    """The folder that this process reads instead of the Hub; None if it reads the Hub."""
    folder = os.environ.get(VARIABLE)
    return read_manifest(Path(folder)) if folder else None


def environment() -> dict[str, str]:
    """The variables with which another process reads the same folder; empty if this one reads the Hub."""
    folder = os.environ.get(VARIABLE)
    return _variables(Path(folder)) if folder else {}


@contextmanager
def reading(folder: str | None) -> Iterator[None]:
    """Read this folder instead of the Hub within the block, if one is given; UserError if it is not filled."""
    if folder is None:
        yield
        return
    path = Path(folder).expanduser().resolve()
    read_manifest(path)
    variables = _variables(path)
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _variables(folder: Path) -> dict[str, str]:
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    caches = {"HF_HUB_CACHE": str(hub_cache(folder)), "HF_DATASETS_CACHE": str(folder / "datasets")}
    return {VARIABLE: str(folder), **caches, **offline}
