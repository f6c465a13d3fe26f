"""A page for every command, from the help that the command itself prints."""

import io
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from unittest.mock import patch

from kp.commands.command_line import EXIT_CODES, run
from scripts.docs_site.pages import Page, cell, fenced, table

FOLDER = "reference/commands"
WIDTH = "76"
_CHOICES = re.compile(r"^usage: kp(?: \w+)? \[-h\](?: \[[^\]]*\])* \{([^}]+)\}", re.MULTILINE)
_SUMMARY = re.compile(r"\n\n(.+?)\n\n", re.DOTALL)


def commands(*above: str) -> list[str]:
    """The names of the commands of `kp`, or of those below a command; empty if it has none."""
    found = _CHOICES.search(" ".join(help_text(*above).split("\n\n")[0].split()))
    return found[1].split(",") if found else []


def help_text(*command: str) -> str:
    """What `kp COMMAND --help` prints to a terminal of 76 columns, without colours."""
    printed = io.StringIO()
    with patch.dict(os.environ, {"COLUMNS": WIDTH, "NO_COLOR": "1", "TERM": "dumb"}), redirect_stdout(printed):
        try:
            run([*command, "--help"])
        except SystemExit:
            return printed.getvalue()
    raise RuntimeError(f"kp {' '.join(command)} --help did not end by itself")


def command_pages() -> Iterator[Page]:
    """The list of all commands with the exit codes, and one page for each."""
    names = commands()
    helps = {name: help_text(name) for name in names}
    rows = [[f"[`kp {name}`]({name}.md)", cell(_summary(text))] for name, text in helps.items()]
    text = f"# Commands\n\n{table(['command', 'what it does'], rows)}\n{EXIT_CODES}\n"
    yield Page(f"{FOLDER}/index.md", "All commands", text)
    for name, printed in helps.items():
        yield Page(f"{FOLDER}/{name}.md", f"kp {name}", _page(name, printed, commands(name)))


def _page(name: str, printed: str, below: Sequence[str]) -> str:
    parts = [f"# kp {name}\n", f"{_summary(printed)}\n".replace("<", "&lt;"), fenced(printed)]
    for one in below:
        parts += [f"## kp {name} {one}\n", fenced(help_text(name, one))]
    return "\n".join(parts)


def _summary(printed: str) -> str:
    found = _SUMMARY.search(printed)
    return " ".join(found[1].split()) if found else ""
