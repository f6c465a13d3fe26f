"""check_facts lets good tables pass and names what is wrong with bad ones."""

from typing import Any

import pyarrow as pa
import pytest

from kp.errors import UserError
from kp.facts.validation import Problem, check_facts, reason_kind, rejected_rows, stands_in
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


def test_id_of_two_facts_is_refused_with_both_rows() -> None:
    with pytest.raises(UserError) as raised:
        check_facts(table({}, {"fact_id": "id0"}), "facts.csv")
    assert str(raised.value) == "facts.csv: row 2, column 'fact_id': the same as in row 1: 'id0'"


@pytest.mark.parametrize(
    ("change", "column", "reason"),
    [
        ({"question": "Is norway, in fact, Norway?"}, "answers", "stands in its question 'Is norway, in fact, Norway?'"),
        ({"question": "What\tis it?"}, "question", "holds a control character"),
        ({"answers": ["Nor\x00way"]}, "answers", "holds a control character"),
        ({"question": "x" * 100_000}, "question", "longer than 1,000 characters"),
        ({"answers": ["Norway", "y" * 1001]}, "answers", "longer than 1,000 characters"),
        ({"question": " "}, "question", "empty"),
        ({"subject": ""}, "subject", "empty"),
        ({"answers": []}, "answers", "empty"),
        ({"answers": ["ok", " "]}, "answers", "holds an empty answer or alias"),
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
    with pytest.raises(UserError) as raised:
        check_facts(table({"question": "What\tis it?"}), "facts.csv")
    assert str(raised.value) == (
        "facts.csv: 1 of 1 rows (100.0%) cannot be measured; the main reason, of 1 rows (1): holds a control character; "
        "for example row 1, column 'question': holds a control character: 'What\\tis it?'. Correct the source"
    )


def test_rows_that_are_unread_count_with_the_others_under_their_own_numbers() -> None:
    facts = table(*[{}] * 17, {"question": "What\tis it?"})
    numbers = [*range(1, 9), *range(12, 22)]
    unread = [Problem(9, "answer", "nan", "stands for a missing value"), Problem(11, "", "{oops", "not valid JSON 'at 2'")]
    kept, quarantined = check_facts(facts, "facts.csv", 0.15, numbers, unread)
    assert kept.num_rows == 17
    assert quarantined.select(["row", "fact_id", "column"]).to_pylist() == [
        {"row": 9, "fact_id": "", "column": "answer"},
        {"row": 11, "fact_id": "", "column": ""},
        {"row": 21, "fact_id": "id17", "column": "question"},
    ]
    with pytest.raises(UserError, match=r"3 of 20 rows \(15\.0%\) cannot be measured"):
        check_facts(facts, "facts.csv", 0.14, numbers, unread)


def test_rows_of_which_none_was_read_are_refused_by_the_first() -> None:
    with pytest.raises(UserError, match=r"1 of 1 rows .* row 4: not valid JSON: '\{oops'"):
        check_facts(FACTS.empty_table(), "facts.jsonl", 0.05, (), [Problem(4, "", "{oops", "not valid JSON")])


def test_missing_column_is_named() -> None:
    with pytest.raises(UserError, match=r"facts\.csv: column 'question' is missing"):
        check_facts(table({}).drop_columns(["question"]), "facts.csv")


def test_table_without_rows_is_an_error() -> None:
    with pytest.raises(UserError, match="no facts"):
        check_facts(FACTS.empty_table(), "facts.csv")


def test_many_problems_are_cut_after_five() -> None:
    with pytest.raises(UserError) as raised:
        check_facts(table(*({"fact_id": "x", "subject": f"s{number}"} for number in range(9))), "facts.csv")
    lines = str(raised.value).splitlines()
    assert len(lines) == 6
    assert lines[4].startswith("facts.csv: row 6, column 'fact_id'")
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


def test_question_alike_but_for_case_and_punctuation_with_another_answer_is_quarantined() -> None:
    kept, quarantined = check_facts(table({"question": "Who is it?"}, {"question": "who  is it", "answers": ["Sweden"]}, {}), "facts.csv")
    assert kept["fact_id"].to_pylist() == ["id2"]
    assert quarantined["reason"].to_pylist() == ["stands in several rows, but for case and punctuation, with different answers"] * 2


@pytest.mark.parametrize(
    ("one", "other"),
    [("Who made C++?", "Who made C#?"), ("Who directed The Circle?", "Who directed Circle?"), ("Who wrote Été?", "Who wrote Ete?")],
)
def test_questions_about_names_that_differ_in_a_sign_or_an_article_both_stay(one: str, other: str) -> None:
    kept, quarantined = check_facts(table({"question": one}, {"question": other, "answers": ["Sweden"]}), "facts.csv")
    assert (kept.num_rows, quarantined.num_rows) == (2, 0)


def test_question_asked_again_with_the_same_answer_keeps_its_first_fit_row() -> None:
    same = {"question": "Question 9?"}
    kept, quarantined = check_facts(table({**same, "answers": ["Norway", "y" * 2000]}, same, {**same, "answers": ["norway."]}), "facts.csv")
    assert kept["fact_id"].to_pylist() == ["id1"]
    assert quarantined.select(["row", "reason"]).to_pylist() == [
        {"row": 1, "reason": "longer than 1,000 characters"},
        {"row": 3, "reason": "asked and answered alike in an earlier row"},
    ]


def test_fact_that_comes_twice_is_kept_once() -> None:
    twice = {"fact_id": "same", "subject": "Oslo", "question": "Where is Oslo?"}
    kept, quarantined = check_facts(table(twice, {**twice, "question": "Oslo lies where?"}), "facts.csv")
    assert kept["question"].to_pylist() == ["Where is Oslo?"]
    assert quarantined["reason"].to_pylist() == ["the same fact as in an earlier row"]


def test_unfit_paraphrases_are_left_out_and_their_fact_stays() -> None:
    paraphrases = ["Fine?", "Is it Norway?", "", "Fine?", "Question 0?", "Tab\there?", "z" * 1001, "Good?"]
    kept, quarantined = check_facts(table({"paraphrases": paraphrases}), "facts.csv", max_rejected_fraction=0.0)
    assert kept["paraphrases"].to_pylist() == [["Fine?", "Good?"]]
    assert kept.schema.equals(FACTS)
    assert set(quarantined["column"].to_pylist()) == {"paraphrases"}
    assert quarantined["reason"].to_pylist() == [
        "a paraphrase holds an answer",
        "a paraphrase is empty",
        "a paraphrase repeats the question or another one",
        "a paraphrase repeats the question or another one",
        "a paraphrase holds a control character",
        "a paraphrase is longer than 1,000 characters",
    ]
    assert rejected_rows(quarantined) == []


def test_more_unfit_rows_than_allowed_stop_with_the_main_reason_and_an_example() -> None:
    rows = [{} for _ in range(17)] + [{"question": f"Is {name}'s land Norway?"} for name in "ab"] + [{"question": "What\tis it?"}]
    assert check_facts(table(*rows), "facts.csv", max_rejected_fraction=0.15)[0].num_rows == 17
    with pytest.raises(UserError) as raised:
        check_facts(table(*rows), "facts.csv", max_rejected_fraction=0.1)
    said = str(raised.value)
    assert "facts.csv: 3 of 20 rows (15.0%) cannot be measured, more than facts.max_rejected_fraction = 0.1 allows" in said
    assert "the main reason, of 2 rows (18, 19): stands in its question; for example row 18, column 'answers'" in said
    assert "'Norway'" in said
    assert "raise facts.max_rejected_fraction" in said


def test_row_with_two_faults_counts_once_towards_the_limit() -> None:
    rows: list[dict[str, Any]] = [{} for _ in range(9)] + [{"question": "Norway\t?"}]
    kept, quarantined = check_facts(table(*rows), "facts.csv", max_rejected_fraction=0.1)
    assert (kept.num_rows, quarantined.num_rows) == (9, 2)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("stands in its question 'What is X's name?'", "stands in its question"),
        ("longer than 1,000 characters", "longer than 1,000 characters"),
        ("stands in its question 'two\nlines'", "stands in its question"),
    ],
)
def test_reason_kind_drops_what_is_quoted(reason: str, kind: str) -> None:
    assert reason_kind(reason) == kind


def test_stands_in_letters_that_fold_into_two_are_found() -> None:
    assert stands_in("İzmir", "In which country is İzmir located?")
