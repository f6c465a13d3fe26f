"""The report as one self-contained file: styles, data and plotly.js are inside, and nothing is fetched.

The figures are scatters and bars, so the page carries plotly's basic build, which is a quarter of the whole library.
"""

import json
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from kp.report.document import Document
from kp.report.figure_data import Picture
from kp.report.figures_html import interactive

_INTERVAL = re.compile(r"\([^()\n]{1,16} to [^()\n]{1,16}\)")


def render_html(document: Document, pictures: Mapping[str, Picture]) -> str:
    """The page; every figure that the document names must be among `pictures`."""
    environment = Environment(
        loader=PackageLoader("kp.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters |= {"embedded_json": embedded_json, "unbroken": unbroken}
    figures = {name: interactive(picture) for name, picture in pictures.items()}
    return environment.get_template("report.html.j2").render(document=document, figures=figures, plotly=_plotly() if figures else "")


def _plotly() -> Markup:
    """plotly.js; a closing tag inside it would end its script element early, and JavaScript reads the escaped slash as the same text."""
    library = (files("kp.report") / "assets" / "plotly-basic.min.js").read_text(encoding="utf-8")
    return Markup(library.replace("</script", "<\\/script"))


def unbroken(text: str) -> str:
    """Keeps a value, its error and its percent sign on one line, and an interval in brackets on one."""
    text = _INTERVAL.sub(lambda found: found[0].replace(" ", "\u00a0"), text)
    return text.replace(" ± ", "\u00a0±\u00a0").replace(" % ", "\u00a0% ")


def embedded_json(value: Any) -> Markup:
    """JSON that is safe inside a script element; raises ValueError for numbers that JSON does not have."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))
