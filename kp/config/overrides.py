"""`section.key=value` on a command line: the value is read by the type of its field.

TOML alone cannot say what was meant: to it 1234567 is a number and 1e5 is 100000, where a model's revision is a text, and [a, b] is nothing
at all, since a shell has taken the quotes away. So a text is taken as it is written, and everything else as TOML.
"""

import re
import tomllib
from typing import Any

from pydantic import BaseModel

from kp.config.field_types import FieldType, Kind, field_type
from kp.errors import UserError

OVERRIDE_FIELD = "override"  # the argument of the command line, in messages about one that names no field

_ITEM = re.compile(r"""\s*("(?:\\.|[^"\\])*"|'[^']*'|[^,]*?)\s*(?:,|$)""")


def apply_override(document: dict[str, Any], override: str, study: type[BaseModel]) -> None:
    """Set one value of a study's document; raises UserError if the override has no field to set."""
    dotted, equals, text = override.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        raise UserError(f"'{override}': expected section.key=value", field=OVERRIDE_FIELD)
    for depth, key in enumerate(keys[:-1], start=1):
        document = document.setdefault(key, {})
        if not isinstance(document, dict):
            raise UserError(f"is not a section, so override '{override}' has nothing to set", field=".".join(keys[:depth]))
    document[keys[-1]] = read_value(text, field_type(study, ".".join(keys)))


def read_value(text: str, kind: FieldType | None) -> object:
    """The value that a text stands for in a field of this type, None if there is no such field; what does not fit stays a text."""
    if kind is None:
        return _toml(text)
    if not kind.is_list:
        return _text(text) if kind.kind is Kind.TEXT else _toml(text)
    bare = text.strip()
    if bare.startswith("[") and not bare.endswith("]"):
        return text
    items = bare[1:-1] if bare.startswith("[") else bare
    if kind.kind is Kind.TEXT:
        return _texts(items)
    listed = _toml(f"[{items}]")
    return listed if isinstance(listed, list) else text


def _texts(items: str) -> list[str]:
    """The texts between commas, each in quotes or not; a comma at the end adds none."""
    if not items.strip():
        return []
    return [_text(found[1]) for found in _ITEM.finditer(items.rstrip().removesuffix(",")) if found[0]]


def _text(text: str) -> str:
    """The text itself, or what a TOML string in quotes says."""
    quoted = _toml(text) if text[:1] in ("'", '"') else text
    return quoted if isinstance(quoted, str) else text


def _toml(text: str) -> object:
    try:
        document = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return document["value"] if len(document) == 1 else text
