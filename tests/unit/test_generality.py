import polars as pl
import pytest

from kp import schema
from kp.errors import UserError
from kp.metrics.generality import QUESTIONS, answers_by_fact, held_out_questions
from kp.metrics.result_schema import SCORES
from kp.metrics.scores import score_generality
from kp.vocabulary import Matcher
from tests.made_up_study import facts, frame_of


def studied() -> pl.DataFrame:
    """Three facts with four paraphrases each."""
    paraphrased = pl.Series([[f"P{number} {fact_id}?" for number in range(4)] for fact_id in ("f000", "f001", "f002")])
    return facts().head(3).with_columns(paraphrased.alias("paraphrases"))


def answers_to(questions: pl.DataFrame, right: set[tuple[str, int]]) -> pl.DataFrame:
    """ANSWERS under two prompts of S1, right for the questions of these facts and paraphrases."""
    rows = [
        {
            "fact_id": row["fact_id"],
            "model_id": "adapter",
            "shot_set": "S1",
            "prompt_index": index,
            "answer": row["question"],
            "finish_reason": "stop",
            "match_strict": (row["paraphrased_fact"], row["paraphrase_index"]) in right,
            "match_exact": False,
            "match_released": True,
            "refused": False,
        }
        for row in questions.iter_rows(named=True)
        for index in range(2)
    ]
    return frame_of(rows, schema.ANSWERS)


def test_held_out_questions_are_the_last_paraphrases_of_the_trained_facts() -> None:
    questions = held_out_questions(studied(), ["f002", "f000"], 2)
    assert questions.select("question", "paraphrased_fact", "paraphrase_index").rows() == [
        ("P2 f000?", "f000", 2),
        ("P3 f000?", "f000", 3),
        ("P2 f002?", "f002", 2),
        ("P3 f002?", "f002", 3),
    ]
    assert questions["fact_id"].n_unique() == 4
    assert questions["answers"].to_list() == [["object 0", "alias | 0"]] * 2 + [["object 2", "alias | 2"]] * 2
    assert questions.to_arrow().cast(QUESTIONS).schema == QUESTIONS


def test_answers_by_fact_stand_under_the_fact_and_tell_the_paraphrase_in_whatever_order_they_come() -> None:
    questions = held_out_questions(studied(), ["f002", "f000"], 2)
    answers = answers_to(questions, set())
    found = answers_by_fact(answers.sample(fraction=1, shuffle=True, seed=1), questions)
    assert found.equals(answers_by_fact(answers, questions))
    assert found.to_arrow().cast(schema.HELD_OUT_ANSWERS).schema == schema.HELD_OUT_ANSWERS
    assert found.height == answers.height
    for row in found.iter_rows(named=True):
        assert row["answer"] == f"P{row['paraphrase_index']} {row['fact_id']}?"


def test_score_generality_is_the_share_right_clustered_over_the_facts_paraphrased() -> None:
    questions = held_out_questions(studied(), ["f000", "f001"], 2)
    found = answers_by_fact(answers_to(questions, {("f000", 2), ("f000", 3)}), questions)
    table = score_generality("t", found, ["f000", "f001"], Matcher.STRICT)
    assert table.to_arrow().cast(SCORES).schema == SCORES
    ((trial_id, measure, value, n, error),) = table.rows()
    assert (trial_id, measure, value, n) == ("t", "generality", 0.5, 8)
    assert error == pytest.approx(0.5)  # the means of the facts are 1 and 0: paraphrases of one fact are no independent draws
    assert score_generality("t", found, ["f000", "f001"], Matcher.RELEASED)["value"].to_list() == [1.0]


def test_score_generality_of_facts_that_were_not_trained_raises() -> None:
    questions = held_out_questions(studied(), ["f000", "f001"], 2)
    found = answers_by_fact(answers_to(questions, set()), questions)
    with pytest.raises(UserError, match="held-out answers: fact 'f001' was not trained"):
        score_generality("t", found, ["f000"], Matcher.STRICT)


def test_held_out_questions_of_an_arm_that_trains_on_paraphrases_are_those_it_leaves() -> None:
    mixed = studied().with_columns(pl.Series("paraphrases", [["A?", "B?", "C?"], ["D?"], []]))
    questions = held_out_questions(mixed, mixed["fact_id"].to_list(), 2, trained_on=1)
    assert questions.select("question", "paraphrased_fact", "paraphrase_index").rows() == [("B?", "f000", 1), ("C?", "f000", 2)]
    found = answers_by_fact(answers_to(questions, {("f000", 1)}), questions)
    assert score_generality("t", found, mixed["fact_id"].to_list(), Matcher.STRICT).select("value", "n").rows() == [(0.5, 4)]


def test_score_generality_without_a_paraphrase_that_is_left_has_no_row() -> None:
    questions = held_out_questions(studied(), ["f000"], 2, trained_on=4)
    assert score_generality("t", answers_by_fact(answers_to(questions, set()), questions), ["f000"], Matcher.STRICT).is_empty()
