"""What a model or a facts file wrote does not act in a page, in Markdown or in a terminal."""

import json
import re

import pytest

from kp.report.document import Browser, Code, Column, Definitions, Document, Points, Row, Section, Table, Text
from kp.report.html import embedded_json, render_html
from kp.report.markdown import render_markdown

ATTACKS = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "<!--<script>",
    "\"'><b>",
    "{{ 7 * 7 }}",
    "\x1b[2J\x9b31m",
    "```\n````\n<b>",
)


@pytest.mark.parametrize("attack", [*ATTACKS, "\u2028\u2029"])
def test_json_inside_a_script_holds_nothing_that_ends_it(attack: str) -> None:
    text = str(embedded_json({attack: [attack]}))
    assert not re.search(r"[<\u2028\u2029]", text)
    assert json.loads(text) == {attack: [attack]}


def page_of(text: str) -> Document:
    """A document that has the text at every place where a model's or a file's can stand."""
    table = Table(text, (Column(text, numeric=False),), (Row((text,), note=text),))
    browser = Browser(text, {"rows": [[text]], text: text}, table)
    blocks = (Text(text), Points((text,)), Code(text), Definitions(((text, text),)), table, browser)
    return Document(text, text, (text,), None, (Section("anchor", text, blocks),))


def test_page_escapes_what_others_wrote_everywhere() -> None:
    plain = render_html(page_of("plain"), {})
    for attack in ATTACKS:
        page = render_html(page_of(attack), {})
        for tag in ("<script", "</script", "<!--", "<img", "<b>"):
            assert page.count(tag) == plain.count(tag), (attack, tag)
        assert "49" not in page or "49" in plain


def test_markdown_escapes_tags_and_control_characters_everywhere_but_in_code() -> None:
    for attack in ATTACKS:
        page = render_markdown(page_of(attack))
        outside = re.sub(r"^(`{3,})toml\n.*?^\1$", "", page, flags=re.DOTALL | re.MULTILINE)
        assert not re.search(r"<(script|/script|img|!--|b>)", outside), attack
        assert not set(page) & set("\x1b\x9b")
