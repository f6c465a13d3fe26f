"""Which values of a study a step is known by: those of the sections that it reads, where they differ from a frozen default.

Defaults are frozen in `defaults.json`, by section class and field. A value at its frozen default is left out, so a knob that is added later
leaves older steps what they are. A field that the file does not know yet is always part of the identity, which is safe and redoes work;
freezing it ends that. A default that changes in the code differs from the frozen one and so changes identities by itself. The one dangerous
edit, a frozen default that changes in the file, is refused by kp.study.freeze unless the version of every stage that reads it rises.
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
    """Dotted field -> value, as plain JSON, of all that differs from its default or has none.

    By the frozen defaults where none are given.
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
    """The dotted fields, or whole sections, that decide what a step makes: all below `of` that are not below `but`; "" is every field."""

    of: tuple[str, ...]
    but: tuple[str, ...] = ()

    def covers(self, field: str) -> bool:
        """Whether the step reads this dotted field."""
        return _below(field, self.of) and not _below(field, self.but)

    def stated(self, config: Section) -> dict[str, Any]:
        """What `config` says of these fields, less the frozen defaults: dotted field -> value."""
        return {field: value for field, value in stated(config).items() if self.covers(field)}


def _below(field: str, sections: tuple[str, ...]) -> bool:
    return any(not section or field == section or field.startswith(f"{section}.") for section in sections)
