import polars as pl
import pytest

from kp import schema
from kp.errors import UserError
from kp.metrics.categories import categorise
from kp.metrics.outcomes import fact_roles, outcome_table
from kp.vocabulary import FactRole, Matcher
from tests.made_up_study import frame_of


def answers(right: dict[str, int], refused: dict[str, int] | None = None, shot_set: str = "S1") -> pl.DataFrame:
    """ANSWERS of three prompts: the first so many are right (by `strict` alone), the last so many decline."""
    rows = [
        {
            "fact_id": fact_id,
            "model_id": "digest",
            "shot_set": shot_set,
            "prompt_index": prompt,
            "answer": "text",
            "finish_reason": "stop",
            "match_strict": prompt < count,
            "match_exact": False,
            "match_released": True,
            "refused": prompt >= 3 - (refused or {}).get(fact_id, 0),
        }
        for fact_id, count in right.items()
        for prompt in range(3)
    ]
    return frame_of(rows, schema.ANSWERS)


def rows_of_training(**roles: str) -> pl.DataFrame:
    return pl.DataFrame({"fact_id": list(roles), "role": list(roles.values())})


ROLES = {"a": FactRole.TRAINED, "b": FactRole.CONTROL_DEV}


def parts(**of: str) -> pl.DataFrame:
    return pl.DataFrame({"fact_id": list(of), "part": list(of.values())})


def test_outcome_table_counts_by_the_matcher_and_keeps_refusals() -> None:
    given = pl.concat([answers({"b": 0, "a": 3}, {"b": 2}, name) for name in ("S2", "S1")])
    table = outcome_table("t", given, categorise(given), ROLES, Matcher.STRICT)
    assert table.to_arrow().cast(schema.OUTCOMES).schema == schema.OUTCOMES
    assert table.head(2).rows() == [
        ("a", "t", "S1", "trained", 3, 3, "HighlyKnown", 0),
        ("b", "t", "S1", "control_dev", 0, 3, "Unknown", 2),
    ]
    assert table["shot_set"].to_list() == ["S1", "S1", "S2", "S2"]
    assert set(outcome_table("t", given, categorise(given), ROLES, Matcher.RELEASED)["correct"]) == {3}


def test_outcome_table_of_answers_without_a_category_raises() -> None:
    given = answers({"a": 1, "b": 2})
    with pytest.raises(UserError, match="fact 'b' has answers or a category on S1, but not both"):
        outcome_table("t", given, categorise(given.filter(pl.col("fact_id") == "a")), ROLES, Matcher.STRICT)
    with pytest.raises(UserError, match="fact 'b' of trial 't' has no role"):
        outcome_table("t", given, categorise(given), {"a": FactRole.TRAINED}, Matcher.STRICT)


def test_fact_roles_of_the_base_are_control_and_untouched() -> None:
    drawn = parts(a="pool", b="control_dev", c="control_test", elsewhere="control_dev")
    assert fact_roles(["a", "b", "c"], drawn) == {
        "a": FactRole.UNTOUCHED,
        "b": FactRole.CONTROL_DEV,
        "c": FactRole.CONTROL_TEST,
    }
    assert fact_roles(["a"]) == {"a": FactRole.UNTOUCHED}


def test_fact_roles_of_a_trial_follow_its_rows() -> None:
    training = rows_of_training(a="unknown", b="highly_known", c="maybe_known", d="paraphrase", elsewhere="highly_known")
    roles = fact_roles(["a", "b", "c", "d", "e", "f"], parts(f="control_test"), training)
    assert [role.value for role in roles.values()] == ["trained", "replayed", "replayed", "trained", "untouched", "control_test"]


@pytest.mark.parametrize("order", [("maybe_known", "unknown"), ("unknown", "maybe_known")])
def test_fact_roles_trained_and_replayed_counts_as_trained(order: tuple[str, str]) -> None:
    training = pl.DataFrame({"fact_id": ["a", "a"], "role": order})
    assert fact_roles(["a"], None, training) == {"a": FactRole.TRAINED}


def test_fact_roles_of_a_trained_control_fact_raise() -> None:
    with pytest.raises(UserError, match="training rows: fact 'a' is a control fact"):
        fact_roles(["a"], parts(a="control_dev"), rows_of_training(a="highly_known"))
