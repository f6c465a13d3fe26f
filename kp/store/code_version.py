"""The code that made a step: the commit at which this package is checked out, as far as git knows, or the version that is installed."""

import json
import os
import subprocess
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parents[1]
DISTRIBUTION = "kp-lora"
"""What pip installs this package by; on PyPI, `kp` is another project."""
CHECKOUT = "git checkout"
NO_CHECKOUT = "installed package, no git checkout"
STATED = "KP_COMMIT, no git checkout"
COMMIT_VARIABLE = "KP_COMMIT"
"""If there is no checkout, as in a job whose working directory was uploaded without .git, its value is taken as the commit."""


def own_version() -> str:
    """The version of this package, installed by pip or not; asking pip for `kp` would find another project, or none."""
    return str(import_module("kp").__version__)  # by name: this room imports nothing from above


@cache
def code_version() -> dict[str, Any]:
    """The version of the code that this process runs, for a record; git runs once per process. Never part of an identity."""
    return version_of(PACKAGE)


def version_of(package: Path) -> dict[str, Any]:
    """`source` (CHECKOUT, STATED or NO_CHECKOUT), `commit`, and whether a file of the package differs from the commit (`dirty`).

    The last two are None if unknown: without a checkout a package has only a stated commit, for which git's ending "-dirty" says that files
    were changed. A package that is installed inside another project's checkout does not belong to that checkout. A package that pip
    installed also has its `version`, and the commit that pip fetched, if it did (PEP 610).
    """
    if _git(package, "ls-files", "--error-unmatch", "--", "__init__.py") is None:
        stated = os.environ.get(COMMIT_VARIABLE)
        if not stated:
            return _installed(package)
        return {"source": STATED, "commit": stated.removesuffix("-dirty"), "dirty": stated.endswith("-dirty") or None}
    status = _git(package, "status", "--porcelain", "--", ".")
    return {"source": CHECKOUT, "commit": _git(package, "rev-parse", "--verify", "HEAD"), "dirty": bool(status)}


def _installed(package: Path) -> dict[str, Any]:
    """What pip noted of the distribution that this package is of; NO_CHECKOUT alone if it is of none."""
    try:
        found = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return {"source": NO_CHECKOUT, "commit": None, "dirty": None}
    if Path(str(found.locate_file(package.name))).resolve() != package.resolve():
        return {"source": NO_CHECKOUT, "commit": None, "dirty": None}
    origin = json.loads(found.read_text("direct_url.json") or "{}")
    commit = origin.get("vcs_info", {}).get("commit_id")
    return {"source": NO_CHECKOUT, "commit": commit, "dirty": None, "version": found.version}


def _git(folder: Path, *arguments: str) -> str | None:
    """git's output for this folder; None if git does not know the folder, or is not installed."""
    # A git hook sets variables that name its repository, which would override the folder.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment["GIT_OPTIONAL_LOCKS"] = "0"  # read-only: the index is not refreshed on disk
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], env=environment, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
