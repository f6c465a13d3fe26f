"""Prompts: what is shown to a model, the built-in shots, and leaks."""

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from kp.errors import UserError
from kp.facts.builtin import load_builtin
from kp.matching import normalise
from kp.prompts import Shot, load_shots, messages, shot_sets, shots_digest, training_messages
from kp.vocabulary import ShotSet

NO_FACTS: list[dict[str, object]] = []


def facts(rows: list[dict[str, object]]) -> pl.DataFrame:
    defaults = {"question": "q", "subject": "s", "answers": ["a"], "paraphrases": []}
    texts, lists = pl.String(), pl.List(pl.String)
    schema = pl.Schema({"question": texts, "subject": texts, "answers": lists, "paraphrases": lists})
    return pl.DataFrame([defaults | row for row in rows], schema=schema)


def write(path: Path, records: list[dict[str, str]]) -> str:
    path.write_text("\n".join(json.dumps(record) for record in records), encoding="utf-8")
    return str(path)


def records(count: int) -> list[dict[str, str]]:
    return [{"question": f"Question number {number}?", "answer": f"Answer {number}"} for number in range(count)]


def test_messages_with_shots_alternate_and_leave_the_answer_open() -> None:
    chat = messages([Shot("Who?", "Ada"), Shot("Where?", "Oslo")], "When?")
    assert [turn["role"] for turn in chat] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert chat[0]["content"] == "Answer the following question."
    assert [turn["content"] for turn in chat[1:]] == [
        "Question: Who?",
        "Answer: Ada",
        "Question: Where?",
        "Answer: Oslo",
        "Question: When?",
    ]


def test_training_messages_hold_no_shots_and_the_target() -> None:
    assert training_messages("When?", "1912") == [
        {"role": "system", "content": "Answer the following question."},
        {"role": "user", "content": "Question: When?"},
        {"role": "assistant", "content": "Answer: 1912"},
    ]


def test_builtin_shots_are_unique_short_and_enough_for_twelve_spares() -> None:
    shots = load_shots("builtin")
    assert len(shots) == 132
    assert len({normalise(shot.question) for shot in shots}) == 132
    assert len({normalise(shot.answer) for shot in shots}) == 132
    assert all(1 <= len(shot.answer.split()) <= 4 and shot.question.endswith("?") for shot in shots)


def test_shot_sets_of_builtin_shots_are_disjoint_ten_prompts_of_four() -> None:
    shots = load_shots("builtin")
    sets, replaced = shot_sets(shots, facts(NO_FACTS))
    assert list(sets) == list(ShotSet)
    assert replaced == []
    assert all(len(prompts) == 10 and all(len(prompt) == 4 for prompt in prompts) for prompts in sets.values())
    used = [shot for prompts in sets.values() for prompt in prompts for shot in prompt]
    assert used == shots[:120]
    assert len(set(used)) == 120


@pytest.mark.parametrize(
    "fact",
    [
        {"question": "which planet is closest to the sun"},
        {"paraphrases": ["Which planet is closest to the sun?"]},
        {"subject": "the Sun", "answers": ["Helios", "mercury"]},
    ],
    ids=["same question", "same paraphrase", "subject and answer"],
)
def test_shot_sets_leaking_shot_is_replaced_by_the_first_spare_and_reported(fact: dict[str, object]) -> None:
    shots = load_shots("builtin")
    sets, replaced = shot_sets(shots, facts([fact]))
    assert replaced == [shots[0]]
    assert sets[ShotSet.S0][0][0] == shots[120]
    assert sets[ShotSet.S0][0][1] == shots[1]


def test_shot_sets_subject_or_answer_alone_is_no_leak() -> None:
    shots = load_shots("builtin")
    _, replaced = shot_sets(shots, facts([{"subject": "Sun", "answers": ["G2V"]}, {"subject": "Su", "answers": ["Mercury"]}]))
    assert replaced == []


def test_shot_sets_leaking_spare_is_passed_over() -> None:
    shots = load_shots("builtin")
    sets, replaced = shot_sets(shots, facts([{"question": shots[0].question}, {"question": shots[120].question}]))
    assert replaced == [shots[0]]
    assert sets[ShotSet.S0][0][0] == shots[121]


def test_shot_sets_without_spares_left_is_an_error_naming_the_shot() -> None:
    shots = load_shots("builtin")[:120]
    with pytest.raises(UserError, match="Which planet is closest"):
        shot_sets(shots, facts([{"question": shots[0].question}]))


def test_load_shots_from_file_keeps_the_order(tmp_path: Path) -> None:
    shots = load_shots(write(tmp_path / "shots.jsonl", records(121)))
    assert shots[120] == Shot("Question number 120?", "Answer 120")


@pytest.mark.parametrize(
    ("row", "record", "message"),
    [
        (7, {"question": "Why?"}, "row 8: 'answer'"),
        (7, {"question": " ", "answer": "x"}, "row 8: 'question'"),
        (7, {"question": "question number 3", "answer": "x"}, "row 8: the question of row 4"),
    ],
)
def test_load_shots_bad_row_is_an_error_naming_file_and_row(tmp_path: Path, row: int, record: dict[str, str], message: str) -> None:
    rows = records(120)
    rows[row] = record
    with pytest.raises(UserError, match=rf"shots\.jsonl: {message}"):
        load_shots(write(tmp_path / "shots.jsonl", rows))


def test_load_shots_too_few_rows_is_an_error_with_the_counts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="119 shots, at least 120"):
        load_shots(write(tmp_path / "shots.jsonl", records(119)))


def test_load_shots_broken_json_is_an_error_naming_the_row(tmp_path: Path) -> None:
    (tmp_path / "shots.jsonl").write_text('{"question": "a", "answer": "b"}\n{oops\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"row 2: not valid JSON"):
        load_shots(str(tmp_path / "shots.jsonl"))


@pytest.mark.parametrize("source", ["nowhere.jsonl", "shots.csv"])
def test_load_shots_unknown_source_is_an_error_naming_it(source: str) -> None:
    with pytest.raises(UserError, match=source):
        load_shots(source)


def test_shots_digest_changes_with_text_and_order() -> None:
    shots = load_shots("builtin")
    changed = [replace(shots[0], answer="Venus"), *shots[1:]]
    assert len({shots_digest(shots), shots_digest(changed), shots_digest(shots[::-1])}) == 3
    assert shots_digest(shots) == shots_digest(load_shots("builtin"))


def test_builtin_shots_give_away_no_builtin_fact() -> None:
    builtin = pl.DataFrame(pl.from_arrow(load_builtin()))
    _, replaced = shot_sets(load_shots("builtin"), builtin)
    assert replaced == []
