"""The fields of a study, by their dotted names: what type each has, and how that is said to somebody who wrote something else.

Both the command line, which reads a value by its field's type, and messages about a wrong value need this; it is read off the sections'
annotations, so there is no second list of fields.
"""

import difflib
import enum
import types
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

NEAR = 0.6  # similarity of two names from which one is taken for a misspelling of the other


class Kind(StrEnum):
    """What one value is, in words for users."""

    TEXT = "text"
    SWITCH = "true or false"
    WHOLE = "whole number"
    NUMBER = "number"
    SECTION = "section"


@dataclass(frozen=True)
class FieldType:
    """The type of a field: one value, or a list of them; `words` are the only texts that it takes, if there are such."""

    kind: Kind
    is_list: bool
    words: tuple[str, ...] = ()
    section: type[BaseModel] | None = None
    default: Any = None


_KINDS = ((bool, Kind.SWITCH), (int, Kind.WHOLE), (float, Kind.NUMBER), (str, Kind.TEXT))
_EXAMPLES = {Kind.TEXT: "some_text", Kind.SWITCH: "true", Kind.WHOLE: "8", Kind.NUMBER: "0.5"}


def field_type(study: type[BaseModel], dotted: str) -> FieldType | None:
    """The type of the field with this name, of a section inside a list too ("search.arms.paraphrases"); None if there is none."""
    section: type[BaseModel] | None = study
    found = None
    for name in dotted.split("."):
        if section is None or name not in section.model_fields:
            return None
        field = section.model_fields[name]
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        found = _type_of(field.annotation, default)
        section = found.section
    return found


def _type_of(annotation: Any, default: Any) -> FieldType:
    one = _without_none(annotation)
    is_list = get_origin(one) is tuple
    if is_list:
        one = _without_none(get_args(one)[0])
    words = tuple(get_args(one)) if get_origin(one) is Literal else tuple(one) if isinstance(one, enum.EnumMeta) else ()
    if words:
        one = type(words[0])
    if isinstance(one, type) and issubclass(one, BaseModel):
        return FieldType(Kind.SECTION, is_list, section=one, default=default)
    kind = next(kind for python, kind in _KINDS if issubclass(one, python))
    return FieldType(kind, is_list, tuple(map(str, words)), default=default)


def _without_none(annotation: Any) -> Any:
    """The type itself, without `| None` and without the limits of an Annotated."""
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = next(part for part in get_args(annotation) if part is not type(None))
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def expectation(study: type[BaseModel], dotted: str) -> str | None:
    """What a field takes, with an example, such as "a whole number, such as facts.count=8"; None if there is no such field."""
    found = field_type(study, dotted)
    if found is None:
        return None
    if found.kind is Kind.SECTION and not found.is_list:
        assert found.section is not None
        inner = next(iter(found.section.model_fields))
        return f"expected a section; set one of its fields, such as {_example(study, f'{dotted}.{inner}')}"
    value = f"one of {', '.join(found.words)}" if found.words else found.kind.value if found.kind is Kind.SWITCH else f"a {found.kind}"
    if found.is_list:
        value = f"a list of {found.kind}s" + (f" from {', '.join(found.words)}" if found.words else "")
    return f"expected {value}, such as {_example(study, dotted)}"


def _example(study: type[BaseModel], dotted: str) -> str:
    found = field_type(study, dotted)
    assert found is not None
    value = _example_value(found)
    text = f"{dotted}=[{value}]" if found.is_list else f"{dotted}={value}"
    return f"'{text}'" if set(text) & set("[]{} ") else text  # as a shell takes it


def _example_value(found: FieldType) -> str:
    if found.is_list and found.default and found.kind is not Kind.SECTION:
        return ",".join(map(str, found.default))
    if found.kind is Kind.SECTION:
        assert found.section is not None
        name, field = next(iter(found.section.model_fields.items()))
        kind = _type_of(field.annotation, None).kind
        return f'{{{name} = "{_EXAMPLES[kind]}"}}' if kind is Kind.TEXT else f"{{{name} = {_EXAMPLES[kind]}}}"
    if found.default and not found.is_list and " " not in str(found.default):
        return str(found.default).lower() if found.kind is Kind.SWITCH else str(found.default)
    return found.words[0] if found.words else _EXAMPLES[found.kind]


def nearest_field(study: type[BaseModel], dotted: str) -> str | None:
    """The field that somebody probably meant who wrote this name; None if none is near."""
    names = list(_all_fields(study, ""))
    section, _, last = dotted.rpartition(".")
    beside = [name for name in names if name.rpartition(".")[0] == section]
    near = difflib.get_close_matches(dotted, beside, n=1, cutoff=_cutoff(section, last))
    elsewhere = [name for name in names if name.rpartition(".")[2] == last]
    return next(iter([*near, *elsewhere, *difflib.get_close_matches(dotted, names, n=1, cutoff=0.8)]), None)


def _cutoff(section: str, last: str) -> float:
    """The similarity of two dotted names that share a section whose last parts are similar by NEAR."""
    shared = len(section) + 1 if section else 0
    return (shared + NEAR * len(last)) / (shared + len(last))


def _all_fields(section: type[BaseModel], above: str) -> Iterator[str]:
    for name, field in section.model_fields.items():
        yield f"{above}{name}"
        inner = _type_of(field.annotation, None).section
        if inner is not None:
            yield from _all_fields(inner, f"{above}{name}.")
