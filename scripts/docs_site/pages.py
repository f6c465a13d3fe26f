"""What a page of the site is, and the small pieces of Markdown that generated pages are made of."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Page:
    """One page: its file in the site's sources, such as `reference/knobs/search.md`, and its Markdown."""

    path: str
    title: str
    text: str


def cell(text: str) -> str:
    """A text as the cell of a table: one line, without what would end the cell or begin a tag."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose cells are Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def fenced(text: str, language: str = "") -> str:
    """A block of code, whatever fences the text itself has."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text.rstrip()}\n{fence}\n"
