"""The parts of a report, independent of any format.

The page and the Markdown file are both rendered from one `Document`, so they say the same things in the same order.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Text:
    kind: ClassVar[str] = "text"
    text: str


@dataclass(frozen=True)
class Points:
    """A bulleted list."""

    kind: ClassVar[str] = "points"
    items: tuple[str, ...]


@dataclass(frozen=True)
class Code:
    kind: ClassVar[str] = "code"
    text: str


@dataclass(frozen=True)
class Definitions:
    """Terms and what they mean."""

    kind: ClassVar[str] = "definitions"
    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Column:
    title: str
    numeric: bool = True


@dataclass(frozen=True)
class Row:
    """`reference` marks the base or the noise floor; `note` is a separate line below the row."""

    cells: tuple[str, ...]
    reference: bool = False
    note: str | None = None


@dataclass(frozen=True)
class Table:
    kind: ClassVar[str] = "table"
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    @property
    def characters(self) -> int:
        """Of the longest lines of all columns: what a row takes beside each other."""
        cells = zip(*(row.cells for row in self.rows), strict=True)
        return sum(max(len(line) for cell in column for line in cell.split("\n")) for column in cells)


@dataclass(frozen=True)
class Figure:
    """A picture, by the name of its file, and its caption."""

    kind: ClassVar[str] = "figure"
    name: str
    caption: str


@dataclass(frozen=True)
class Browser:
    """A table too long to print, to search on the page; `excerpt` is what a printed report shows of it.

    `data` is plain JSON that the page's script knows how to read.
    """

    kind: ClassVar[str] = "browser"
    caption: str
    data: Mapping[str, Any]
    excerpt: Table


Block = Text | Points | Code | Definitions | Table | Figure | Browser


@dataclass(frozen=True)
class Section:
    anchor: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Document:
    title: str
    subtitle: str
    answer: tuple[str, ...]  # sentences; the first stands out
    lead: Figure | None  # the picture next to the answer
    sections: tuple[Section, ...]


def columns(*titles: str, words: int = 1) -> tuple[Column, ...]:
    """Columns; the first `words` hold text, the rest numbers."""
    return tuple(Column(title, numeric=place >= words) for place, title in enumerate(titles))
