"""JSON documents and chats in forms that are nearly, but not quite, those that are well known."""

import json
from pathlib import Path
from typing import Any

import pytest

from kp.errors import UserError
from kp.facts.tables import SourceFacts, read_source

ROW = {"question": "q?", "answer": "a"}
ARTICLE = {"title": "t", "paragraphs": [{"context": "c", "qas": [{"question": "q?", "answers": [{"text": "a", "answer_start": 0}]}]}]}
ALIKE: dict[str, Any] = {
    "paragraphs without questions": {"data": [{**ROW, "paragraphs": [{"title": "t"}]}]},
    "paragraphs that are texts": {"data": [{**ROW, "paragraphs": ["t"]}]},
    "no paragraphs": {"data": [{**ROW, "paragraphs": []}]},
    "columns and objects": {"columns": ["question", "answer"], "data": [ROW]},
    "columns that are objects, and objects": {"columns": [{"name": "question"}], "data": [ROW]},
    "list of articles": [ARTICLE],
    "articles": {"data": [ARTICLE]},
    "one row of structs": {"question": {"text": "q?"}, "answer": {"value": "a"}},
}
NO_TABLES: dict[str, Any] = {
    "columns that are objects": {"columns": [{"name": "question"}], "data": [["x"]]},
    "numbers": {"columns": ["question"], "data": [1, 2]},
}


def read(folder: Path, document: Any) -> SourceFacts:
    (folder / "facts.json").write_text(json.dumps(document), encoding="utf-8")
    return read_source(str(folder / "facts.json"))


def pairs(source: SourceFacts) -> list[tuple[str, str]]:
    assert source.unread == ()
    return [(fact["question"], fact["object"]) for fact in source.facts.to_pylist()]


def test_columns_by_key_are_joined_by_key(tmp_path: Path) -> None:
    document = {
        "question": {"0": "Capital of France?", "1": "Capital of Italy?"},
        "answer": {"1": "Rome", "0": "Paris", "2": "Oslo"},
    }
    assert pairs(read(tmp_path, document)) == [("Capital of France?", "Paris"), ("Capital of Italy?", "Rome"), ("", "Oslo")]


@pytest.mark.parametrize("form", ALIKE)
def test_document_like_a_known_form_is_read_for_what_it_is(tmp_path: Path, form: str) -> None:
    assert pairs(read(tmp_path, ALIKE[form])) == [("q?", "a")]


@pytest.mark.parametrize("form", NO_TABLES)
def test_document_without_rows_or_names_is_no_table(tmp_path: Path, form: str) -> None:
    with pytest.raises(UserError, match=r"facts\.json: no table"):
        read(tmp_path, NO_TABLES[form])


def test_row_that_is_no_list_costs_no_other(tmp_path: Path) -> None:
    source = read(tmp_path, {"columns": ["question", "answer"], "data": [["q?", "a"], 7]})
    assert source.facts["object"].to_pylist() == ["a"]
    assert [(problem.row, problem.fault) for problem in source.unread] == [(2, "expected an object")]


@pytest.mark.parametrize("reply", ["[0, 1]", "[007]", '["a", "b"]', "['a'", "('Tis)"])
def test_reply_of_a_chat_that_looks_like_a_list_is_one_answer(tmp_path: Path, reply: str) -> None:
    turns = [{"role": "user", "content": "q?"}, {"role": "assistant", "content": reply}]
    source = read(tmp_path, [{"messages": turns}, {"prompt": turns[:1], "completion": turns[1:]}])
    assert pairs(source) == [("q?", reply)] * 2
    assert source.facts["answers"].to_pylist() == [[reply]] * 2


@pytest.mark.parametrize("history", [None, [], "", "[]", "nan", float("nan")])
def test_alpaca_row_without_a_history_is_a_fact(tmp_path: Path, history: Any) -> None:
    assert pairs(read(tmp_path, [{"instruction": "q?", "output": "a", "history": history}])) == [("q?", "a")]


@pytest.mark.parametrize("history", [[["Who?", "x"]], '[["Who?", "x"]]'])
def test_alpaca_row_with_a_history_is_set_aside(tmp_path: Path, history: Any) -> None:
    rows = [{"instruction": "q?", "output": "a", "history": turns} for turns in ([], history)]
    source = read(tmp_path, rows)
    assert source.facts["object"].to_pylist() == ["a"]
    assert [(problem.row, problem.fault) for problem in source.unread] == [(2, "a chat with a history, not one question and one answer")]
