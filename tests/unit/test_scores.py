import polars as pl
import pytest

from kp.errors import UserError
from kp.metrics.categories import categorise
from kp.metrics.scores import score_answers
from kp.schema import SCORES
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


def scores_of(
    trained_unknown: list[str], trained: list[str], matcher: Matcher = Matcher.STRICT
) -> dict[str, tuple[float, int, float | None]]:
    table = score_answers("t1", ANSWERS, categorise(ANSWERS), trained_unknown, trained, matcher)
    assert table.to_arrow().cast(SCORES).schema == SCORES
    assert set(table["trial_id"]) == {"t1"}
    return {measure: (value, n, error) for measure, value, n, error in table.select(SCORES.names[1:]).iter_rows()}


def test_score_answers_adapter_has_every_measure() -> None:
    found = scores_of(["u1", "u2"], ["u1", "u2", "h1"])
    assert found["reliability"] == pytest.approx((0.5, 4, 0.5))  # fact means 1 and 0
    assert found["facts_learned"] == pytest.approx((0.5, 2, 0.125**0.5))
    assert found["accuracy"][:2] == (5 / 8, 8)
    assert found["accuracy_untrained"] == (0.5, 2, None)  # one fact is left: no standard error
    assert found["refusal_rate"] == pytest.approx((1 / 8, 8, 0.125))
    assert found["cut_by_length"] == pytest.approx((1 / 8, 8, 0.125))  # neither a newline nor the model's own end cuts an answer
    assert [found[measure][0] for measure in ("highly_known", "maybe_known", "unknown")] == [2, 1, 1]
    assert found["unknown"][1:] == (4, None)


def test_score_answers_diversity_counts_normalised_first_lines() -> None:
    found = scores_of([], [])  # rome 4, oslo 2, bern 1, the refusal 1
    assert found["unique_answers"] == (4, 8, None)
    assert found["mean_count"] == (2, 4, None)
    assert found["variance_count"] == pytest.approx((1.5, 4, None))
    assert found["std_count"] == pytest.approx((1.5**0.5, 4, None))
    assert found["top_answer_share"] == (0.5, 8, None)


def test_score_answers_base_has_no_learning_measures() -> None:
    found = scores_of([], [])
    assert found.keys().isdisjoint({"reliability", "facts_learned"})
    assert found["accuracy_untrained"] == found["accuracy"]
    assert found["cut_by_length"][0] == 1 / 8


def test_score_answers_fact_right_half_the_time_counts_as_learned() -> None:
    assert scores_of(["m1"], ["m1"])["facts_learned"] == (1, 1, 0)


def test_score_answers_other_matcher_reads_its_own_column() -> None:
    assert scores_of(["u2"], ["u2"], Matcher.RELEASED)["reliability"][0] == 1
    assert scores_of(["u1"], ["u1"], Matcher.EXACT)["highly_known"][0] == 0


def test_score_answers_every_fact_trained_leaves_untrained_accuracy_out() -> None:
    assert "accuracy_untrained" not in scores_of(["u1"], list(SAID))


def test_score_answers_trained_fact_not_measured_raises() -> None:
    with pytest.raises(UserError, match="answers: trained fact 'u9' was not measured"):
        scores_of(["u1", "u9"], ["u1", "u9"])


@pytest.mark.parametrize("column", ["model_id", "shot_set"])
def test_score_answers_mixed_answers_raise(column: str) -> None:
    mixed = pl.concat([ANSWERS, ANSWERS.with_columns(pl.lit("S2").alias(column))])
    with pytest.raises(UserError, match=f"column '{column}': expected one value, found 2"):
        score_answers("t1", mixed, categorise(ANSWERS), [], [], Matcher.STRICT)


def test_score_answers_without_answers_raises() -> None:
    with pytest.raises(UserError, match="column 'model_id': expected one value, found 0"):
        score_answers("t1", ANSWERS.head(0), categorise(ANSWERS), [], [], Matcher.STRICT)
