"""What is wrong with a line that is no statement: one reason for each way in which dumps are damaged, or are not N-Triples.

Everything in the outer form of a term is taken out first, whatever it holds. Of a good statement only the dot is left, so what is left of
a bad one shows its fault.
"""

import re

from kp.facts.dump.reasons import CUT, SetAside

_LONG = 1 << 20  # characters; a shorter line with a null was not cut
_OUTER_IRI = r"<[^<>\"]*>"
_OUTER_LITERAL = r'"(?:[^"\\]|\\.)*"(?:@[\w-]+|\^\^<[^<>"]*>)?'
_TERM = re.compile(rf"{_OUTER_LITERAL}|{_OUTER_IRI}|_:[\w:](?:[\w:.\-·]*[\w:\-·])?")
_DIRECTIVE = re.compile(r"(?:@prefix|@base|prefix|base)\s", re.IGNORECASE)
_TURTLE_TOKEN = re.compile(r"(?<!\S)(?:a|[;,]|\[\]?|(?:[^\W\d][\w.-]*)?:(?!//)[^\s<>\"]*)(?!\S)|[;,]\Z")


def is_directive(text: str) -> bool:
    """Whether a line declares a prefix or a base, as Turtle does."""
    return _DIRECTIVE.match(text) is not None


def fault_of(text: str) -> SetAside:
    """The reason for a line of text that is no statement, comment or blank line; `text` has no blanks around it."""
    if text.endswith(CUT) and len(text) > _LONG:
        return SetAside.TOO_LONG
    terms = len(_TERM.findall(text))
    left = _TERM.sub(" ", text).strip()
    if is_directive(text) or _TURTLE_TOKEN.search(left):
        return SetAside.TURTLE
    if not left.strip(" \t."):
        return _fault_of_terms(text, terms, left)
    if left.startswith(".") and terms > 2:
        return SetAside.MORE_THAN_ONE
    if '"' not in left and text.count('"') > 2:  # the quotation marks within a literal divide it into several
        return SetAside.BAD_LITERAL
    if '"' in left:
        return SetAside.BAD_LITERAL if text.endswith(".") else SetAside.INCOMPLETE
    if "<" in left or ">" in left:
        return SetAside.BAD_IRI if text.endswith(".") or "<" not in text.rpartition(">")[2] else SetAside.INCOMPLETE
    return SetAside.MALFORMED


def _fault_of_terms(text: str, terms: int, left: str) -> SetAside:
    """Of a line that has only terms and dots."""
    if terms == 0:
        return SetAside.MALFORMED
    if terms < 3:
        return SetAside.INCOMPLETE
    if not left:
        return SetAside.NO_DOT if terms < 5 else SetAside.MORE_THAN_ONE
    if left != "." or terms > 4 or not text.endswith("."):
        return SetAside.MORE_THAN_ONE
    first, second, third, *_ = (match[0] for match in _TERM.finditer(text))
    if first.startswith('"') or not second.startswith("<"):
        return SetAside.MALFORMED
    return SetAside.BAD_LITERAL if third.startswith('"') else SetAside.BAD_IRI
