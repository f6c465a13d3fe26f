"""Two ways of answering, compared by hand-counted examples; for whole tables, with what a single turned answer does to a category."""

import pyarrow as pa
import pytest

from kp import schema
from kp.inference.cross_check import CHECKED_FACTS, checked_facts, compare_answers
from kp.metrics.agreement import Agreement, agreement
from kp.vocabulary import Matcher


def answers(texts: dict[str, str], right: str = "Rome", shot_set: str = "S0") -> pa.Table:
    """ANSWERS of facts, each with one letter per prompt: R for the right answer, any other letter for a wrong one."""
    rows = [
        {
            "fact_id": fact_id,
            "model_id": "m",
            "shot_set": shot_set,
            "prompt_index": prompt,
            "answer": right if letter == "R" else f"wrong {letter}",
            "finish_reason": "stop",
            **{f"match_{matcher}": letter == "R" for matcher in Matcher},
            "refused": False,
        }
        for fact_id, letters in texts.items()
        for prompt, letter in enumerate(letters)
    ]
    return pa.Table.from_pylist(rows, schema=schema.ANSWERS)


def test_agreement_counts_equal_pairs_of_the_same_place() -> None:
    found = agreement(["a", "b", "c", "d"], ["a", "c", "b", "d"])
    assert found == Agreement(n=4, equal=2)
    assert found.share == 0.5


@pytest.mark.parametrize(("left", "right"), [([], []), (["a"], []), (["a"], ["a", "b"])])
def test_agreement_of_nothing_or_of_unequal_lengths_is_an_error(left: list[str], right: list[str]) -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        agreement(left, right)


def test_compare_answers_tells_answers_matches_and_categories_apart() -> None:
    mine = answers({"known": "RRR", "half": "RaR", "unknown": "abc"})
    theirs = answers({"known": "RRR", "half": "RRR", "unknown": "abd"})

    found = compare_answers(mine, theirs, Matcher.STRICT)

    assert found.answers == Agreement(n=9, equal=7)  # `half` in one prompt, `unknown` in another
    assert found.matches == Agreement(n=9, equal=8)  # a wrong answer in place of another wrong one is no other verdict
    assert found.categories == Agreement(n=3, equal=2)  # MaybeKnown against HighlyKnown


def test_compare_answers_reads_only_what_the_reference_was_asked() -> None:
    mine = pa.concat_tables([answers({"a": "RR", "b": "xx"}), answers({"b": "RR"}, shot_set="S1")])
    assert compare_answers(mine, answers({"b": "xy"}), Matcher.EXACT).answers == Agreement(n=2, equal=1)


def test_compare_answers_lacking_a_question_of_the_reference_is_an_error() -> None:
    with pytest.raises(ValueError, match="2 answers cannot be compared with 4"):
        compare_answers(answers({"a": "RR"}), answers({"a": "RR", "b": "RR"}), Matcher.STRICT)


def test_checked_facts_are_the_same_whatever_the_order() -> None:
    ids = [f"fact-{number}" for number in range(100)]
    sample = checked_facts(ids)
    assert sample == checked_facts(ids[::-1])
    assert len(set(sample)) == CHECKED_FACTS
    assert sorted(checked_facts(ids[:3])) == ids[:3]
