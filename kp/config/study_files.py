"""Where a study's file is found, and the tables that it names.

The studies that ship with kp are those of ray_jobs/studies, which the folder `studies` of the package holds: a link in a checkout, copies
in a wheel. So whoever installed kp without its repository runs them too, by their bare names.
"""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from kp.errors import UserError

SHIPPED = Path(str(files("kp"))) / "studies"
TABLES = (("facts", "source"), ("categorise", "shots"), ("search", "replay_source"))
"""The fields that name a table in a file, by section."""


def shipped_studies() -> dict[str, Path]:
    """The files of the studies that ship with kp, by name."""
    return {file.stem: file for file in sorted(SHIPPED.glob("*.toml"))}


def study_file(given: Path) -> Path:
    """The file that a user means: the one given, or the study of this name that ships with kp where no such file exists.

    Raises UserError if a bare name is neither.
    """
    if given.exists() or given.suffix or given.name != str(given):
        return given
    shipped = shipped_studies()
    if given.name not in shipped:
        raise UserError(f"{given}: there is no such file, and no study of this name ships with kp ({', '.join(shipped)})")
    return shipped[given.name]


def with_tables_beside(document: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The content of a study's file in `folder`, with the tables that lie there and not where kp runs named as they are found from here.

    A path below the working folder stays relative, so a report names no folder of this machine that it need not name.
    """
    found = dict(document)
    for section, field in TABLES:
        values = found.get(section)
        if isinstance(values, Mapping) and isinstance(name := values.get(field), str):
            found[section] = {**values, field: _found(name, folder)}
    return found


def _found(name: str, folder: Path) -> str:
    beside = folder / name  # an absolute name stays what it is
    if not Path(name).suffix or Path(name).exists() or not beside.is_file():
        return name
    absolute = beside.absolute()
    return str(absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute)
