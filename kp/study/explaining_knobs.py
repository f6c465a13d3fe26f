"""`kp explain`: what a knob means, takes and changes, as text of at most 80 columns or as JSON."""

import difflib
import json
import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kp.config.knobs import ROOT, Knob, KnobSection, all_knobs, all_sections
from kp.config.study_files import shipped_studies
from kp.config.toml import toml_value
from kp.errors import UserError
from kp.report.terminal import WIDTH
from kp.study.knob_steps import KnobSteps, knob_steps
from kp.study.knob_uses import PACKAGE, knob_uses

KNOB_FIELD = "KNOB"
"""The argument, in messages."""
_MOST_NEAR = 5


def explain_knobs(name: str | None, *, as_json: bool) -> int:
    """Print a knob, a section, or all sections if no name is given; raises UserError with the nearest names if there is none of this."""
    knobs, sections = all_knobs(), {section.name: section for section in all_sections()}
    if name is None:
        print(json.dumps(_plain_sections(), indent=1) if as_json else _listed_sections())
    elif name in knobs:
        told = _plain_knob(knobs[name])
        print(json.dumps(told, indent=1, ensure_ascii=False) if as_json else _knob_text(knobs[name], told, sections.get(name)))
    elif name in sections and name != ROOT:
        section = sections[name]
        print(json.dumps([_plain(knob) for knob in section.knobs], indent=1) if as_json else "\n".join(_section_lines(section)))
    else:
        raise UserError(f"there is no '{name}'; the nearest are {', '.join(nearest(name))}; `kp explain` lists them", field=KNOB_FIELD)
    return 0


def nearest(name: str) -> list[str]:
    """The knobs and sections whose names are most like this one: by the whole name, or by its last part."""
    names = [*all_knobs(), *(section.name for section in all_sections() if section.name)]
    last = name.rpartition(".")[2]
    same = [one for one in names if one.rpartition(".")[2] == last]
    whole = difflib.get_close_matches(name, names, n=_MOST_NEAR, cutoff=0.6)
    parts = [one for one in names if difflib.get_close_matches(last, [one.rpartition(".")[2]], cutoff=0.7)]
    found = list(dict.fromkeys([*same, *whole, *parts]))[:_MOST_NEAR]
    return found or [section.name for section in all_sections() if section.name]


def preset_values(name: str, studies: Mapping[str, Path]) -> dict[str, Any]:
    """What studies set a knob to, by study, given their files; of a list of tables, the different values of its items."""
    found = {}
    for study, file in studies.items():
        values = list(_values(tomllib.loads(file.read_text(encoding="utf-8")), name.split(".")))
        if values:
            found[study] = values[0] if len(values) == 1 else list(dict.fromkeys(map(toml_value, values)))
    return found


def _values(document: Any, keys: list[str]) -> Iterator[Any]:
    if not keys:
        yield document
    elif isinstance(document, list):
        for item in document:
            yield from _values(item, keys)
    elif isinstance(document, Mapping) and keys[0] in document:
        yield from _values(document[keys[0]], keys[1:])


def _plain(knob: Knob) -> dict[str, Any]:
    place = {"file": knob.file.relative_to(PACKAGE.parent).as_posix(), "line": knob.line}
    return asdict(knob) | place | {"type_text": knob.type_text, "default_text": knob.default_text}


def _plain_knob(knob: Knob) -> dict[str, Any]:
    presets = {study: value for study, value in preset_values(knob.name, shipped_studies()).items() if value != knob.default}
    uses = [asdict(use) for use in knob_uses(knob)]
    return _plain(knob) | {"presets": presets, "steps": asdict(knob_steps(knob)), "uses": uses}


def _plain_sections() -> list[dict[str, Any]]:
    return [{"name": one.name, "meaning": one.meaning, "knobs": [knob.name for knob in one.knobs]} for one in all_sections()]


def _listed_sections() -> str:
    lines = ["Sections of a study file; `kp explain SECTION` lists the knobs of one."]
    for section in all_sections():
        name = section.name or "(outside all sections)"
        lines += ["", f"{name}, {len(section.knobs)} knobs", *_wrapped(section.meaning)]
        if section.name == ROOT:
            lines += _wrapped(f"Its knobs: {', '.join(knob.name for knob in section.knobs)}.")
    return "\n".join(lines)


def _section_lines(section: KnobSection) -> Iterator[str]:
    yield section.name
    yield from _wrapped(section.meaning)
    for knob in section.knobs:
        yield ""
        yield from textwrap.wrap(f"{knob.name} = {knob.default_text}", WIDTH, subsequent_indent="    ")
        yield from _wrapped(knob.meaning)


def _knob_text(knob: Knob, told: Mapping[str, Any], section: KnobSection | None) -> str:
    lines = [knob.name, *_wrapped(knob.meaning), ""]
    lines += _row("type", knob.type_text)
    lines += _row("default", knob.default_text)
    lines += _row("declared", f"{told['file']}:{told['line']} ({knob.declared_by})")
    if knob.title:
        lines += _row("in reports", knob.title)
    lines += ["", "Made again when it changes:", *_wrapped(steps_text(KnobSteps(**told["steps"])))]
    if told["presets"]:
        lines += ["", "Studies of kp that set it differently:"]
        for study, value in told["presets"].items():
            lines += textwrap.wrap(f"{study}: {toml_value(value)}", WIDTH, initial_indent="  ", subsequent_indent="    ")
    lines += ["", f"Used in {len(told['uses'])} lines:"]
    for use in told["uses"]:
        lines += [f"  {use['file']}:{use['line']}", f"      {textwrap.shorten(use['code'], WIDTH - 6, placeholder=' ...')}"]
    if section is not None:
        lines += ["", f"Each of its tables takes: {', '.join(one.name.rpartition('.')[2] for one in section.knobs)}"]
    return "\n".join(lines)


def steps_text(steps: KnobSteps) -> str:
    """What is made again, in sentences."""
    if steps.chooses_trials:
        first = "It decides which trials there are: new ones are trained and measured, and those that stay are not made again."
        return f"{first} {_list(steps.rests)} follow for the new ones."
    if steps.reads:
        after = f" What rests on them is made again as well: {_list(steps.rests)}." if steps.rests else ""
        return f"{_list(steps.reads)}, whose identity it is part of.{after}"
    if steps.content:
        return "It is in no identity itself: a step is identified by the content of what it names, or it decides which steps there are."
    if steps.rests:
        return f"{_list(steps.rests)} alone."
    return "nothing: it changes where and how fast a study runs, or who is told, and no number."


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(names)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="  ")


def _row(name: str, text: str) -> list[str]:
    return textwrap.wrap(f"{name:<12}{text}", WIDTH, subsequent_indent=" " * 12)
