"""The report as Markdown, for reading in a repository: the same document, with the printed pictures next to it."""

import re

from jinja2 import Environment, PackageLoader, StrictUndefined

from kp.report.document import Document

_ESCAPES = str.maketrans({"|": "\\|", "*": "\\*", "_": "\\_", "<": "&lt;", "\n": "<br>"})
# Texts of models and files of facts may hold anything; what they hold must not act where the report is printed.
_CONTROLS = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\t\n"} | dict.fromkeys(range(0x7F, 0xA0), "\u2421")


def render_markdown(document: Document) -> str:
    """Markdown with figures at `figures/NAME.png`."""
    environment = Environment(
        loader=PackageLoader("kp.report"), autoescape=False, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters |= {"md": escape, "fenced": fenced}
    return environment.get_template("report.md.j2").render(document=document)


def fenced(text: str) -> str:
    """A block of TOML, whose fence is longer than any that it holds."""
    fence = "`" * max(3, 1 + max((len(ticks) for ticks in re.findall("`+", text)), default=0))
    return f"{fence}toml\n{text.translate(_CONTROLS)}{'' if text.endswith(chr(10)) else chr(10)}{fence}"


def escape(text: str) -> str:
    """Plain text as one line of Markdown that renders as itself, also inside a table.

    Control characters, which a terminal obeys, are written as their names in Unicode's control pictures.
    """
    return text.translate(_ESCAPES).translate(_CONTROLS)
