import polars as pl
import pytest
from statsmodels.stats.proportion import proportion_confint

from kp.errors import UserError
from kp.metrics.categories import categorise
from kp.metrics.result_schema import SCORES
from kp.metrics.scores import score_answers, score_learning
from kp.metrics.statistics import clustered_share_error
from kp.vocabulary import Matcher

# fact: (answer, right by strict) to each of two prompts
SAID = {
    "u1": [("Answer: Rome", True), ("Rome.", True)],
    "u2": [("Rome", False), ("I don't know", False)],
    "h1": [("The Oslo", True), ("oslo\nQuestion:", True)],
    "m1": [("Bern", True), ("rome", False)],
}


def answers_of(said: dict[str, list[tuple[str, bool]]]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "fact_id": fact_id,
                "model_id": "adapter",
                "shot_set": "S1",
                "prompt_index": index,
                "answer": answer,
                "finish_reason": "length" if answer == "Rome" else "newline" if "\n" in answer else "stop",
                "match_strict": right,
                "match_exact": False,
                "match_released": True,
                "refused": answer.startswith("I don't"),
            }
            for fact_id, pairs in said.items()
            for index, (answer, right) in enumerate(pairs)
        ]
    )


ANSWERS = answers_of(SAID)


Scores = dict[str, tuple[float, int, float | None]]


def by_measure(table: pl.DataFrame) -> Scores:
    assert table.to_arrow().cast(SCORES).schema == SCORES
    assert set(table["trial_id"]) <= {"t1"}
    return {measure: (value, n, error) for measure, value, n, error in table.select(SCORES.names[1:]).iter_rows()}


FEW_FACTS = 0.15077443971772828  # half of Wilson's interval of 0.5 of 4 facts, over 1.96


def scores_of(matcher: Matcher = Matcher.STRICT) -> Scores:
    return by_measure(score_answers("t1", ANSWERS, categorise(ANSWERS), matcher))


def learning_of(correct: dict[str, int], *trained: str, shot_sets: tuple[str, ...] = ("S1",)) -> Scores:
    """Of a trial that was taught some facts, and gave so many right answers of two to each."""
    rows = [
        {
            "fact_id": fact_id,
            "trial_id": "t1",
            "shot_set": shot_set,
            "role": "trained" if fact_id in trained else "untouched",
            "correct": right,
            "asked": 2,
        }
        for shot_set in shot_sets
        for fact_id, right in correct.items()
    ]
    return by_measure(score_learning(pl.DataFrame(rows)))


def test_score_answers_have_every_measure_of_answers() -> None:
    found = scores_of()
    assert found["accuracy"][:2] == (5 / 8, 8)
    assert found["refusal_rate"] == pytest.approx((1 / 8, 8, FEW_FACTS))
    assert found["cut_by_length"] == pytest.approx((1 / 8, 8, FEW_FACTS))  # neither a newline nor the model's own end cuts an answer
    assert [found[measure][0] for measure in ("highly_known", "maybe_known", "unknown")] == [2, 1, 1]
    assert found["unknown"][1:] == (4, None)
    assert found.keys().isdisjoint({"reliability", "facts_learned"})


def test_score_answers_diversity_counts_normalised_first_lines() -> None:
    found = scores_of()  # rome 4, oslo 2, bern 1, the refusal 1
    assert found["unique_answers"] == (4, 8, None)
    assert found["mean_count"] == (2, 4, None)
    assert found["variance_count"] == pytest.approx((1.5, 4, None))
    assert found["std_count"] == pytest.approx((1.5**0.5, 4, None))
    assert found["top_answer_share"] == (0.5, 8, None)


def test_score_answers_other_matcher_reads_its_own_column() -> None:
    assert scores_of(Matcher.RELEASED)["accuracy"][0] == 1
    assert scores_of(Matcher.EXACT)["highly_known"][0] == 0


def test_score_learning_is_over_the_taught_facts_and_clustered_by_fact() -> None:
    found = learning_of({"u1": 2, "u2": 0, "h1": 2}, "u1", "u2")
    assert found["reliability"] == pytest.approx((0.5, 4, 0.5))  # fact means 1 and 0
    assert found["facts_learned"] == pytest.approx((0.5, 2, 0.5))
    assert "reliability_s2" not in found


def test_score_learning_has_a_figure_of_its_own_on_the_second_shot_set() -> None:
    found = learning_of({"u1": 2, "u2": 1}, "u1", "u2", shot_sets=("S1", "S2"))
    assert found["reliability_s2"] == found["reliability"] == pytest.approx((0.75, 4, 0.25))


def test_score_learning_fact_right_half_the_time_counts_as_learned() -> None:
    assert learning_of({"m1": 1}, "m1")["facts_learned"][:2] == (1, 1)


def test_score_learning_of_facts_that_are_all_right_is_not_certain() -> None:
    few, many = (learning_of({f"u{i}": 2 for i in range(n)}, *(f"u{i}" for i in range(n))) for n in (10, 100))
    low = proportion_confint(10, 10, method="wilson")[0]
    assert few["reliability"] == pytest.approx((1, 20, (1 - low) / 2 / 1.96))
    assert many["reliability"][2] == pytest.approx(0.0094, abs=1e-4)


def test_score_learning_of_many_mixed_facts_is_clustered_by_fact_alone() -> None:
    found = learning_of({f"u{i}": i % 3 for i in range(60)}, *(f"u{i}" for i in range(60)))
    assert found["reliability"] == pytest.approx((0.5, 120, clustered_share_error([i % 3 for i in range(60)], [2] * 60)))


def test_score_learning_of_a_trial_that_was_taught_no_measured_fact_has_no_rows() -> None:
    assert learning_of({"h1": 2}) == {}


@pytest.mark.parametrize("column", ["model_id", "shot_set"])
def test_score_answers_mixed_answers_raise(column: str) -> None:
    mixed = pl.concat([ANSWERS, ANSWERS.with_columns(pl.lit("S2").alias(column))])
    with pytest.raises(UserError, match=f"column '{column}': expected one value, found 2"):
        score_answers("t1", mixed, categorise(ANSWERS), Matcher.STRICT)


def test_score_answers_without_answers_raises() -> None:
    with pytest.raises(UserError, match="column 'model_id': expected one value, found 0"):
        score_answers("t1", ANSWERS.head(0), categorise(ANSWERS), Matcher.STRICT)
