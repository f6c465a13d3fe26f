"""How refusals and the diversity of answers changed, on the same facts and prompts."""

import numpy as np
import polars as pl
import pytest

from kp.metrics.answer_changes import answer_changes
from kp.metrics.categories import categorise
from kp.metrics.result_schema import ANSWER_CHANGES
from kp.metrics.scores import score_answers
from kp.vocabulary import Matcher
from tests.made_up_answers import Said, compared_of, facts_of

FACTS = facts_of({f"f{number:02d}": f"object {number}" for number in range(30)})
BASE = {f"f{number:02d}": f"object {number % 12}" for number in range(26)} | dict.fromkeys(
    ("f26", "f27", "f28", "f29"), "I found no information"
)


def changes(adapter: Said) -> dict[str, dict[str, float]]:
    table = answer_changes(compared_of(FACTS, BASE, {**BASE, **adapter}, trained=["f00"]))
    assert table.to_arrow().cast(ANSWER_CHANGES).schema == ANSWER_CHANGES
    return {row["measure"]: row for row in table.iter_rows(named=True)}


def test_answer_changes_of_an_adapter_that_changes_no_answer_are_exactly_zero() -> None:
    assert {row["value"] for row in changes({}).values()} == {0.0}


def test_answer_changes_are_differences_of_what_scores_say_of_each_model() -> None:
    whole = compared_of(FACTS, BASE, {**BASE, "f26": "object 1", "f03": "new"})
    found = {row["measure"]: row for row in answer_changes(whole).iter_rows(named=True)}
    for side, answers in (("base", whole.base.filter(shot_set="S1")), ("adapter", whole.adapter)):
        scores = dict(score_answers("t", answers, categorise(answers), Matcher.STRICT).select("measure", "value").iter_rows())
        for measure, row in found.items():
            if measure != "released_refusals":
                assert row[side] == pytest.approx(scores[measure])
    assert (found["released_refusals"]["base"], found["released_refusals"]["adapter"]) == pytest.approx((4 / 30, 3 / 30))
    assert found["unique_answers"]["value"] == 0 + 1  # f03 has a new answer, and "object 3" is still that of f15
    assert {row["n"] for row in found.values()} == {30}


def test_answer_changes_of_refusals_have_the_interval_of_the_facts_that_changed() -> None:
    row = changes(dict.fromkeys(("f26", "f27", "f28"), "object 1"))["refusal_rate"]
    assert row["value"] == pytest.approx(-3 / 30)
    assert row["lower"] < -0.1 < row["upper"]


def test_interval_of_unique_answers_covers_the_difference_between_populations() -> None:
    """Facts are drawn from a population in which the adapter says a quarter of the facts' answers anew."""
    random = np.random.default_rng(4)
    covered = []
    for _ in range(80):
        base = {fact_id: f"b{random.integers(0, 15)}" for fact_id in FACTS["fact_id"]}
        adapter = {fact_id: (f"a{random.integers(0, 15)}" if random.random() < 0.25 else said) for fact_id, said in base.items()}
        row = next(
            row
            for row in answer_changes(compared_of(FACTS, base, adapter, prompts=1)).iter_rows(named=True)
            if row["measure"] == "unique_answers"
        )
        covered.append((row["lower"], row["upper"], row["value"]))
    truth = np.mean([value for _, _, value in covered])
    assert np.mean([lower <= truth <= upper for lower, upper, _ in covered]) >= 0.9


def test_variance_of_counts_is_the_square_of_what_the_papers_code_calls_so() -> None:
    found = changes({"f05": "object 1"})
    assert found["variance_count"]["adapter"] == pytest.approx(found["std_count"]["adapter"] ** 2)


def test_answer_changes_of_one_fact_have_no_interval() -> None:
    one = FACTS.head(1)
    table = answer_changes(compared_of(one, {"f00": "x"}, {"f00": "y"}))
    assert table.filter(pl.col("lower").is_not_null()).is_empty()
