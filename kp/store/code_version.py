"""Which code made a step: the commit that this package was checked out at, as far as git knows."""

import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parents[1]
CHECKOUT = "git checkout"
NO_CHECKOUT = "installed package, no git checkout"
STATED = "KP_COMMIT, no git checkout"
COMMIT_VARIABLE = "KP_COMMIT"
"""Where there is no checkout, as in a job whose working directory was uploaded without .git, its value is taken for the commit."""


@cache
def code_version() -> dict[str, Any]:
    """Of the code that this process runs, for a record; git is asked once in a process. Never part of an identity."""
    return version_of(PACKAGE)


def version_of(package: Path) -> dict[str, Any]:
    """`source` (CHECKOUT, STATED or NO_CHECKOUT), `commit`, and whether a file of the package is not as committed (`dirty`).

    The last two are None where they are not known: a package in no checkout has no commit but a stated one, of which git's ending "-dirty"
    alone says that files were changed. A package that is installed below somebody else's checkout is not of that checkout.
    """
    if _git(package, "ls-files", "--error-unmatch", "--", "__init__.py") is None:
        stated = os.environ.get(COMMIT_VARIABLE)
        if not stated:
            return {"source": NO_CHECKOUT, "commit": None, "dirty": None}
        return {"source": STATED, "commit": stated.removesuffix("-dirty"), "dirty": stated.endswith("-dirty") or None}
    status = _git(package, "status", "--porcelain", "--", ".")
    return {"source": CHECKOUT, "commit": _git(package, "rev-parse", "--verify", "HEAD"), "dirty": bool(status)}


def _git(folder: Path, *arguments: str) -> str | None:
    """What git says of this folder; None where it knows nothing of it, or is not there."""
    # A hook of git's sets variables that name the repository that it runs for, whatever folder is asked about.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment["GIT_OPTIONAL_LOCKS"] = "0"  # only looks: the index is not refreshed on disk
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], env=environment, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
