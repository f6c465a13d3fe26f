"""A page for every section of a study file, from the docstrings, types and defaults of kp's config."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from kp.config.knobs import Knob, KnobSection, all_knobs, all_sections
from scripts.docs_site.pages import Page

FOLDER = "reference/knobs"


def knob_pages() -> Iterator[Page]:
    """The list of all knobs, and one page for each section with its subsections."""
    pages: dict[str, list[KnobSection]] = {}
    for section in all_sections():
        pages.setdefault(section.name.split(".")[0] or "study", []).append(section)
    yield _index(pages)
    for name, sections in pages.items():
        yield _page(name, sections)


def _index(pages: Mapping[str, list[KnobSection]]) -> Page:
    lines = [
        "# Knobs",
        f"A study file has {len(all_knobs())} knobs. Each page is one section of it, made from the code when this site was built: meaning, "
        "type and default are those that kp itself reads.",
    ]
    for name, sections in pages.items():
        links = [f"[`{knob.name}`]({name}.md#{_anchor(knob)})" for section in sections for knob in section.knobs]
        lines += [f"## [{name}]({name}.md)", ", ".join(links)]
    return Page(f"{FOLDER}/index.md", "All knobs", "\n\n".join(lines) + "\n")


def _page(name: str, sections: list[KnobSection]) -> Page:
    title = "Outside all sections" if name == "study" else name
    lines = [f"# {title}"]
    for section in sections:
        if section.name != sections[0].name:
            lines.append(f"## {'[[' if section.is_list else '['}{section.name}{']]' if section.is_list else ']'}")
        if section.meaning:
            lines.append(_prose(section.meaning))
        lines += [_knob(knob) for knob in section.knobs]
    return Page(f"{FOLDER}/{name}.md", title, "\n\n".join(lines) + "\n")


def _knob(knob: Knob) -> str:
    facts = [f"*{_prose(knob.type_text)}*", f"default `{knob.default_text}`"]
    if knob.title:
        facts.append(f"in reports: {knob.title}")
    heading = f"### {knob.name} {{ #{_anchor(knob)} }}"
    return f"{heading}\n\n{_prose(knob.meaning)}\n\n{' · '.join(facts)} · <small>{_place(knob)}</small>"


def _place(knob: Knob) -> str:
    root = Path(__file__).parents[2]
    return f"`{knob.file.relative_to(root).as_posix()}`, line {knob.line}"


def _anchor(knob: Knob) -> str:
    return knob.name.replace(".", "-")


def _prose(text: str) -> str:
    return text.replace("<", "&lt;")
