"""Freeze the defaults of the study file's fields: `python -m kp.study.freeze` rewrites kp/config/defaults.json.

Run it after adding a knob, so that a study that does not set the knob keeps its steps, and after raising the version of a stage. It is an
error if a frozen default changed or is missing, unless the version of every stage and measurement that reads the field rises in the same
edit: otherwise older results would be taken for those of the new default.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from kp.config.identity import DEFAULTS_FILE, Reads, stated
from kp.config.search import Arm, SearchArm, TrialSettings
from kp.config.section import Section
from kp.config.study import StudyConfig
from kp.errors import UserError
from kp.study.inspection import Inspecting
from kp.study.measurements.registry import MEASUREMENTS
from kp.study.registry import STAGES


class Reader(Protocol):
    """A stage, a measurement or an inspection: anything with a version that reads fields."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def reads(self) -> Reads: ...


READERS: tuple[Reader, ...] = (*STAGES, *MEASUREMENTS, Inspecting())
# Sections of a trial's spec, and the place of their fields in a study's file.
CARRIED: dict[type[Section], str] = {TrialSettings: "search", Arm: "search.arms", SearchArm: "search.arms"}


@dataclass(frozen=True)
class Frozen:
    """The content of the file: versions by the reader's name, defaults by section class and field."""

    versions: Mapping[str, int]
    defaults: Mapping[str, Mapping[str, Any]]

    def text(self) -> str:
        """The file's contents."""
        return json.dumps({"versions": self.versions, "defaults": self.defaults}, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def sections() -> dict[type[Section], str]:
    """Every section class, and the dotted path of its fields."""
    return dict(_below(StudyConfig, "")) | CARRIED


def _below(section: type[Section], place: str) -> Iterator[tuple[type[Section], str]]:
    yield section, place
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from _below(field.annotation, f"{place}.{name}".removeprefix("."))


def live() -> Frozen:
    """The current versions and defaults of the code."""
    defaults = {section.__name__: dict(_defaults(section)) for section in sections()}
    return Frozen({reader.name: reader.version for reader in READERS}, defaults)


def _defaults(section: type[Section]) -> Iterator[tuple[str, Any]]:
    """The defaults of a section's own fields; for a list of sections, what its items set in addition to their defaults."""
    given = {name: field.get_default(call_default_factory=True) for name, field in section.model_fields.items() if not field.is_required()}
    plain = section.model_construct(**given).model_dump(mode="json", include=set(given), warnings=False)
    for name, value in given.items():
        if isinstance(value, tuple) and any(isinstance(item, Section) for item in value):
            yield name, [stated(item, {type(item).__name__: dict(_defaults(type(item)))}) for item in value]
        elif not isinstance(value, Section):
            yield name, plain[name]


def frozen(path: Path) -> Frozen:
    """The content of the file; empty if it does not exist."""
    if not path.exists():
        return Frozen({}, {})
    document = json.loads(path.read_text(encoding="utf-8"))
    return Frozen(document["versions"], document["defaults"])


def check(old: Frozen, new: Frozen) -> None:
    """Raise UserError if a frozen default changed or disappeared and the version of a reader of that field did not rise."""
    places = {section.__name__: place for section, place in sections().items()}
    faults = []
    for section, fields in old.defaults.items():
        for name, value in fields.items():
            if new.defaults.get(section, {}).get(name, ...) == value:
                continue
            dotted = f"{places[section]}.{name}".removeprefix(".") if section in places else name
            stale = [one.name for one in READERS if _reads(one, section, dotted, places) and not _rose(one.name, old, new)]
            if stale:
                faults.append(
                    f"{dotted}: no longer {value!r} by default; raise the version of {', '.join(stale)}, whose results it decides"
                )
    if faults:
        raise UserError("\n".join(faults))


def _reads(reader: Reader, section: str, dotted: str, places: Mapping[str, str]) -> bool:
    # It is unknown who read a field of a section that no longer exists.
    return section not in places or reader.reads.covers(dotted)


def _rose(name: str, old: Frozen, new: Frozen) -> bool:
    return name not in old.versions or new.versions.get(name, 0) > old.versions[name]


def main() -> int:
    """Rewrite the file, or report why that is not allowed."""
    path = Path(str(DEFAULTS_FILE))
    now = live()
    try:
        check(frozen(path), now)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    path.write_text(now.text(), encoding="utf-8")
    print(f"{path}: {sum(map(len, now.defaults.values()))} defaults of {len(now.defaults)} sections, {len(now.versions)} versions")
    return 0


if __name__ == "__main__":
    sys.exit(main())
