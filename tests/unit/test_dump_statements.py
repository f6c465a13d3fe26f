"""The grammar of one line: what it accepts, what it says of the rest, and the one spelling of an IRI."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kp.facts.dump.reasons import CUT, UNREADABLE, SetAside
from kp.facts.dump.statements import NoTriple, Triple, canonical, is_helper, read_statement
from tests.dump_lines import parts_of_triple, statement

A, R, B = "http://a.org/a", "http://a.org/r", "http://a.org/b"


SET_ASIDE = [
    ("# started 2021", SetAside.COMMENT),
    ("  # indented", SetAside.COMMENT),
    ("", SetAside.BLANK_LINE),
    (" \t", SetAside.BLANK_LINE),
    (statement("Ann", "occupation", "Ann__PersonFunction__1"), SetAside.HELPER_NODE),
    (statement("Ann__PersonFunction__12", "title", "Actor"), SetAside.HELPER_NODE),
    (f'<{A}> <{R}> "text"@en .', SetAside.LITERAL),
    (f'<{A}> <{R}> "19"^^<http://w3.org/int> .', SetAside.LITERAL),
    (f'<{A}> <{R}> "a \\"quoted\\" one" .', SetAside.LITERAL),
    (f"<{A}> <{R}> _:b1 .", SetAside.BLANK_NODE),
    (f"_:b1 <{R}> <{B}> .", SetAside.BLANK_NODE),
    (f'<{A}> <{R}> "text"@en <{B}> .', SetAside.LITERAL),
    (f"_:b1 <{R}> <{B}> _:graph .", SetAside.BLANK_NODE),
    (f"<{A}> <{R}> <{B}>", SetAside.NO_DOT),
    (f"<{A}> <{R}> <{B}> <{B}>", SetAside.NO_DOT),
    (f'<{A}> <{R}> "text"@en', SetAside.NO_DOT),
    (f"<{A}> <{R}> .", SetAside.INCOMPLETE),
    (f"<{A}> <{R}> <{B[:12]}", SetAside.INCOMPLETE),
    (f'<{A}> <{R}> "Port: the', SetAside.INCOMPLETE),
    (f"<{A}> <{R[:12]}", SetAside.INCOMPLETE),
    (f"<{A}", SetAside.INCOMPLETE),
    (f"<{A}>", SetAside.INCOMPLETE),
    (f"<{A}> <{R}> <{B} .", SetAside.BAD_IRI),
    (f"{A}> <{R}> <{B}> .", SetAside.BAD_IRI),
    (f"<{A} b> <{R}> <{B}> .", SetAside.BAD_IRI),
    (f"<{A}> <> <{B}> .", SetAside.BAD_IRI),
    (f"<{A}> <{R}> <{B}{{}}> .", SetAside.BAD_IRI),
    (f"<{A}\\u0020> <{R}> <{B}> .", SetAside.BAD_IRI),
    (f"<{A}\\uD800> <{R}> <{B}> .", SetAside.BAD_IRI),
    (f"<{A}\\U00110000> <{R}> <{B}> .", SetAside.BAD_IRI),
    (f"<{A}\\n> <{R}> <{B}> .", SetAside.BAD_IRI),
    (f'<{A}> <{R}> "a\\q" .', SetAside.BAD_LITERAL),
    (f'<{A}> <{R}> "a\\u00" .', SetAside.BAD_LITERAL),
    (f'<{A}> <{R}> "a "b" c"@en .', SetAside.BAD_LITERAL),
    (f'<{A}> <{R}> "a .', SetAside.BAD_LITERAL),
    (f"<{A}> <{R}> <{B}> . <{B}>", SetAside.MORE_THAN_ONE),
    (f"<{A}> <{R}> <{B}> .<{A}> <{R}> <{B}> .", SetAside.MORE_THAN_ONE),
    (f"<{A}> <{R}> <{B}> <{A}> <{A}> .", SetAside.MORE_THAN_ONE),
    (f"<{A}> <{R}> <{B}> . garbage", SetAside.MORE_THAN_ONE),
    ("@prefix dbo: <http://dbpedia.org/ontology/> .", SetAside.TURTLE),
    ("PREFIX dbo: <http://dbpedia.org/ontology/>", SetAside.TURTLE),
    ("@base <http://dbpedia.org/resource/> .", SetAside.TURTLE),
    ("dbr:Ann dbo:child dbr:Bob .", SetAside.TURTLE),
    (f"<{A}> a <{B}> .", SetAside.TURTLE),
    (f"<{A}> <{R}> <{B}> ;", SetAside.TURTLE),
    (f"<{A}> <{R}> <{B}>, <{A}> .", SetAside.TURTLE),
    (f'"{A}" <{R}> <{B}> .', SetAside.MALFORMED),
    ("Ann,child,Bob", SetAside.MALFORMED),
    ("2021-03-01 12:30 read 100 lines", SetAside.MALFORMED),
    ("<" + "a" * (1 << 21) + CUT, SetAside.TOO_LONG),
]


@pytest.mark.parametrize(("line", "reason"), SET_ASIDE, ids=[f"{reason}-{line[-40:]}" for line, reason in SET_ASIDE])
def test_line_that_is_no_triple_is_set_aside_for_its_reason(line: str, reason: SetAside) -> None:
    read = read_statement(line.encode())
    assert isinstance(read, NoTriple)
    assert read.reason is reason


def test_every_reason_has_a_line() -> None:
    assert {reason for _, reason in SET_ASIDE} == set(SetAside) - {SetAside.NOT_UTF8}


def test_line_that_is_not_utf8_is_set_aside_as_such() -> None:
    assert read_statement(b"<a\xff> <b> <c> .").reason is SetAside.NOT_UTF8  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "line",
    ["<{0}> <{1}> <{2}> .", " <{0}>\t<{1}>  <{2}>. ", "<{0}><{1}><{2}>.", "<{0}> <{1}> <{2}> . # a comment", "\ufeff<{0}> <{1}> <{2}> ."],
)
def test_triple_in_any_layout_is_read(line: str) -> None:
    assert read_statement(line.format(A, R, B).encode()) == Triple(A, R, B)


@pytest.mark.parametrize("graph", ["<http://a.org/g?x=1#y>", "_:g1"])
@pytest.mark.parametrize("line", ["<{0}> <{1}> <{2}> {3} .", "<{0}>\t<{1}> <{2}>{3}.", "<{0}> <{1}> <{2}> {3} . # a comment"])
def test_graph_of_a_quad_is_dropped(line: str, graph: str) -> None:
    assert read_statement(line.format(A, R, B, graph).encode()) == Triple(A, R, B)


def test_comment_after_a_byte_order_mark_is_a_comment() -> None:
    assert read_statement("\ufeff# started".encode()) == NoTriple(SetAside.COMMENT)
    assert read_statement("\ufeff".encode()) == NoTriple(SetAside.BLANK_LINE)


def test_other_value_of_an_entity_is_told_with_its_pair() -> None:
    read = read_statement(f'<{A}> <{R}> "text" .'.encode())
    assert read == NoTriple(SetAside.LITERAL, ((A, R),), '"text"')


@pytest.mark.parametrize(
    "line",
    [
        f"<{A}> <{R}> <{B[:12]}",
        f"<{A}> <{R}>",
        f"<{A}> <{R}> <{B} c> .",
        f"<{A}><{R}><{B}",
        f"  <{A}> <{R}> <{B}\\u00> .",
        f'<{A}> <{R}> "text',
        f"<{A}> <{R}> dbr:B .",
    ],
)
def test_pair_of_an_unreadable_line_is_told_where_it_can_be_read(line: str) -> None:
    read = read_statement(line.encode())
    assert isinstance(read, NoTriple)
    assert read.reason in UNREADABLE
    assert read.pairs == ((A, R),)


def test_pair_of_a_line_whose_object_is_not_utf8_is_told_and_one_whose_subject_is_not_is_not() -> None:
    assert read_statement(f"<{A}> <{R}> <b".encode() + b"\xe9> .") == NoTriple(SetAside.NOT_UTF8, ((A, R),), f"<{A}> <{R}> <b\udce9> .")
    assert read_statement(b"<a\xe9> <b> ").pairs == ()  # type: ignore[union-attr]


@pytest.mark.parametrize("between", ["", " ", " . ", ".", " .", "<http://a.org/c"])
def test_pairs_of_two_statements_on_one_line_are_both_told(between: str) -> None:
    object_ = "" if between.startswith("<") else f"<{B}>"
    read = read_statement(f"<{A}> <{R}> {object_}{between}<{B}> <{R}2> <{A}> .".encode())
    assert isinstance(read, NoTriple)
    assert {(A, R), (B, f"{R}2")} <= set(read.pairs)


@pytest.mark.parametrize("line", [f"<{A}", f"<{A}> <{R[:9]}", f"<{A} x> <{R}> .", f"_:b <{R}> .", f"<{A}__1> <{R}>"])
def test_unreadable_line_without_a_whole_pair_of_an_entity_tells_none(line: str) -> None:
    read = read_statement(line.encode())
    assert isinstance(read, NoTriple)
    assert read.pairs == ()


@pytest.mark.parametrize(
    ("spelled", "wanted"),
    [
        ("Caf%C3%A9", "Café"),
        ("Caf\\u00E9", "Café"),
        ("\\U0001F600", "😀"),
        ("A%28b%29%2C_C", "A(b),_C"),
        ("%22Weird_Al%22", "%22Weird_Al%22"),
        ("What%3f", "What%3F"),
        ("100%25", "100%25"),
        ("%2541", "%2541"),
        ("a%20b", "a%20b"),
        ("%C3%28", "%C3%28"),
        ("50%_off", "50%_off"),
        ("\\u00254", "%4"),
    ],
)
def test_iri_in_any_spelling_gets_the_canonical_one(spelled: str, wanted: str) -> None:
    assert canonical(spelled) == wanted
    assert canonical(wanted) == wanted


@pytest.mark.parametrize(
    ("iri", "helper"), [("Ann__PersonFunction__1", True), ("Ann__1", True), ("Ann_1", False), ("Ann__One", False), ("Ann__1_b", False)]
)
def test_helper_node_is_known_by_the_number_after_two_underscores(iri: str, helper: bool) -> None:
    assert is_helper(iri) is helper


pieces = st.sampled_from(
    [*'<>"\\ \t.#_:%uU{}|^`@', "<a>", "<b>", "<http://x/é>", "\\u0041", "%C3%A9", "<a> <b> <c> .", "__1>", '"x"', "41", "d"]
)


@given(st.lists(pieces, max_size=14).map("".join))
@example("<a> <b> <c> . #")
@example("<a\\u0041> <b> <c> .")
@example("<a> <b> <c__1> .")
def test_acceptance_of_any_line_agrees_with_an_independent_grammar(line: str) -> None:
    read, parts = read_statement(line.encode()), parts_of_triple(line)
    if parts is not None and any(map(is_helper, (canonical(parts[0]), canonical(parts[2])))):
        assert isinstance(read, NoTriple)
        assert read.reason is SetAside.HELPER_NODE
    elif parts is None:
        assert isinstance(read, NoTriple)
    else:
        assert read == Triple(*map(canonical, parts))


@given(st.binary(max_size=60))
def test_bytes_of_any_kind_never_crash(line: bytes) -> None:
    assert isinstance(read_statement(line), Triple | NoTriple)


@given(st.text(max_size=12).filter(lambda text: not set(text) & set('<>"{}|^`\\') and all(ord(letter) > 0x20 for letter in text)))
def test_accepted_triple_serialised_is_read_as_itself(name: str) -> None:
    line = f"<http://x/{name}> <http://x/r> <http://x/{name}o> .".encode("utf-8", "surrogatepass")
    read = read_statement(line)
    if isinstance(read, Triple):
        assert read_statement(read.line().removesuffix(b"\n")) == read
        if "%" not in name:
            assert read.line() == line + b"\n"
