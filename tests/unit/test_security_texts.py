"""What a model or a facts file wrote does not act in a page, in Markdown or in a terminal."""

import json
import re

import pytest

from kp.report.document import Column, Document, Row, Section, Table
from kp.report.html import embedded_json, render_html
from kp.report.markdown import render_markdown

ATTACKS = ("<script>alert(1)</script>", "</script><img src=x onerror=alert(1)>", "<!--<script>", "\"'><b>", "{{ 7 * 7 }}", "\x1b[2J\x9b31m")


@pytest.mark.parametrize("attack", [*ATTACKS, "\u2028\u2029"])
def test_json_inside_a_script_holds_nothing_that_ends_it(attack: str) -> None:
    text = str(embedded_json({attack: [attack]}))
    assert not re.search(r"[<\u2028\u2029]", text)
    assert json.loads(text) == {attack: [attack]}
