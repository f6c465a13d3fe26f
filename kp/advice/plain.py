"""A page as plain text for a terminal or a file, at most 80 columns wide."""

import io
import textwrap
from collections.abc import Iterator

from rich.console import Console

from kp.errors import printable
from kp.report.document import Block, Document, Figure, Points, Table, Text
from kp.report.terminal import WIDTH, terminal_table


def plain_text(document: Document) -> str:
    """The page's title, answer and sections; of pictures the caption."""
    lines = [document.title, "=" * len(document.title), "", *_wrapped(document.subtitle), ""]
    for sentence in document.answer:
        lines += _wrapped(sentence, "- ")
    for section in document.sections:
        lines += ["", section.title, "-" * len(section.title)]
        for block in section.blocks:
            lines += ["", *_block(block)]
    return printable("\n".join(line.rstrip() for line in lines) + "\n")


def _block(block: Block) -> Iterator[str]:
    match block:
        case Text():
            yield from _wrapped(block.text)
        case Points():
            for item in block.items:
                yield from _wrapped(item, "- ")
        case Figure():
            yield from _wrapped(f"[{block.name}] {block.caption}")
        case Table():
            yield from _table(block)


def _table(table: Table) -> Iterator[str]:
    written = io.StringIO()
    Console(file=written, width=WIDTH, color_system=None, highlight=False, markup=False, emoji=False).print(terminal_table(table))
    yield from written.getvalue().rstrip("\n").split("\n")


def _wrapped(text: str, mark: str = "") -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=mark, subsequent_indent=" " * len(mark), break_long_words=False, break_on_hyphens=False
    )
