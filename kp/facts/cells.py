"""One cell of a foreign table, as text or as a list of texts.

Sources write answers in many ways: a string, a list, a list as text inside a CSV field, TriviaQA's and SQuAD's structs, or the list of such
structs in the data sets of arXiv 2502.14502. The rules are defined here once; a cell that fits none is an error, never a guess.

What stands for a missing value depends on who wrote the table, so all common marks count, in these spellings only: "Na" is sodium, "none"
and "Nan" are words. "NA" alone is a mark, but it is also Namibia's code, so it is an answer where it is an item of a list.
"""

import datetime
import decimal
import re
from collections.abc import Collection, Mapping
from typing import Any

from kp.facts.literals import parsed

MISSING = frozenset(("nan", "NaN", "None", "NULL", "null", "NA", "N/A", "n/a", "<NA>", "NaT", "#N/A", "\\N", "<unk>"))  # <unk>: TriviaQA
CODE = "NA"  # the mark that is also a name
SEVERAL = ("answers", "aliases", "paraphrases")  # in these, a text is several texts with bars or line breaks between them

_ZERO_WIDTH = "\u00ad\u180e\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"
_BLANKS = _ZERO_WIDTH + "".join(character for character in map(chr, range(0x3001)) if character.isspace())
_WHOLE = re.compile(r"-?[0-9]+\.0")  # how pandas writes whole numbers of a column with gaps
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_BYTE = re.compile(r"[\udc80-\udcff]")  # a byte that is not UTF-8, in Python's `surrogateescape`
_SEPARATORS = re.compile(r"[|\r\n]")


class CellError(Exception):
    """A cell that its column cannot have: what is wrong with it, without the value."""

    def __init__(self, column: str, value: Any, fault: str) -> None:
        super().__init__(column, value, fault)
        self.column, self.fault = column, fault
        self.value = str(value).encode("utf-8", "backslashreplace").decode()

    def __str__(self) -> str:
        return f"column '{self.column}' {self.fault}: {self.value[:40]!r}"


def stripped(text: str) -> str:
    """Without the blanks around it, Unicode's and those that have no width."""
    return text.strip(_BLANKS)


def is_utf8(text: str) -> bool:
    """Whether `text`, decoded with `surrogateescape`, was UTF-8."""
    return text.isascii() or _BYTE.search(text) is None


def as_text(cell: Any, column: str) -> str:
    """A text, number or date as text, without blanks around it; "" for null and the marks of MISSING. CellError for anything else.

    Whole numbers are written without a fraction, also the text "1900.0".
    """
    text = _written(cell, column)
    return "" if text in MISSING else text


def as_count(cell: Any, column: str) -> int | None:
    """A whole number, also as text; None for a missing value, and for numbers below 0, which stand for "unknown"."""
    text = as_text(cell, column)
    if not text:
        return None
    try:
        number = int(text)
    except ValueError:
        raise CellError(column, cell, "is no whole number") from None
    return number if number >= 0 else None


def as_texts(cell: Any, column: str) -> list[str]:
    """The different texts of a list, a struct, a list of structs, any of them as text, or one text; none of them is empty or missing."""
    kept: Collection[str] = (CODE,) if column in ("answer", "answers", "object") else ()
    value = _parsed(cell, column) if isinstance(cell, str) else cell
    if not isinstance(value, str):
        try:
            return list(dict.fromkeys(_flat(value, column, kept)))
        except RecursionError:
            raise CellError(column, "", "is a list within hundreds of lists") from None
    parts = _SEPARATORS.split(value) if column in SEVERAL else [value]
    return list(dict.fromkeys(text for part in parts if (text := as_text(part, column))))


def as_answers(row: Mapping[str, Any]) -> list[str]:
    """The right answers of a row, canonical first: from `answers`, or else `answer`, or else `object`; [] if there is none."""
    found = (as_texts(row.get(column), column) for column in ("answers", "answer", "object"))
    return next((texts for texts in found if texts), [])


def is_list(cell: Any) -> bool:
    """Whether a cell is more than one text by its form."""
    try:
        return not isinstance(parsed(stripped(cell)) if isinstance(cell, str) else cell, str)
    except ValueError:
        return True


def _parsed(cell: str, column: str) -> Any:
    try:
        return parsed(stripped(cell))
    except ValueError as error:
        raise CellError(column, cell, f"is {error}") from error


def _flat(cell: Any, column: str, kept: Collection[str]) -> list[str]:
    """Also of lists in a list: `datasets` may return a list of structs as one struct of lists."""
    if isinstance(cell, dict):
        return _of_struct(cell, column, kept) if cell else []
    if isinstance(cell, list):
        return [text for item in cell for text in _flat(item, column, kept)]
    text = _written(cell, column)
    return [text] if text and (text not in MISSING or text in kept) else []


def _of_struct(struct: dict[str, Any], column: str, kept: Collection[str]) -> list[str]:
    cells = {str(key).casefold().replace("_", ""): value for key, value in struct.items()}
    if cells.keys().isdisjoint(("value", "text", "aliases", "normalizedaliases")):
        raise CellError(column, struct, "is a struct without value, text, aliases or normalized_aliases")
    aliases = _flat(cells.get("aliases"), column, kept) or _flat(cells.get("normalizedaliases"), column, kept)  # the same in lower case
    return [*_flat(cells.get("value"), column, kept), *_flat(cells.get("text"), column, kept), *aliases]


def _written(cell: Any, column: str) -> str:
    """The cell as text, marks of missing values too."""
    match cell:
        case None:
            return ""
        case str():
            return _checked(stripped(cell), column)
        case bool():
            raise CellError(column, cell, "is neither a text nor a number")
        case int():
            return str(cell)
        case float() | decimal.Decimal():
            return _number(cell, column)
        case datetime.datetime() if cell.time() == datetime.time():
            return cell.date().isoformat()
        case datetime.datetime():
            return cell.isoformat(sep=" ")
        case datetime.date() | datetime.time():
            return cell.isoformat()
        case bytes():
            return _checked(stripped(cell.decode("utf-8", "surrogateescape")), column)
        case [item]:
            return _written(item, column)
        case {"text": str() as text}:
            return _written(text, column)
    raise CellError(column, cell, "is neither a text nor a number")


def _checked(text: str, column: str) -> str:
    if _WHOLE.fullmatch(text):
        return text[:-2]
    if not text.isascii() and _SURROGATE.search(text):
        if not is_utf8(text):
            raise CellError(column, text, "is not UTF-8 (save as CSV UTF-8)")
        raise CellError(column, text, "holds a lone surrogate, half of a character")
    return text


def _number(number: float | decimal.Decimal, column: str) -> str:
    if number != number:
        return ""
    if number in (float("inf"), float("-inf")):
        raise CellError(column, number, "is no finite number")
    return str(int(number)) if number == int(number) else str(number)
