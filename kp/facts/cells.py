"""One cell of a foreign table, as text or as a list of texts.

Sources write answers in many ways: a string, a list, a list as JSON inside a CSV field, TriviaQA's struct, or the list of such structs in
the data sets of arXiv 2502.14502. The rules are defined here once; a cell that fits none is an error, never a guess.
"""

import json
from typing import Any

from kp.errors import UserError

ALIAS_KEYS = ("aliases", "normalized_aliases")  # the second only if the first is empty: it repeats it in lower case


def as_text(cell: Any, where: str, column: str) -> str:
    """A text or a number as text, without surrounding blanks; "" for null. UserError for anything else."""
    if cell is None:
        return ""
    if isinstance(cell, str):
        return cell.strip(" ")
    if isinstance(cell, int | float) and not isinstance(cell, bool):
        return str(cell)
    raise _unfit(cell, where, column, "a text")


def as_count(cell: Any, where: str, column: str) -> int | None:
    """A whole number, also as text; None for null, an empty text, and numbers below 0, which stand for "unknown"."""
    if cell is None or cell == "":
        return None
    try:
        number = int(cell) if isinstance(cell, str | int) and not isinstance(cell, bool) else None
        if isinstance(cell, float) and cell.is_integer():  # pandas, for example, stores an integer column with gaps as floats
            number = int(cell)
    except ValueError:
        number = None
    if number is None:
        raise _unfit(cell, where, column, "a whole number")
    return number if number >= 0 else None


def as_list(cell: Any, where: str, column: str) -> list[str]:
    """A list of texts, from a list, a JSON list as text, or one text; [] for null and for an empty text."""
    if cell is None or cell == "":
        return []
    if isinstance(cell, str) and cell.lstrip().startswith("["):
        try:
            cell = json.loads(cell)
        except json.JSONDecodeError as error:
            raise _unfit(cell, where, column, "a JSON list") from error
    if isinstance(cell, list):
        return [as_text(item, where, column) for item in cell]
    return [as_text(cell, where, column)]


def as_answers(row: dict[str, Any], where: str) -> list[str]:
    """The right answers of a row, canonical first: from `answers`, or from `answer` (a text, a list of texts, a struct or structs)."""
    if row.get("answers") is not None:
        return _answers(row["answers"], where, "answers")
    cell = row.get("answer")
    if isinstance(cell, str):
        return [as_text(cell, where, "answer")]
    return _answers(cell, where, "answer")


def _answers(cell: Any, where: str, column: str) -> list[str]:
    structs = [cell] if isinstance(cell, dict) else cell
    if isinstance(structs, list) and structs and all(isinstance(item, dict) for item in structs):
        return [text for struct in structs for text in _answers_of_struct(struct, where, column)]
    return as_list(cell, where, column)


def _answers_of_struct(struct: dict[str, Any], where: str, column: str) -> list[str]:
    if not any(key in struct for key in ("value", *ALIAS_KEYS)):
        raise _unfit(struct, where, column, "a struct with value, aliases or normalized_aliases")
    value = [as_text(struct["value"], where, f"{column}.value")] if struct.get("value") else []
    lists = (_flat_list(struct.get(key), where, f"{column}.{key}") for key in ALIAS_KEYS)
    return value + next((texts for texts in lists if texts), [])


def _flat_list(cell: Any, where: str, column: str) -> list[str]:
    """`as_list`, also for lists in a list: `datasets` may return a list of structs as one struct of lists."""
    if isinstance(cell, list) and cell and all(isinstance(item, list) for item in cell):
        return [text for item in cell for text in as_list(item, where, column)]
    return as_list(cell, where, column)


def _unfit(cell: Any, where: str, column: str, wanted: str) -> UserError:
    return UserError(f"{where}: column '{column}' is {str(cell)[:40]!r}, expected {wanted}")
