"""The report as one self-contained file: styles, data and plotly.js are inside, and nothing is fetched."""

import json
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from kp.report.document import Document
from kp.report.figure_data import Picture
from kp.report.figures_html import interactive


def render_html(document: Document, pictures: Mapping[str, Picture]) -> str:
    """The page; every figure that the document names must be among `pictures`."""
    environment = Environment(
        loader=PackageLoader("kp.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters |= {"embedded_json": embedded_json, "unbroken": unbroken}
    figures = {name: interactive(picture) for name, picture in pictures.items()}
    # A closing tag inside the library would end its script element early; JavaScript reads the escaped slash as the same text.
    library = Markup(get_plotlyjs().replace("</script", "<\\/script"))
    return environment.get_template("report.html.j2").render(document=document, figures=figures, plotly=library)


def unbroken(text: str) -> str:
    """Keeps a value, its error and its percent sign on one line."""
    return text.replace(" ± ", "\u00a0±\u00a0").replace(" % ", "\u00a0% ")


def embedded_json(value: Any) -> Markup:
    """JSON that is safe inside a script element; raises ValueError for numbers that JSON does not have."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))
