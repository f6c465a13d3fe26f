"""How much an .xlsx file unfolds to, before its reader makes a grid of it.

It is a zip archive, of which a few kilobytes can hold gigabytes, and its reader fills the whole rectangle up to the last cell: one cell
in the last row and column of a sheet would be 17 billion.
"""

import io
import re
import zipfile
import zlib
from pathlib import Path

from kp.errors import UserError
from kp.facts.text_files import MOST_DOCUMENT

MOST_CELLS = 50_000_000  # of a sheet's rectangle
_PIECE = 1 << 20  # bytes
_CELL = re.compile(rb"""\br=["']\$?([A-Za-z]{1,3})\$?(\d{1,7})["']""")
_LONGEST_NAME = 16  # bytes, of a cell's name with what is around it


def validate_sheets(content: bytes, path: Path, field: str) -> None:
    """Raise UserError, for the config field, if the archive is damaged, or if it or one of its sheets is too large."""
    left = MOST_DOCUMENT
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.infolist():
                size, cells = _unfolded(archive, member, left)
                left -= size
                if left < 0:
                    raise UserError(f"{path}: has more than {MOST_DOCUMENT >> 20:,} MiB of content; save it as .csv", field=field)
                if cells > MOST_CELLS:
                    raise UserError(f"{path}: {member.filename} has a cell far from all others; save what is a table as .csv", field=field)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise UserError(f"{path}: not a readable Excel file: {error}", field=field) from error


def _unfolded(archive: zipfile.ZipFile, member: zipfile.ZipInfo, most: int) -> tuple[int, int]:
    """The bytes of a member, as far as they are not more than `most`, and the cells of the rectangle from its first to its last."""
    size, row, column, held = 0, 0, 0, b""
    with archive.open(member) as file:
        while size <= most and (piece := file.read(_PIECE)):
            size += len(piece)
            for letters, digits in _CELL.findall(held + piece):
                row, column = max(row, int(digits)), max(column, _column(letters))
            held = piece[-_LONGEST_NAME:]
    return size, row * column


def _column(letters: bytes) -> int:
    number = 0
    for letter in letters.upper():
        number = 26 * number + letter - ord("A") + 1
    return number
