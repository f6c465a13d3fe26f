"""Single facts before and after: nothing changes where nothing was trained, and the most frequent answer is the one that is kept."""

import polars as pl
import pytest

from kp import schema
from kp.errors import UserError
from kp.metrics.stories import fact_stories, stories_of_outcomes, story_changes
from tests.made_up_study import frame_of, study


def answers(*texts: str) -> pl.DataFrame:
    flags = {"match_strict": False, "match_exact": False, "match_released": False, "refused": False}
    named = {"fact_id": "f000", "model_id": "m", "shot_set": "S1", "finish_reason": "stop"}
    return frame_of([named | flags | {"prompt_index": place, "answer": text} for place, text in enumerate(texts)], schema.ANSWERS)


def outcomes() -> pl.DataFrame:
    return study().outcomes.filter(trial_id="base", shot_set="S1", fact_id="f000")


def test_stories_keep_the_first_line_that_is_given_most_often() -> None:
    stories = fact_stories(answers("Rome\nItaly", "Oman", " Rome "), outcomes())
    assert stories.select("answer", "answer_count").rows() == [("Rome", 2)]


def test_stories_of_equally_frequent_answers_keep_the_first_in_the_alphabet() -> None:
    assert fact_stories(answers("Rome", "Oman"), outcomes())["answer"].to_list() == ["Oman"]


def test_stories_of_a_fact_without_an_answer_are_refused() -> None:
    with pytest.raises(UserError, match="fact 'f000' of trial 'base' has none on S1"):
        fact_stories(answers(), outcomes())


def test_changes_of_an_adapter_that_answers_as_the_base_are_zero() -> None:
    base = stories_of_outcomes(study().outcomes.filter(trial_id="base"), "S1")
    changes = story_changes(pl.concat([base, base.with_columns(trial_id=pl.lit("copy"))]))
    assert changes["change"].to_list() == [0.0] * len(base)


def test_changes_have_the_worst_forgotten_first() -> None:
    changes = story_changes(stories_of_outcomes(study().outcomes, "S1"))
    assert changes["change"].is_sorted()
    assert changes["change"][0] < 0
