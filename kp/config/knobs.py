"""Every knob of a study file as a record: its name, meaning, type, default and place in the code.

All of it is read from the sections themselves: the meaning from the docstring below the field, the type from its annotation, the limits
from what pydantic checks. So `kp explain` and the reference pages of the docs show what the code says, and no second list of knobs exists.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from kp.config.docstrings import Declaration, declaration_of, declarations
from kp.config.field_types import FieldType, Kind, field_type
from kp.config.section import MOST_COUNT
from kp.config.study import StudyConfig
from kp.config.toml import toml_value

ROOT = ""
"""The name of the section that holds the fields outside all tables."""
_LIMITS = {"exclusiveMinimum": "above", "minimum": "at least", "exclusiveMaximum": "below", "maximum": "at most"}


@dataclass(frozen=True)
class Knob:
    """One field of a study file that holds values, not a section."""

    name: str
    """Dotted: `search.rank`, `search.arms.highly_known`."""
    section: str
    """Dotted name of its section: `search`, `search.arms`; "" for a field outside all tables."""
    meaning: str
    """Its docstring, as one paragraph."""
    type: str
    """In words: `whole number`, `list of numbers`, `text`."""
    allowed: tuple[str, ...]
    """The only values that it takes, if there are such."""
    limits: str
    """In words: `above 0`, `at least 0, below 1`; "" if there are none."""
    required: bool
    """Whether a study must set it."""
    optional: bool
    """Whether it may be absent, which means something of its own: its default is then None."""
    default: Any
    """Plain JSON; None if it is required or absent by default."""
    title: str | None
    """Its name in reports, where that is not the field's."""
    declared_by: str
    """The class that declares it, such as `TrialSettings`."""
    file: Path
    line: int

    @property
    def default_text(self) -> str:
        """The default as it would stand in a study file; `absent` or `none: a study must set it`."""
        if self.required:
            return "none: a study must set it"
        return "absent" if self.default is None else toml_value(self.default)

    @property
    def type_text(self) -> str:
        """Type, allowed values and limits in one line."""
        words = f"one of {', '.join(self.allowed)}" if self.allowed else self.type
        if self.allowed and self.type.startswith("list"):
            words = f"list, each {words}"
        return f"{words}, {self.limits}" if self.limits else words


@dataclass(frozen=True)
class KnobSection:
    """A table of a study file; `knobs` are its own, without those of sections inside it."""

    name: str
    meaning: str
    is_list: bool
    """Whether it is a list of tables, such as `search.arms`."""
    knobs: tuple[Knob, ...]


@cache
def all_sections() -> tuple[KnobSection, ...]:
    """Every section in the order of the study file, each before those inside it; the first is that of fields outside all tables."""
    return tuple(_sections(StudyConfig, ROOT, "", False))


@cache
def all_knobs() -> Mapping[str, Knob]:
    """Every knob by its dotted name, in the order of the study file."""
    return {knob.name: knob for section in all_sections() for knob in section.knobs}


def _sections(model: type[BaseModel], name: str, meaning: str, is_list: bool) -> Iterator[KnobSection]:
    said = declarations(model)
    knobs, inside = [], []
    for field in model.model_fields:
        dotted = f"{name}.{field}".removeprefix(".")
        kind = field_type(StudyConfig, dotted)
        assert kind is not None
        if kind.section is not None:
            text = said[field].text or declaration_of(kind.section).text
            inside.append((kind.section, dotted, text, kind.is_list))
        if kind.section is None or kind.is_list:
            knobs.append(_knob(model, field, name, kind, said[field]))
    yield KnobSection(name, meaning or declaration_of(model).text, is_list, tuple(knobs))
    for section in inside:
        yield from _sections(*section)


def _knob(model: type[BaseModel], field: str, section: str, kind: FieldType, said: Declaration) -> Knob:
    info = model.model_fields[field]
    schema = _schema(model)["properties"][field]
    required = info.is_required()
    return Knob(
        name=f"{section}.{field}".removeprefix("."),
        section=section,
        meaning=said.text,
        type=_type_words(kind, schema),
        allowed=kind.words,
        limits=_limits(schema),
        required=required,
        optional=not required and kind.default is None,
        default=None if required else _plain_default(model, field),
        title=info.title,
        declared_by=said.owner,
        file=said.file,
        line=said.line,
    )


def _type_words(kind: FieldType, schema: Mapping[str, Any]) -> str:
    one = "table" if kind.kind is Kind.SECTION else kind.kind.value
    if not kind.is_list:
        return one
    many = "true or false values" if kind.kind is Kind.SWITCH else f"{one}s"
    pair = next((part for part in _parts(schema) if "prefixItems" in part), None)
    return f"list of {len(pair['prefixItems'])} {many}" if pair else f"list of {many}"


def _limits(schema: Mapping[str, Any]) -> str:
    found: dict[str, str] = {}
    for part in _parts(schema):
        for key, words in _LIMITS.items():
            if key in part and part[key] != MOST_COUNT:
                found.setdefault(key, f"{words} {toml_value(part[key])}")
        if "pattern" in part:
            found.setdefault("pattern", f"matching {part['pattern']}")
    return ", ".join(found.values())


def _parts(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A field's JSON schema and those of its alternatives and items; not those of tables inside it."""
    yield schema
    for inner in (*schema.get("anyOf", ()), *([schema["items"]] if isinstance(schema.get("items"), Mapping) else [])):
        yield from _parts(inner)


@cache
def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema()


def _plain_default(model: type[BaseModel], field: str) -> Any:
    value = model.model_fields[field].get_default(call_default_factory=True)
    one = model.model_construct(**{field: value}).model_dump(mode="json", include={field}, exclude_defaults=False, warnings=False)
    plain = one[field]
    if isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
        return [item.model_dump(mode="json", exclude_defaults=True) for item in value]
    return plain
