"""Lists and dicts that stand as text in a cell.

A table in csv has no lists, so whoever writes one writes them as text: JSON, Python's repr (pandas), or NumPy's (data sets that went
through pandas), which sets neither commas between items nor leaves out `array(...)`. Python reads `'a' 'b'` as one string, so the two last
are parsed here with the commas put in, but never inside `[007]`. What only looks like a list, such as the film "[REC]", is a text.
"""

import ast
import io
import json
import token
import tokenize
from typing import Any

_PAIRS = {"[": "]", "{": "}", "(": ")"}
_SURE = ('["', "['", '{"', "{'", "array(")  # no text begins like this
_TUPLE = ('("', "('")  # nor like this if it ends in a bracket: ('Til) I Kissed You
_NAMES = {"nan": None, "NaN": None, "null": None, "true": True, "false": False, "NaT": None}
_SKIPPED = (token.NEWLINE, token.INDENT, token.DEDENT, token.ENDMARKER, tokenize.NL, tokenize.COMMENT)


def parsed(text: str) -> Any:
    """The list or dict that `text` is, or `text` itself; ValueError if it begins like a list or dict and is none."""
    begins = text.startswith(_SURE) or (text.startswith(_TUPLE) and text.endswith(")"))
    if not begins and (text[:1] not in ("[", "{") or text[-1:] != _PAIRS[text[0]]):
        return text
    for parse in (json.loads, _python):
        try:
            return parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError):
            continue
    if begins:
        raise ValueError("a list or dict that cannot be parsed")
    return text


def _python(text: str) -> Any:
    return _value(ast.parse(_with_commas(text), mode="eval").body)


def _with_commas(text: str) -> str:
    pieces: list[str] = []
    before: tokenize.TokenInfo | None = None  # the token before, if an item ends with it
    for part in tokenize.generate_tokens(io.StringIO(text).readline):
        if part.type in _SKIPPED:
            continue
        is_value = part.type in (token.STRING, token.NUMBER, token.NAME)
        if before is not None and (is_value or part.string in _PAIRS) and _apart(before, part):
            pieces.append(",")
        pieces.append(part.string)
        before = part if (is_value and part.string != "array") or part.string in _PAIRS.values() else None
    return " ".join(pieces)


def _apart(before: tokenize.TokenInfo, part: tokenize.TokenInfo) -> bool:
    """Whether two tokens are two items: there is a blank between them, or one is a string or bracket."""
    return before.end != part.start or any(one.type in (token.STRING, token.OP) for one in (before, part))


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=str() | int() | float() | bool() | None):
            return node.value
        case ast.Name(id=name) if name in _NAMES:
            return _NAMES[name]
        case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
            return [_value(item) for item in items]
        case ast.Dict(keys=keys, values=values):
            return {_value(key): _value(value) for key, value in zip(keys, values, strict=True) if key is not None}
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.Call(func=ast.Name(id="array"), args=[items]):
            return _value(items)
    raise ValueError("no literal")
