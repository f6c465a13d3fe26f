"""One line of N-Triples, exactly: what it states, or why it is no triple between two entities.

This grammar is authoritative. kp.facts.dump.parsing handles lines in the usual form by the million, and passes all other lines to this
module, which is slow and strict: it follows the W3C's N-Triples 1.1 and N-Quads 1.1 and accepts nothing else, except that it does not check
whether an IRI is absolute, and that a byte-order mark may begin a line, as where files were concatenated. The graph of a quad is dropped.
Prefixed Turtle is unreadable here; a file of it is converted before its lines are read (see kp.facts.dump.contents).

An unreadable line may have told another value of a pair. So whatever may be a subject and its relation in it is returned and counts as a
pair with another value; otherwise a pair of two values, one of them unreadable, would be taken for a single-valued one. Two neighbouring
IRIs that are no such pair do no harm: what is no relation of any triple is in no table.

One entity may have several spellings: `Caf%C3%A9`, `Caf\\u00E9` and `Café` are the same. In the canonical spelling, every N-Triples escape
and every percent-encoded UTF-8 character that may occur literally in an IRI is decoded. Characters that may not (blanks, controls and
`<>"{}|^\\``) stay percent-encoded, in upper case, and so do `%`, `#` and `?`, which would mean something else if decoded. Bytes that are
not UTF-8 are unchanged.
"""

import re
from dataclasses import dataclass

from kp.facts.dump.faults import fault_of
from kp.facts.dump.reasons import SetAside

LOCAL_HELPER = re.compile(r"__[0-9]+\Z")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Triple:
    """A statement between two entities, all three IRIs in canonical spelling."""

    subject: str
    relation: str
    object: str

    def line(self) -> bytes:
        """As one line of N-Triples in the usual form, which kp.facts.dump.parsing handles in bulk."""
        return f"<{self.subject}> <{self.relation}> <{self.object}> .\n".encode()


@dataclass(frozen=True)
class NoTriple:
    """Why a line is no triple, and the pairs (subject, relation) of entities to which it gives another value, in canonical spelling.

    `value` identifies that value: the text of the object, or of the whole line if it is unreadable.
    """

    reason: SetAside
    pairs: tuple[tuple[str, str], ...] = ()
    value: str = ""


_ESCAPED = r"\\u[0-9A-Fa-f]{4}|\\U[0-9A-Fa-f]{8}"
_IRI = rf"<((?:[^\x00-\x20<>\"{{}}|^`\\]|{_ESCAPED})+)>"
_ANY_IRI = _IRI.replace("(", "(?:", 1)
_BLANK = r"_:[\w:](?:[\w:.\-·]*[\w:\-·])?"
_LITERAL = rf'"(?:[^"\\\n\r]|\\[tbnrf"\'\\]|{_ESCAPED})*"(?:@[A-Za-z]+(?:-[A-Za-z0-9]+)*|\^\^{_ANY_IRI})?'
_GRAPH = rf"(?:[ \t]*(?:{_ANY_IRI}|{_BLANK}))?"
_STATEMENT = re.compile(rf"[ \t]*(?:{_IRI}|{_BLANK})[ \t]*{_IRI}[ \t]*(?:{_IRI}|({_BLANK})|({_LITERAL})){_GRAPH}[ \t]*\.[ \t]*(?:#.*)?")
FROM_LITERAL = re.compile(rf"{_LITERAL}{_GRAPH}[ \t]*\.")  # what follows subject and relation
_PAIR = re.compile(rf"(?={_IRI}[ \t]*{_IRI})")  # wherever it begins: an unreadable line may be two, of which any may be damaged
_NEVER_IN_IRI = re.compile(r"[\x00-\x20<>\"{}|^`\\\ud800-\udfff]")
_ESCAPE = re.compile(_ESCAPED)
_PERCENTS = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_STAYS = re.compile(r"[\x00-\x20\x7f-\x9f<>\"{}|^`\\%#?]")


def read_statement(line: bytes) -> Triple | NoTriple:
    """What one line states; `line` is without its line end. Never raises."""
    stripped = line.removeprefix(BYTE_ORDER_MARK).strip(b" \t")
    if not stripped or stripped.startswith(b"#"):
        return NoTriple(SetAside.COMMENT if stripped else SetAside.BLANK_LINE)
    try:
        text = stripped.decode("utf-8")
    except UnicodeDecodeError:
        return _unreadable(stripped.decode("utf-8", "surrogateescape"), SetAside.NOT_UTF8)
    match = _STATEMENT.fullmatch(text)
    if match is None:
        return _unreadable(text, fault_of(text))
    subject, relation, object_, blank_object, literal = match.groups()
    iris = [None if iri is None else canonical(iri) for iri in (subject, relation, object_)]
    if any(iri == "" for iri in iris):
        return _unreadable(text, SetAside.BAD_IRI)
    return _judged(iris[0], iris[1] or "", iris[2], blank_object or literal or "", literal is not None)


def _judged(subject: str | None, relation: str, object_: str | None, value: str, literal: bool) -> Triple | NoTriple:
    if subject is None:
        return NoTriple(SetAside.BLANK_NODE)
    if is_helper(subject):
        return NoTriple(SetAside.HELPER_NODE)
    if object_ is None:
        return NoTriple(SetAside.LITERAL if literal else SetAside.BLANK_NODE, ((subject, relation),), value)
    if is_helper(object_):
        return NoTriple(SetAside.HELPER_NODE, ((subject, relation),), object_)
    return Triple(subject, relation, object_)


def _unreadable(text: str, reason: SetAside) -> NoTriple:
    """`text` may have lone surrogates in place of bytes that are not UTF-8."""
    pairs = (tuple(map(canonical, match.groups())) for match in _PAIR.finditer(text))
    whole = tuple((subject, relation) for subject, relation in pairs if _is_iri(subject) and _is_iri(relation) and not is_helper(subject))
    return NoTriple(reason, whole, text)


def _is_iri(iri: str) -> bool:
    return iri != "" and _NEVER_IN_IRI.search(iri) is None


def is_helper(iri: str) -> bool:
    """Whether an IRI is a helper node made by DBpedia's extraction: its name ends in two underscores and a number."""
    return LOCAL_HELPER.search(iri) is not None


def canonical(iri: str) -> str:
    """The canonical spelling of an IRI (see above); "" if an escape stands for a character that no IRI may have."""
    if "\\" in iri:
        iri = _ESCAPE.sub(_unescaped, iri)
        if _NEVER_IN_IRI.search(iri):
            return ""
    return _PERCENTS.sub(_decoded, iri) if "%" in iri else iri


def _unescaped(escape: re.Match[str]) -> str:
    code = int(escape[0][2:], 16)
    return chr(code) if code <= 0x10FFFF else "\0"


def _decoded(run: re.Match[str]) -> str:
    data = bytes.fromhex(run[0].replace("%", ""))
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return run[0]
    return _STAYS.sub(lambda character: "".join(f"%{byte:02X}" for byte in character[0].encode()), text)
