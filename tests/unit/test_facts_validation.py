"""check_facts lets good tables pass and names what is wrong with bad ones."""

from typing import Any

import pyarrow as pa
import pytest

from kp.errors import UserError
from kp.facts.validation import check_facts, stands_in
from kp.schema import FACTS


def table(*changes: dict[str, Any]) -> pa.Table:
    rows = []
    for number, change in enumerate(changes):
        row = {
            "fact_id": f"id{number}",
            "subject": f"subject {number}",
            "relation": "r",
            "object": "Norway",
            "question": f"Question {number}?",
            "answers": ["Norway"],
            "popularity": None,
            "subject_degree": None,
            "domain": None,
            "paraphrases": [],
            "source": "test",
        }
        rows.append({**row, **change})
    return pa.Table.from_pylist(rows, schema=FACTS)


def test_good_table_passes_whole() -> None:
    kept, quarantined = check_facts(table({}, {}), "facts.csv")
    assert kept == table({}, {})
    assert quarantined.num_rows == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": " "}, "row 2, column 'question': empty"),
        ({"subject": ""}, "row 2, column 'subject': empty"),
        ({"answers": []}, "row 2, column 'answers': empty"),
        ({"answers": ["ok", " "]}, "row 2, column 'answers': holds an empty answer or alias"),
        ({"fact_id": "id0"}, "row 2, column 'fact_id': the same as in row 1: 'id0'"),
    ],
)
def test_row_of_wrong_form_is_refused_by_its_column(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as raised:
        check_facts(table({}, change), "facts.csv")
    assert str(raised.value).startswith(f"facts.csv: {message}")


@pytest.mark.parametrize(
    ("change", "column", "reason"),
    [
        ({"question": "Is norway, in fact, Norway?"}, "answers", "stands in its question 'Is norway, in fact, Norway?'"),
        ({"question": "What\tis it?"}, "question", "holds a control character"),
        ({"answers": ["Nor\x00way"]}, "answers", "holds a control character"),
        ({"question": "x" * 100_000}, "question", "longer than 1,000 characters"),
        ({"answers": ["Norway", "y" * 1001]}, "answers", "longer than 1,000 characters"),
    ],
)
def test_row_with_unfit_content_is_quarantined_with_the_reason(change: dict[str, Any], column: str, reason: str) -> None:
    kept, quarantined = check_facts(table({}, change, {}), "facts.csv")
    assert kept["fact_id"].to_pylist() == ["id0", "id2"]
    [fault] = quarantined.to_pylist()
    assert (fault["row"], fault["fact_id"], fault["column"], fault["reason"]) == (2, "id1", column, reason)
    assert len(fault["value"]) <= 200


def test_question_with_two_answers_is_quarantined_in_every_row() -> None:
    kept, quarantined = check_facts(table({}, {"question": "Question 0?", "answers": ["Sweden"]}, {}), "facts.csv")
    assert kept["fact_id"].to_pylist() == ["id2"]
    assert quarantined["row"].to_pylist() == [1, 2]


def test_table_without_a_measurable_row_is_refused() -> None:
    with pytest.raises(UserError, match=r"no fact can be measured\nfacts\.csv: row 1, column 'question': holds a control"):
        check_facts(table({"question": "What\tis it?"}), "facts.csv")


def test_missing_column_is_named() -> None:
    with pytest.raises(UserError, match=r"facts\.csv: column 'question' is missing"):
        check_facts(table({}).drop_columns(["question"]), "facts.csv")


def test_table_without_rows_is_an_error() -> None:
    with pytest.raises(UserError, match="no facts"):
        check_facts(FACTS.empty_table(), "facts.csv")


def test_many_problems_are_cut_after_five() -> None:
    with pytest.raises(UserError) as raised:
        check_facts(table(*[{"subject": ""}] * 9), "facts.csv")
    lines = str(raised.value).splitlines()
    assert len(lines) == 6
    assert lines[4].startswith("facts.csv: row 5, column 'subject'")
    assert lines[5] == "facts.csv: more problems follow"


def test_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(UserError) as raised:
        check_facts(table({"fact_id": "x" * 500}, {"fact_id": "x" * 500}), "facts.csv")
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize(
    ("answer", "text", "expected"),
    [
        ("New York", "Where is the New York Times printed?", True),
        ("new york", "Where is NEW, YORK?", True),
        ("York", "Where is New Yorkshire?", False),
        ("As", "What is known as arsenic?", False),
        ("As", "What element is As?", True),
        ("?", "What?", False),
    ],
)
def test_stands_in_compares_whole_words(answer: str, text: str, expected: bool) -> None:
    assert stands_in(answer, text) is expected
