"""Formulas: LaTeX between dollars in a page of docs/, as GitHub shows it, becomes MathML, which browsers draw without script or font."""

import re

from latex2mathml.converter import convert

_PIECES = re.compile(
    r"(?P<code>^```.*?^```[^\n]*$|`[^`\n]+`)|^\$\$\n(?P<block>.+?)\n\$\$$|\$(?P<inline>[^$\n]+)\$",
    re.DOTALL | re.MULTILINE,
)


def with_mathml(text: str) -> str:
    """The Markdown with every formula outside of code as a `<math>` element."""
    return _PIECES.sub(_drawn, text)


def _drawn(match: re.Match[str]) -> str:
    if match["code"] is not None:
        return match["code"]
    if match["block"] is not None:
        return f'<div class="formula">{_one_line(convert(match["block"], display="block"))}</div>'
    return _one_line(convert(match["inline"]))


def _one_line(mathml: str) -> str:
    return " ".join(mathml.split())
