"""SliCK's classes out of greedy and sampled answers, and the seeds that samples are drawn by."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kp import schema
from kp.errors import UserError
from kp.metrics.categories import categorise
from kp.metrics.slick import never_right, sample_seed, slick_table
from kp.vocabulary import Matcher, ShotSet
from tests.made_up_study import frame_of

PROMPTS = 10


def greedy(correct: dict[str, int], shot_set: str = "S0") -> pl.DataFrame:
    """CATEGORIES of facts with so many right answers by strict, none by exact, all by released."""
    common = {"model_id": "base", "shot_set": shot_set, "answer": "x", "finish_reason": "stop", "match_exact": False}
    rows = [
        {**common, "fact_id": fact, "prompt_index": prompt, "match_strict": prompt < right, "match_released": True, "refused": False}
        for fact, right in correct.items()
        for prompt in range(PROMPTS)
    ]
    return categorise(frame_of(rows, schema.ANSWERS))


def sampled(correct: dict[str, int], count: int = 4) -> pl.DataFrame:
    """SAMPLES of these facts, so many of them right by strict, none by exact, all by released."""
    common = {"model_id": "base", "shot_set": "S0", "answer": "x", "match_exact": False, "match_released": True}
    rows = [
        {**common, "fact_id": fact, "prompt_index": draw // count, "sample_index": draw % count, "match_strict": draw < right}
        for fact, right in correct.items()
        for draw in range(PROMPTS * count)
    ]
    return frame_of(rows, schema.SAMPLES)


def test_slick_classes_follow_greedy_answers_first_and_samples_where_none_is_right() -> None:
    found = slick_table(greedy({"h": 10, "m": 1, "w": 0, "u": 0}), sampled({"u": 0, "w": 1}), Matcher.STRICT)
    assert found.select("fact_id", "category", "correct", "asked", "sampled_correct", "sampled").rows() == [
        ("h", "HighlyKnown", 10, 10, 0, 0),
        ("m", "MaybeKnown", 1, 10, 0, 0),
        ("u", "Unknown", 0, 10, 0, 40),
        ("w", "WeaklyKnown", 0, 10, 1, 40),
    ]
    assert set(found["matcher"]) == {"strict"}
    assert found.to_arrow().cast(schema.SLICK).schema == schema.SLICK


def test_slick_table_of_a_model_that_knows_everything_needs_no_samples() -> None:
    found = slick_table(greedy({"h": 10, "m": 3}), sampled({}), Matcher.STRICT)
    assert found["category"].to_list() == ["HighlyKnown", "MaybeKnown"]
    assert found["sampled"].to_list() == [0, 0]


def test_never_right_reads_the_assigning_shot_set_by_the_matcher_asked_for() -> None:
    categories = pl.concat([greedy({"a": 0, "b": 2, "c": 0}), greedy({"a": 5, "b": 0, "c": 5}, "S1")])
    assert never_right(categories, Matcher.STRICT) == ["a", "c"]
    assert never_right(categories, Matcher.EXACT) == ["a", "b", "c"]
    assert never_right(categories, Matcher.RELEASED) == []


@pytest.mark.parametrize("facts", [["u"], ["u", "w", "m"]])
def test_slick_table_samples_of_other_facts_raise(facts: list[str]) -> None:
    with pytest.raises(UserError, match=r"samples: fact '[wm]' was sampled or has no right greedy answer, but not both"):
        slick_table(greedy({"m": 1, "w": 0, "u": 0}), sampled(dict.fromkeys(facts, 0)), Matcher.STRICT)


def test_slick_table_fact_with_fewer_samples_raises() -> None:
    with pytest.raises(UserError, match="samples: fact 'w' has 39 samples, others have 40"):
        slick_table(greedy({"w": 0, "u": 0}), sampled({"u": 0, "w": 0}).head(-1), Matcher.STRICT)


def test_slick_table_of_a_matcher_that_judged_nothing_raises() -> None:
    with pytest.raises(UserError, match="no row of matcher 'exact'"):
        slick_table(greedy({"w": 0}).filter(matcher="strict"), sampled({"w": 0}), Matcher.EXACT)


def test_sample_seed_differs_in_every_part_of_the_question() -> None:
    seeds = {
        sample_seed(seed, fact_id, shot_set, prompt)
        for seed in (0, 1)
        for fact_id in ("a", "b", "a1")
        for shot_set in (ShotSet.S0, ShotSet.S1)
        for prompt in range(PROMPTS)
    }
    assert len(seeds) == 2 * 3 * 2 * PROMPTS


@given(st.integers(), st.text(max_size=16), st.sampled_from(ShotSet), st.integers(0, 9))
def test_sample_seed_is_the_same_again_and_fits_64_bits(seed: int, fact_id: str, shot_set: ShotSet, prompt: int) -> None:
    found = sample_seed(seed, fact_id, shot_set, prompt)
    assert found == sample_seed(seed, fact_id, shot_set, prompt)
    assert 0 <= found < 2**64


def test_sample_seed_of_a_question_never_changes() -> None:
    assert sample_seed(0, "a", ShotSet.S0, 0) == 14420649024550053943
