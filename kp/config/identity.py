"""The values of a study that identify a step: those of the sections that it reads, if they differ from a frozen default.

Defaults are frozen in `defaults.json`, by section class and field. A value at its frozen default is left out, so a knob that is added later
does not change the identity of older steps. A field that the file does not have yet is always part of the identity, which is safe but
redoes work; freezing it ends that. A default that changes in the code differs from the frozen one and so changes identities by itself. The
one dangerous edit, changing a frozen default in the file, is rejected by kp.study.freeze unless the version of every stage that reads it
rises.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from kp.config.section import Section

DEFAULTS_FILE = files("kp.config") / "defaults.json"


@cache
def frozen_defaults() -> dict[str, dict[str, Any]]:
    """Section class -> field -> default, as plain JSON."""
    defaults: dict[str, dict[str, Any]] = json.loads(DEFAULTS_FILE.read_text(encoding="utf-8"))["defaults"]
    return defaults


def stated(section: Section, defaults: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """Dotted field -> value, as plain JSON, for every field that differs from its default or has none.

    `defaults` are by default the frozen ones.
    """
    of_class = (frozen_defaults() if defaults is None else defaults).get(type(section).__name__, {})
    found: dict[str, Any] = {}
    for name, plain in section.model_dump(mode="json").items():
        value = getattr(section, name)
        if isinstance(value, Section):
            found |= {f"{name}.{field}": inner for field, inner in stated(value, defaults).items()}
            continue
        if isinstance(value, tuple) and any(isinstance(item, Section) for item in value):
            plain = [stated(item, defaults) for item in value]
        if name not in of_class or plain != of_class[name]:
            found[name] = plain
    return found


@dataclass(frozen=True)
class Reads:
    """The dotted fields, or whole sections, that determine a step's result: all below `of` and not below `but`; "" is every field."""

    of: tuple[str, ...]
    but: tuple[str, ...] = ()

    def covers(self, field: str) -> bool:
        """Whether the step reads this dotted field."""
        return _below(field, self.of) and not _below(field, self.but)

    def stated(self, config: Section) -> dict[str, Any]:
        """The values of these fields in `config`, without frozen defaults: dotted field -> value."""
        return {field: value for field, value in stated(config).items() if self.covers(field)}


def _below(field: str, sections: tuple[str, ...]) -> bool:
    return any(not section or field == section or field.startswith(f"{section}.") for section in sections)
