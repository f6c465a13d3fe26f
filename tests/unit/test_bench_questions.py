"""What a benchmark asks, and the categories that come of the answers."""

import json
from pathlib import Path

import pytest

from kp.bench.options import CategoriseOptions
from kp.bench.questions import Question, categories, chats, have_answers, load_questions, of_first
from kp.errors import UserError
from kp.vocabulary import Category


def _file(folder: Path, *rows: object) -> Path:
    file = folder / "questions.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_load_questions_from_a_file_draws_by_seed(tmp_path: Path) -> None:
    file = _file(tmp_path, *({"question": f"q{number}?", "answer": f"a{number}"} for number in range(50)))

    drawn = [load_questions(CategoriseOptions(facts=20, questions=file, seed=seed)) for seed in (0, 0, 1)]

    assert drawn[0] == drawn[1] != drawn[2]
    assert len({question.text for question in drawn[0]}) == 20
    assert all(question.answers == (question.text[:-1].replace("q", "a"),) for question in drawn[0])


def test_load_questions_without_a_file_gives_built_in_facts_with_their_answers() -> None:
    drawn = load_questions(CategoriseOptions(facts=30))

    assert len(drawn) == 30
    assert have_answers(drawn)


def test_load_questions_without_answers_are_taken_and_known_to_have_none(tmp_path: Path) -> None:
    drawn = load_questions(CategoriseOptions(facts=1, questions=_file(tmp_path, {"question": "q"})))

    assert drawn == [Question("q", ())]
    assert not have_answers(drawn)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"answer": "a"}, "question 2: 'question' must be a text"),
        ({"question": "q", "answers": ["a", ""]}, "question 2: 'answer' must be a text"),
        ({"question": "q", "answer": 3}, "question 2: 'answer' must be a text"),
    ],
)
def test_load_questions_of_a_bad_row_raises_and_names_it(tmp_path: Path, row: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_questions(CategoriseOptions(facts=1, questions=_file(tmp_path, {"question": "q"}, row)))


def test_load_questions_of_too_few_rows_raises_and_says_how_many_there_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"facts: 3 are asked for, .* hold 1"):
        load_questions(CategoriseOptions(facts=3, questions=_file(tmp_path, {"question": "q"})))


def test_chats_stand_prompt_by_prompt_and_end_with_the_question() -> None:
    asked = chats([Question("first?", ()), Question("second?", ())])

    assert len(asked) == 20
    assert [chat[-1]["content"] for chat in asked[:3]] == ["Question: first?", "Question: second?", "Question: first?"]
    assert asked[0][:-1] == asked[1][:-1] != asked[2][:-1]


def test_categories_count_the_ten_answers_of_each_question() -> None:
    questions = [Question("a", ("yes",)), Question("b", ("yes",)), Question("c", ("yes",))]
    answers = [text for prompt in range(10) for text in ("Answer: yes", "yes" if prompt == 7 else "no", "no")]

    assert categories(questions, answers) == [Category.HIGHLY_KNOWN, Category.MAYBE_KNOWN, Category.UNKNOWN]
    assert categories(questions[1:2], of_first([*answers[1:], "no"], 1)) == [Category.MAYBE_KNOWN]
