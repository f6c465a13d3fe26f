"""One row of a table that others wrote, whatever its format.

Every reader of a format yields rows of this one kind. A row that cannot be read keeps its number and says why, so that its user decides
whether one bad row stops everything: facts set it aside, shots and aliases refuse the file.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kp.errors import UserError
from kp.facts.cells import stripped

MOST_ROWS = 2_000_000
"""Of a table: its rows are held in memory, about 1 KB each. Larger sources are dumps, which are not."""


@dataclass(frozen=True)
class Row:
    """A row by its position: 1 is the first after the header, blank ones count; in JSON lines, it is the line.

    `cells` has the cells by column, whose names are folded. With a `fault`, it is empty, and `text` is how the row begins.
    """

    number: int
    cells: dict[str, Any] = field(default_factory=dict)
    fault: str | None = None
    text: str = ""


@dataclass(frozen=True)
class Rows:
    """The rows of a source, which can be read once, and what its reader had to find out about it.

    `form` is None if it is what the file's name promises, and `encoding` if it is UTF-8. `doubtful` fills while the rows are read: the
    numbers of those that may have swallowed others, because a quotation mark closes lines later.
    """

    rows: Iterator[Row]
    form: str | None = None
    encoding: str | None = None
    doubtful: list[int] = field(default_factory=list)

    def readable(self, where: str, config_field: str) -> Iterator[Row]:
        """The rows; UserError naming the config field, `where` and the row at the first one that cannot be read."""
        for row in self.rows:
            if row.fault:
                raise UserError(f"{where}: row {row.number}: {row.fault}: {row.text!r}", field=config_field)
            yield row

    def how_read(self, where: str, rows: Iterable[Row]) -> list[str]:
        """Sentences on how `where` was read, if there is something to say; `rows` are those that it had."""
        doubts = []
        if self.doubtful:
            which = f"{len(self.doubtful):,} rows have a quoted cell with lines that look like rows, first row {self.doubtful[0]}"
            doubts = [f"{where}: {which}; if they are rows, a quotation mark is missing"]
        taken = [text for text in (self.form, self.encoding) if text]
        if not taken:
            return doubts
        remedy = ""
        if self.encoding:
            found = next(((row.number, text) for row in rows for text in _not_ascii(row)), None)
            example = f"; row {found[0]} is not UTF-8 and reads {found[1][:60]!r}" if found else ""
            remedy = f"{example}; if that is wrong, save as CSV UTF-8"
        return [f"{where}: read as {', '.join(taken)}{remedy}", *doubts]


def _not_ascii(row: Row) -> list[str]:
    return [cell for cell in row.cells.values() if isinstance(cell, str) and not cell.isascii()]


def folded(name: Any) -> str:
    """A column's name without regard to case and surrounding blanks."""
    return stripped(str(name)).casefold()


def column_names(header: Iterable[Any], path: Path) -> list[str]:
    """The folded names of a header, of which blank ones may repeat; UserError if another one does."""
    names = ["" if name is None else folded(name) for name in header]
    repeated = [name for name, times in Counter(names).items() if name and times > 1]
    if repeated:
        raise UserError(f"{path}: column '{repeated[0]}' stands in the header twice")
    return names


def row_of(number: int, names: Sequence[str], cells: Sequence[Any]) -> Row | None:
    """The row with these cells, None if all are blank."""
    if all(cell is None or (isinstance(cell, str) and not stripped(cell)) for cell in cells):
        return None
    return Row(number, {name: cell for name, cell in zip(names, cells, strict=True) if name})


def row_of_object(number: int, value: Any) -> Row:
    """The row that a JSON object is."""
    if not isinstance(value, dict):
        return Row(number, fault="expected an object", text=str(value)[:200])
    names = [folded(name) for name in value]
    if len(set(names)) < len(names):
        return Row(number, fault="has two columns of one name", text=str(list(value))[:200])
    return Row(number, dict(zip(names, value.values(), strict=True)))
