"""Cells of foreign tables: what is read out of each form, and what is said of a cell that has none."""

import datetime
import decimal
import json
from typing import Any

import numpy as np
import pytest

from kp.facts.cells import CellError, as_answers, as_count, as_text, as_texts, stripped
from kp.facts.literals import parsed


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (None, ""),
        (7, "7"),
        (1900.0, "1900"),
        (-3.0, "-3"),
        (0.5, "0.5"),
        (float("nan"), ""),
        (decimal.Decimal("1900.00"), "1900"),
        (decimal.Decimal("1.50"), "1.50"),
        ("1900.0", "1900"),
        ("-12.0", "-12"),
        ("1900.00", "1900.00"),
        ("2.05", "2.05"),
        ("USB 2.0", "USB 2.0"),
        (datetime.date(1900, 5, 1), "1900-05-01"),
        (datetime.datetime(1900, 5, 1), "1900-05-01"),
        (datetime.datetime(1900, 5, 1, 12, 30), "1900-05-01 12:30:00"),
        (b"Oslo", "Oslo"),
        (["Who?"], "Who?"),
        ({"text": "Who?", "tokens": ["Who", "?"]}, "Who?"),
        ("[MASK] is what?", "[MASK] is what?"),
    ],
)
def test_as_text_number_date_or_text_is_written_plainly(cell: Any, text: str) -> None:
    assert as_text(cell, "question") == text


@pytest.mark.parametrize("blank", [" ", "\t", "\xa0", "\u2003", "\u3000", "\u200b", "\u200d", "\u2060", "\ufeff", "\r\n"])
def test_as_text_blanks_of_every_kind_are_stripped_and_inside_stay(blank: str) -> None:
    assert as_text(f"{blank}Team{blank}Heron{blank}{blank}", "answer") == f"Team{blank}Heron"


def test_stripped_long_run_of_blanks_inside_takes_no_time() -> None:
    text = "a" + " " * 1_000_000 + "b"
    assert stripped(text) == text


@pytest.mark.parametrize("mark", ["", "nan", "NaN", "None", "NULL", "null", "NA", "N/A", "n/a", "<NA>", "NaT", " nan\u200b"])
@pytest.mark.parametrize("column", ["question", "answer", "relation"])
def test_as_text_mark_of_a_missing_value_is_none(mark: str, column: str) -> None:
    assert as_text(mark, column) == ""


@pytest.mark.parametrize("word", ["Na", "na", "Nan", "none", "Null", "Nat", "NAN", "N", "nil", "NASA", "Not a Number"])
def test_as_text_word_that_resembles_a_mark_stays(word: str) -> None:
    assert as_text(word, "answer") == word
    assert as_texts([word], "aliases") == [word]


@pytest.mark.parametrize(
    ("cell", "fault"),
    [
        (True, "is neither a text nor a number"),
        ({"a": 1}, "is neither a text nor a number"),
        (["a", "b"], "is neither a text nor a number"),
        (float("inf"), "is no finite number"),
        ("Team \ud83d", "holds a lone surrogate"),
        (b"M\xf6we", "is not UTF-8 (save as CSV UTF-8)"),
    ],
)
def test_as_text_what_is_no_text_is_an_error_by_column(cell: Any, fault: str) -> None:
    with pytest.raises(CellError, match="column 'answer' ") as raised:
        as_text(cell, "answer")
    assert raised.value.fault.startswith(fault)
    raised.value.value.encode()


@pytest.mark.parametrize(("cell", "count"), [("12", 12), (12.0, 12), ("12.0", 12), ("nan", None), (None, None), ("", None), (-5, None)])
def test_as_count_whole_numbers_in_every_form(cell: Any, count: int | None) -> None:
    assert as_count(cell, "subject_degree") == count


@pytest.mark.parametrize("cell", ["many", "1.5", "true", 1.5, True])
def test_as_count_anything_else_is_an_error(cell: Any) -> None:
    with pytest.raises(CellError, match="column 'subject_degree'"):
        as_count(cell, "subject_degree")


HERON = ["Team Heron", "TEAM HERON"]
ARRAY = np.array(HERON, dtype=object)
FORMS: dict[str, Any] = {
    "list": HERON,
    "JSON": json.dumps(HERON),
    "Python": str(HERON),
    "tuple": str(tuple(HERON)),
    "set": "{'Team Heron', 'TEAM HERON'}",
    "NumPy's str": str(ARRAY),
    "NumPy's repr": repr(ARRAY),
    "NumPy in lines": "['Team Heron'\n 'TEAM HERON']",
    "with gaps": [None, "Team Heron", "", float("nan"), "TEAM HERON", "Team Heron", "<NA>"],
    "with gaps as text": "[nan, 'Team Heron', None, 'TEAM HERON']",
    "SQuAD": {"text": HERON, "answer_start": [3, 3]},
    "SQuAD's own file": [{"text": name, "answer_start": 3} for name in HERON],
    "SQuAD as JSON": json.dumps({"text": HERON, "answer_start": [3, 3]}),
    "SQuAD as Python": str({"text": HERON, "answer_start": [3, 3]}),
    "SQuAD through pandas": str({"text": ARRAY, "answer_start": np.array([3, -1], dtype=np.int32)}),
    "TriviaQA": {"value": "Team Heron", "aliases": HERON, "normalized_aliases": ["team heron"]},
    "TriviaQA's own file": {"Value": "Team Heron", "Aliases": HERON, "NormalizedAliases": ["team heron"]},
    "TriviaQA as Python": str({"value": "Team Heron", "aliases": HERON, "normalized_aliases": ["team heron"]}),
    "structs": [{"aliases": HERON[:1], "normalized_aliases": ["team heron"]}, {"aliases": HERON[1:], "normalized_aliases": []}],
    "structs through pandas": str(np.array([{"aliases": np.array([name], dtype=object)} for name in HERON], dtype=object)),
    "struct of lists": {"aliases": [HERON[:1], HERON[1:]], "normalized_aliases": [[], []]},
}


