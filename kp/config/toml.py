"""Plain values as TOML, the form of a study file."""

from collections.abc import Mapping, Sequence
from typing import Any


def toml_text(config: Mapping[str, Any]) -> str:
    """Nested plain values as TOML; keys with None are left out, because TOML has no null."""
    lines = [f"{key} = {toml_value(value)}" for key, value in config.items() if value is not None and not isinstance(value, Mapping)]
    for name, section in config.items():
        if isinstance(section, Mapping):
            body = [f"{key} = {toml_value(value)}" for key, value in section.items() if value is not None]
            lines += ["", f"[{name}]", *body]
    return "\n".join(lines).strip() + "\n"


def toml_value(value: object) -> str:
    """A plain value as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        inner = ", ".join(f"{key} = {toml_value(part)}" for key, part in value.items() if part is not None)
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    if isinstance(value, Sequence):
        return "[" + ", ".join(toml_value(part) for part in value) + "]"
    return f"{value:g}" if isinstance(value, float) and value == float(f"{value:g}") and "." in f"{value:g}" else str(value)
