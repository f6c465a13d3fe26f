import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kp.metrics.matching import Matches, first_line, match_all, matches, normalise
from kp.vocabulary import Matcher

FEW = settings(max_examples=25, deadline=None)

STRICT, EXACT, RELEASED = Matcher.STRICT, Matcher.EXACT, Matcher.RELEASED


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  The  Beatles! ", "beatles"),
        ("a Tale of the Tub", "tale of tub"),
        ("U.S.A.", "usa"),
        ("U.S", "us"),
        ("J.R.R.Tolkien", "jrr tolkien"),
        ("Washington, D.C.", "washington dc"),
        ("Guinea-Bissau", "guinea bissau"),
        ("O\u2019Brien", "obrien"),
        ("O\u00b4Brien", "obrien"),
        ("O\uff07Brien", "obrien"),
        ("\u0149", "n"),
        ("1,000,000", "1000000"),
        ("3.5", "3 5"),
        ("Stra\u00dfe", "strasse"),
        ("\uff30aris", "paris"),
        ("A", "a"),
        ("the the", "the the"),
        ("?!", ""),
        ("", ""),
        ("Sao\u200b Paulo", "sao paulo"),
    ],
)
def test_normalise_text_keeps_what_names_are_compared_by(text: str, expected: str) -> None:
    assert normalise(text) == expected


@FEW
@given(st.text())
def test_normalise_normalised_text_is_unchanged(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@FEW
@given(st.text(alphabet="aTheU.S '-,1 \u00e9"))
def test_normalise_likely_characters_is_a_fixed_point(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Answer: Paris\nQuestion: next", "Paris"),
        ("answer : Paris", "Paris"),
        ("Answer: Answer: Paris", "Paris"),
        ("\n\n Answer:\nParis", "Paris"),
        ("Paris is the Answer: yes", "Paris is the Answer: yes"),
        ("Answer:", ""),
        ("", ""),
    ],
)
def test_first_line_of_an_answer_drops_prefix_and_later_lines(answer: str, expected: str) -> None:
    assert first_line(answer) == expected


@pytest.mark.parametrize(
    ("answer", "aliases", "expected"),
    [
        ("Answer: Paris", ["Paris"], Matches(strict=True, exact=True, released=True)),
        ("It is Paris.", ["paris"], Matches(strict=True, exact=False, released=True)),
        ("Parisian", ["Paris"], Matches(strict=False, exact=False, released=True)),  # inside another word
        ("London\nParis", ["Paris"], Matches(strict=False, exact=False, released=True)),  # on a later line
        ("Answer: Oslo", ["we"], Matches(strict=False, exact=False, released=True)),  # inside the prefix
        ("Answer: Oslo", [""], Matches(strict=False, exact=False, released=True)),  # an empty alias is inside any text
        ("Answer: Oslo", ["?!"], Matches(strict=False, exact=False, released=False)),  # nothing left to compare
        ("", ["?"], Matches(strict=False, exact=False, released=False)),
        ("let us go", ["US"], Matches(strict=False, exact=False, released=True)),  # under 3 characters: the whole answer
        ("U.S.", ["US"], Matches(strict=True, exact=True, released=False)),
        ("USA today", ["USA"], Matches(strict=True, exact=False, released=True)),  # 3 characters may stand inside
        ("The Hague", ["Hague"], Matches(strict=True, exact=True, released=True)),
        ("Hague", ["The Hague"], Matches(strict=True, exact=True, released=False)),
        ("Lyon or Nice", ["Marseille", "Nice"], Matches(strict=False, exact=False, released=True)),
        ("Paris", [], Matches(strict=False, exact=False, released=False)),
    ],
)
def test_match_all_one_answer_tells_the_three_matchers_apart(answer: str, aliases: list[str], expected: Matches) -> None:
    assert match_all(answer, aliases) == expected


@pytest.mark.parametrize(("matcher", "expected"), [(STRICT, True), (EXACT, False), (RELEASED, True)])
def test_matches_one_matcher_gives_its_verdict(matcher: Matcher, expected: bool) -> None:
    assert matches("Answer: It is Rome", ["Rome"], matcher) is expected


@FEW
@given(st.text(alphabet="aAbT.' ", max_size=4), st.text(alphabet="aAbT.' ", max_size=4))
def test_exact_two_texts_is_symmetric(one: str, other: str) -> None:
    assert matches(one, [other], EXACT) == matches(other, [one], EXACT)


@FEW
@given(st.text(alphabet="abTheUS. \n"), st.lists(st.text(alphabet="abTheUS. "), max_size=3))
def test_strict_whatever_exact_accepts_is_accepted(answer: str, aliases: list[str]) -> None:
    found = match_all(answer, aliases)
    assert found.strict or not found.exact


LETTERS = ["a", "A", " ", "é", "北", "京", "で", "서", "울", "ال", "ก", "😀", "Answer:", "XIV ", "Henry ", "St. ", "of "]
NUMBERS = ["1", "2", "0", "25 ", "1990", "½", "²", "٣", "five ", "million ", "December "]
MARKS = ["/", ",", ".", "-", "\u2013", "'", "\n", "*", "$", "!", "&", "++", "(", ")"]
JOINTS = ["the ", "and ", "or ", "not ", "is "]
PIECES = st.lists(st.sampled_from(LETTERS + NUMBERS + MARKS + JOINTS), max_size=30).map("".join)


@settings(max_examples=300, deadline=None)
@given(PIECES, st.lists(PIECES, max_size=3), st.lists(PIECES, max_size=3))
def test_match_all_odd_texts_have_verdicts_of_which_strict_is_the_wider(answer: str, aliases: list[str], others: list[str]) -> None:
    found = match_all(answer, aliases, others)
    assert found.strict or not found.exact


@FEW
@given(st.text(), st.lists(st.text(), max_size=4))
def test_match_all_aliases_in_any_order_agrees(answer: str, aliases: list[str]) -> None:
    assert match_all(answer, aliases) == match_all(answer, aliases[::-1])
