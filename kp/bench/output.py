"""What every benchmark does around its measurements: log on the way, print the result, save it where the options say."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kp.errors import UserError
from kp.store.files import write_json

Rendered = Callable[[dict[str, Any]], str]


def log(what: str) -> None:
    """Print a line of progress to standard error; only results go to standard output."""
    print(f"kp bench: {what}", file=sys.stderr, flush=True)


def validate_folder(target: Path | None) -> None:
    """Raise UserError, before minutes are spent, if the folder for the result does not exist."""
    if target is not None and not target.parent.is_dir():
        raise UserError(f"{target.parent} is no folder", field="json")


def save_result(result: dict[str, Any], text: Rendered, markdown: Rendered, target: Path | None) -> None:
    """Print the result as `text`; if there is a `target`, write it there as JSON, and as `markdown` into a .md file next to it."""
    print(text(result))
    if target is not None:
        write_json(target, result)
        target.with_suffix(".md").write_text(markdown(result), encoding="utf-8")
