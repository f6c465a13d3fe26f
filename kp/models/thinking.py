"""Thoughts in chat templates: how a prompt keeps a model from thinking before its answer.

kp measures what a model answers in a few tokens, and trains on answers without thoughts. A template may open a thought itself, leave it to
the model, or have a switch against it. Here are the names of such switches and tags; kp.models.chat_form decides with them.
"""

import re
from collections.abc import Collection, Iterator

from jinja2 import nodes
from jinja2.exceptions import TemplateSyntaxError
from jinja2.ext import Extension
from jinja2.meta import find_undeclared_variables
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

_THINKING = r"(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflect(?:ion)?)"
_ON = re.compile(rf"(?:enable_|use_|do_|with_|is_|allow_)?{_THINKING}(?:_enabled|_mode|_on)?")
_OFF = re.compile(rf"(?:no_|disable_|skip_|without_|hide_)_?{_THINKING}|{_THINKING}_(?:disabled|off)")
_WORD = rf"(?:[a-z]+[_:])*{_THINKING}(?:[_:][a-z]+)*"
_TAG = re.compile(rf"<\|?{_WORD}\|?>|<｜{_WORD}｜>|\[{_WORD}\]|◁{_WORD}▷", re.IGNORECASE)
_ENDED = re.compile(rf"(<\|?|<｜|\[|◁)/({_WORD}(?:\|?>|｜>|\]|▷))", re.IGNORECASE)
_CLOSES = re.compile(r"(?:^|[\W_])end(?:[\W_]|$)|close", re.IGNORECASE)
_CLOSING_WORDS = (("START", "END"), ("start", "end"), ("BEGIN", "END"), ("begin", "end"), ("OPEN", "CLOSE"), ("open", "close"))


class UnclosedThoughtError(ValueError):
    """A prompt opens a thought, and nothing is known that closes it; `tag` opens it."""

    def __init__(self, tag: str) -> None:
        super().__init__(f"opens a thought ({tag}) for which neither it nor the tokenizer has an end")
        self.tag = tag


def thinking_switches(source: str) -> dict[str, bool]:
    """The variables of a template with which a caller turns thinking on or off -> the value for off; {} if it cannot be parsed."""
    environment = ImmutableSandboxedEnvironment(extensions=["jinja2.ext.loopcontrols", _Generation])
    try:
        names = find_undeclared_variables(environment.parse(source))
    except TemplateSyntaxError:
        return {}
    switches = {name: False for name in sorted(names) if _ON.fullmatch(name)}
    return switches | {name: True for name in sorted(names) if _OFF.fullmatch(name)}


class _Generation(Extension):
    """The block `generation` of transformers' templates, which changes no text."""

    tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The statements within."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def closed_thought(source: str, tokens: Collection[str], tail: str, leaves_it_to_the_model: bool) -> str:
    """What must follow a prompt that ends with `tail` so that the model answers without a thought; "" if nothing must.

    `source` is the template, `tokens` are the tokenizer's added tokens. An open thought is closed. If none is open, and no switch of the
    template works (`leaves_it_to_the_model`), an empty thought is set if the template shows that the model thinks: it has the tags.
    Raises UnclosedThoughtError if a thought is open and its end is unknown.
    """
    opened = _opened(tail)
    if opened is not None:
        closing = _closing(opened, source, tokens)
        if closing is None:
            raise UnclosedThoughtError(opened)
        if tail.rpartition(opened)[2].find(closing) >= 0:
            return ""
        return ("\n" if tail.endswith("\n") else "\n\n") + closing + "\n\n"
    if not leaves_it_to_the_model or _has_closing(tail, source, tokens):
        return ""
    pair = next(_pairs(source, tokens), None)
    return "" if pair is None else f"{pair[0]}\n\n{pair[1]}\n\n"


def _opened(tail: str) -> str | None:
    """The last tag in `tail` that opens a thought."""
    tags = [tag for tag in _TAG.findall(tail) if not _CLOSES.search(tag)]
    return tags[-1] if tags else None


def _closing(opening: str, source: str, tokens: Collection[str]) -> str | None:
    known = (closing for closing in _closings(opening) if closing in tokens or closing in source)
    return next(known, None)


def _closings(opening: str) -> Iterator[str]:
    """The ways to write the end of a thought that begins with this tag."""
    bracket = re.match(r"<\||<｜|<|\[|◁", opening)
    assert bracket is not None, "every tag begins with a bracket"
    yield f"{bracket.group()}/{opening[bracket.end() :]}"
    yield f"{opening[0]}/{opening[1:]}"
    for begin, end in _CLOSING_WORDS:
        if begin in opening:
            yield opening.replace(begin, end)


def _pairs(source: str, tokens: Collection[str]) -> Iterator[tuple[str, str]]:
    """Tags that open and close a thought; of the first at least one stands in the template."""
    opened = [f"{bracket}{rest}" for bracket, rest in _ENDED.findall(source)]  # a template may only cut thoughts off
    for opening in dict.fromkeys([*_TAG.findall(source), *opened, *sorted(token for token in tokens if _TAG.fullmatch(token))]):
        closing = None if _CLOSES.search(opening) else _closing(opening, source, tokens)
        if closing is not None and (opening in source or closing in source):
            yield opening, closing


def _has_closing(tail: str, source: str, tokens: Collection[str]) -> bool:
    return any(closing in tail for _, closing in _pairs(source, tokens))
