"""Why a line of a dump became no triple between two entities."""

from enum import StrEnum


class SetAside(StrEnum):
    """The reasons; those of UNREADABLE are faults of the line."""

    COMMENT = "comment"
    BLANK_LINE = "blank_line"
    HELPER_NODE = "helper_node"  # subject or object is an entity made by the extraction, such as Ann_Lee__PersonFunction__1
    LITERAL = "literal"  # the object is a text, number or date
    BLANK_NODE = "blank_node"  # as subject or object
    NOT_UTF8 = "not_utf8"
    TOO_LONG = "too_long"
    NO_DOT = "no_dot"
    INCOMPLETE = "incomplete"  # it breaks off, or has fewer than three terms
    BAD_IRI = "bad_iri"  # with a blank or another character that no IRI may have, a bad escape, or a bracket too few or too many
    BAD_LITERAL = "bad_literal"  # with a bad escape or a quotation mark too few or too many
    MORE_THAN_ONE = "more_than_one"  # text after the statement, as where a line end was lost
    TURTLE = "turtle"  # prefixed names, directives, `;` or `,`
    MALFORMED = "malformed"  # none of these


NO_STATEMENT = (SetAside.COMMENT, SetAside.BLANK_LINE)
UNREADABLE = (
    SetAside.NOT_UTF8,
    SetAside.TOO_LONG,
    SetAside.NO_DOT,
    SetAside.INCOMPLETE,
    SetAside.BAD_IRI,
    SetAside.BAD_LITERAL,
    SetAside.MORE_THAN_ONE,
    SetAside.TURTLE,
    SetAside.MALFORMED,
)
CUT = "\0"  # replaces the rest of a line that is too long; not valid in any statement
