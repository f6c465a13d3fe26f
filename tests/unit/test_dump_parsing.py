"""Lines by the million must say what the same lines say one by one."""

import re
from collections import Counter
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kp.facts.dump.parsing import OTHER_VALUE, SPELLED, Parser
from kp.facts.dump.reasons import UNREADABLE, SetAside
from kp.facts.dump.spans import Text
from kp.facts.dump.statements import Triple, read_statement
from tests.dump_lines import statement

Found = Counter[tuple[int, str, int]]


def parsed(data: bytes) -> tuple[Found, Found, list[tuple[str, str]], Parser]:
    """Hashed triples, hashed statements of other values (without these), texts, and the parser."""
    parser = Parser()
    triples: Found = Counter()
    others: Found = Counter()
    texts = []
    for rows in parser.parse(bytearray(data)):
        relations = [parser.relations.names[number] for number in rows.relations]
        for subject, relation, object_, kind in zip(rows.subjects, relations, rows.objects, rows.kinds, strict=True):
            (others if kind == OTHER_VALUE else triples)[int(subject), relation, 0 if kind == OTHER_VALUE else int(object_)] += 1
        assert (rows.kinds == SPELLED).sum() == len(rows.subject_texts) == len(rows.object_texts)
        pairs = zip(rows.subject_texts.to_pylist(), rows.object_texts.to_pylist(), strict=True)
        texts += [(subject.decode(), object_.decode()) for subject, object_ in pairs]
    return triples, others, texts, parser


@cache
def hashed(text: str) -> int:
    block = Text(bytearray(text.encode()))
    return int(block.hashes(np.array([0]), np.array([block.size]))[0])


def one_by_one(data: bytes) -> tuple[Found, Found, Counter[SetAside], list[Triple]]:
    triples: Found = Counter()
    others: Found = Counter()
    reasons: Counter[SetAside] = Counter()
    read_triples = []
    for line in data.replace(b"\r\n", b"\n").replace(b"\t", b" ").split(b"\n")[:-1]:
        read = read_statement(line)
        if isinstance(read, Triple):
            read_triples.append(read)
            triples[hashed(read.subject), read.relation, hashed(read.object)] += 1
            continue
        reasons[read.reason] += 1
        for subject, relation in read.pairs:
            others[hashed(subject), relation, 0] += 1
    return triples, others, reasons, read_triples


def assert_reasons_alike(data: bytes, found: dict[SetAside, int], wanted: Counter[SetAside]) -> None:
    """The same reasons, but that a text which is no literal by the letter may be taken for one: no triple comes of it either way."""
    unsure = sum(re.search(rb'>[ \t]+"', line) is not None for line in data.split(b"\n"))
    told = (SetAside.LITERAL, SetAside.HELPER_NODE)
    others = [reason for reason in SetAside if reason not in (*told, *UNREADABLE) or reason is SetAside.NOT_UTF8]
    assert sum(found.values()) == sum(wanted.values())
    assert [found.get(reason, 0) for reason in others] == [wanted[reason] for reason in others]
    assert all(wanted[reason] <= found.get(reason, 0) <= wanted[reason] + unsure for reason in told)


def assert_alike(data: bytes) -> None:
    triples, others, texts, parser = parsed(data)
    wanted, wanted_others, reasons, read = one_by_one(data)
    assert triples == wanted
    assert_reasons_alike(data, parser.set_aside.counts, reasons)
    assert wanted_others <= others
    assert Counter(texts) <= Counter((triple.subject, triple.object) for triple in read)
    assert parser.lines == data.count(b"\n")


names = st.sampled_from(
    ["Ann", "Caf%C3%A9", "Café", "Caf\\u00E9", "%22A%22", "B__Post__1", "C__2", "D9", "E_", "F%2", "x" * 40, "(G)", "a b", "", "H{}"]
)
iris = names.map("<http://dbpedia.org/resource/{}>".format) | names.map("<{}>".format)
objects = iris | st.sampled_from(
    [
        '"text"@en',
        '"a b"',
        '"1"^^<http://x/int>',
        '"\\""',
        '"',
        "_:b0",
        '"a" <b>',
        '"a" .<b> <c>',
        '"a" .<b> <c> "d"',
        '"a" .<b> <c> <d>',
        '"a`b{"',
    ]
)
graphs = iris | st.sampled_from(["_:g", "<g>", '"no graph"', "<g> <h>"])
lines = (
    st.builds("{} {} {} .".format, iris, iris, objects)
    | st.builds("{} {} {} {} .".format, iris, iris, objects, graphs)
    | st.builds(
        "{}{}{}{}{}.{}".format,
        iris,
        st.sampled_from(["", " ", "  ", "\t"]),
        iris,
        st.sampled_from([" ", "\t"]),
        objects,
        st.sampled_from(["", " # c"]),
    )
    | st.sampled_from(
        ["", " ", "# comment <a> <b> <c> .", "garbage", ".", "<", "<a> <b>", "<a> <b> <c> <d> .", "<a> <b> .", "\0", "<\u2028> <b> <c> ."]
    )
    | st.text('<>. ab_1%\\"', max_size=20)
)
ends = st.sampled_from(["\n", "\r\n"])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(lines, ends), max_size=12), st.sampled_from([0, 700]), st.booleans())
def test_lines_of_any_kind_say_in_bulk_what_they_say_one_by_one(drawn: list[tuple[str, str]], good: int, quads: bool) -> None:
    odd = [line.replace("\n", "") + end for line, end in drawn]  # alone, and among many in the usual form, which go another way
    many = [statement(f"S{number}", "r", "O") for number in range(good)]
    many = [line[:-1] + "<http://x/graph> ." if quads and number % 3 else line for number, line in enumerate(many)]
    assert_alike("".join([*odd, *(line + "\n" for line in many)]).encode())