@pytest.mark.parametrize("column", ["answer", "answers", "object"])
@pytest.mark.parametrize("form", FORMS)
def test_as_answers_list_or_struct_in_each_form_gives_the_canonical_first(form: str, column: str) -> None:
    assert as_answers({column: FORMS[form]}) == HERON


TITLES = ["[REC]", "[sic]", "{braces}", "[", "(500) Days", "[a] or [b]", "'Round Midnight", "f(x) = [x]"]
NUMBERS = ["[02134]", "[007]", "[1.2.3]", "[192.168.0.1]"]


@pytest.mark.parametrize("title", [*TITLES, *NUMBERS, "('Til) I Kissed You", '("Weird Al") Yankovic'])
def test_as_texts_title_in_brackets_is_one_text(title: str) -> None:
    assert as_texts(title, "answer") == [title]


@pytest.mark.parametrize("cell", ['["a"', "['a', 'b'", '{"text": ["a"', "['a' + 'b']", "['a', __import__('os').getcwd()]", "['a', ...]"])
def test_as_texts_list_that_is_cut_or_holds_more_than_values_is_an_error(cell: str) -> None:
    with pytest.raises(CellError, match="column 'answers' is a list or dict that cannot be parsed"):
        as_texts(cell, "answers")


@pytest.mark.parametrize("cell", ["[1 22 3.5]", "[1,22,3.5]", "[ 1\n22  3.5]", "array([1, 22, 3.5])"])
def test_as_texts_numbers_with_blanks_or_commas_between_are_several(cell: str) -> None:
    assert as_texts(cell, "answers") == ["1", "22", "3.5"]


@pytest.mark.parametrize("cell", ["[['a']['b']]", "['a'1]", "('a', 'b')", "['a'  'b']"])
def test_as_texts_strings_and_brackets_are_items_without_a_blank(cell: str) -> None:
    assert as_texts(cell, "answers") == ["a", "1" if "1" in cell else "b"]


def test_parsed_brackets_by_the_thousand_are_a_text() -> None:
    text = "[" * 100_000 + "]" * 100_000
    assert parsed(text) == text


def test_as_texts_lists_within_lists_by_the_hundred_are_an_error() -> None:
    cell: list[Any] = []
    for _ in range(5000):
        cell = [cell]
    with pytest.raises(CellError, match="column 'answers' is a list within hundreds of lists"):
        as_texts(cell, "answers")


def test_as_texts_struct_of_another_kind_is_an_error() -> None:
    with pytest.raises(CellError, match="is a struct without value"):
        as_texts({"name": "x"}, "answer")


@pytest.mark.parametrize(
    "empty", [None, "", "[]", "{}", [], {}, [None], ["", "nan"], {"text": [], "answer_start": []}, "nan", float("nan")]
)
def test_as_texts_empty_in_each_form_is_none(empty: Any) -> None:
    assert as_texts(empty, "aliases") == []


@pytest.mark.parametrize("column", ["answers", "aliases", "paraphrases"])
@pytest.mark.parametrize("cell", ["a one|b, c", "a one | b, c", "|a one|b, c||nan|", "a one\nb, c", "a one\r\nb, c\n"])
def test_as_texts_bars_and_line_breaks_separate_several(column: str, cell: str) -> None:
    assert as_texts(cell, column) == ["a one", "b, c"]


def test_as_texts_bar_in_a_single_answer_or_in_a_list_is_part_of_it() -> None:
    assert as_texts("P(A|B)", "answer") == ["P(A|B)"]
    assert as_texts(["P(A|B)"], "answers") == ["P(A|B)"]


def test_as_texts_code_of_namibia_is_an_answer_in_a_list_and_never_an_alias() -> None:
    assert as_texts('["NA", "NAM"]', "answer") == as_texts(["NA", "NAM"], "answers") == ["NA", "NAM"]
    assert as_texts("NA", "answer") == []
    assert as_texts(["NA", "NAM"], "aliases") == ["NAM"]


def test_as_answers_gap_in_one_column_is_filled_from_the_next() -> None:
    assert as_answers({"answers": None, "answer": "nan", "object": "Oslo"}) == ["Oslo"]
    assert as_answers({"answers": [], "answer": "Lima", "object": "Oslo"}) == ["Lima"]
    assert as_answers({"aliases": ["Lima"]}) == []