@pytest.mark.parametrize("literal", ['"a"b"@en', r'"bad\q"@en', '"open@en <g h>', '"a"b', r'"open\"@en', r'"a\"b\u00e9"@en', '"a"@en <g>'])
def test_literal_is_judged_in_bulk_as_it_is_one_by_one(literal: str) -> None:
    data = b"<s> <p> <o> .\n" * 50 + f"<s> <p> {literal} .\n".encode()
    _, _, reasons, _ = one_by_one(data)
    assert Counter({reason: n for reason, n in parsed(data)[3].set_aside.counts.items() if n}) == reasons


def test_quads_in_the_usual_form_are_read_in_bulk(monkeypatch: pytest.MonkeyPatch) -> None:
    quads = "".join(statement(f"S{number}", "r", "O")[:-1] + f"<http://x/graph?x={number}#y> .\n" for number in range(9))
    monkeypatch.setattr("kp.facts.dump.parsing.read_statement", lambda line: pytest.fail(f"one by one: {line}"))
    triples, _, texts, _ = parsed(quads.encode())
    assert triples == parsed("".join(statement(f"S{number}", "r", "O") + "\n" for number in range(9)).encode())[0]
    assert len(texts) == 9


@given(st.lists(st.binary(max_size=30), max_size=8))
def test_bytes_of_any_kind_say_in_bulk_what_they_say_one_by_one(drawn: list[bytes]) -> None:
    assert_alike(b"".join(line.replace(b"\n", b"") + b"\n<a> <b> <c> .\n" for line in drawn))


@settings(max_examples=200)
@given(st.integers(0, 80), st.integers(0, 255))
def test_one_changed_byte_of_a_good_line_is_seen(place: int, byte: int) -> None:
    line = bytearray(statement("Ann_Lee", "birthPlace", "Caf%22").encode() + b"\n")
    if byte != ord("\n"):
        line[place] = byte
    assert_alike(bytes(line) * 2 + statement("B", "r", "C").encode() + b"\n")


def test_texts_of_a_many_valued_pair_are_left_out() -> None:
    data = "".join(statement("Ann", "child", name) + "\n" for name in ("B", "C")) + statement("Ann", "spouse", "D") + "\n"
    _, _, texts, _ = parsed(data.encode())
    assert texts == [("http://dbpedia.org/resource/Ann", "http://dbpedia.org/resource/D")]


def test_set_aside_line_is_told_with_its_number_and_how_it_begins() -> None:
    parser = Parser()
    parser.parse(bytearray(b"# started\n<a> <b> <c> .\n"))
    parser.parse(bytearray(b"<a> <b> <c> .\n\n<a> <b> " + b"c" * 500 + b"\n"))
    (malformed,) = parser.set_aside.examples[SetAside.MALFORMED]
    assert malformed.line == 5
    assert malformed.begins == "<a> <b> " + "c" * 192
    assert [one.line for one in parser.set_aside.examples[SetAside.BLANK_LINE]] == [4]
    assert parser.set_aside.counts[SetAside.COMMENT] == 1


def test_numbers_of_relations_hold_over_the_blocks_of_a_file() -> None:
    parser = Parser()
    first = parser.parse(bytearray(b"<a> <r> <c> .\n<a> <s> <c> .\n"))
    second = parser.parse(bytearray(b"<a> <s> <d> .\n<a> <t> <d> .\n"))
    assert parser.relations.names == ["r", "s", "t"]
    assert [int(number) for rows in (*first, *second) for number in rows.relations] == [0, 1, 1, 2]


@pytest.mark.parametrize("length", [1, 7, 8, 11, 12, 13, 31, 200])
def test_hash_of_a_piece_is_that_of_its_bytes_alone(length: int) -> None:
    text = Text(bytearray(b"y" * 5 + b"a" * length + b"z" * 5))
    alone = Text(bytearray(b"a" * length))
    start, end = np.array([5]), np.array([5 + length])
    assert text.hashes(start, end) == alone.hashes(np.array([0]), np.array([length]))
    assert text.hashes(start, end) != text.hashes(start, end + 1)
    assert text.copied(start, end).to_pylist() == [b"a" * length]
