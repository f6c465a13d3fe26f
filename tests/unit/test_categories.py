import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kp.errors import UserError
from kp.metrics.categories import categorise, category, category_counts, of_matcher
from kp.schema import ANSWERS, CATEGORIES
from kp.vocabulary import GREEDY_CATEGORIES, Category, Matcher

FEW = settings(max_examples=25, deadline=None)


def answers_of(right: dict[str, list[bool]], model_id: str = "base", shot_set: str = "S0") -> pl.DataFrame:
    """ANSWERS: `right` by strict, never by exact, always by released."""
    return pl.DataFrame(
        [
            {
                "fact_id": fact_id,
                "model_id": model_id,
                "shot_set": shot_set,
                "prompt_index": index,
                "answer": "x",
                "finish_reason": "stop",
                "match_strict": strict,
                "match_exact": False,
                "match_released": True,
                "refused": False,
            }
            for fact_id, verdicts in right.items()
            for index, strict in enumerate(verdicts)
        ],
        schema_overrides={"prompt_index": pl.Int32},
    )


@pytest.mark.parametrize(
    ("correct", "asked", "expected"),
    [
        (0, 10, Category.UNKNOWN),
        (1, 10, Category.MAYBE_KNOWN),
        (9, 10, Category.MAYBE_KNOWN),
        (10, 10, Category.HIGHLY_KNOWN),
        (1, 1, Category.HIGHLY_KNOWN),
    ],
)
def test_category_count_gives_class(correct: int, asked: int, expected: Category) -> None:
    assert category(correct, asked) is expected


@pytest.mark.parametrize(("correct", "asked"), [(0, 0), (-1, 10), (11, 10)])
def test_category_impossible_count_raises(correct: int, asked: int) -> None:
    with pytest.raises(ValueError, match="expected 0 <= correct <= asked"):
        category(correct, asked)


def test_categorise_three_facts_gives_a_row_per_matcher_sorted() -> None:
    found = categorise(answers_of({"c": [True, True], "a": [False, False], "b": [True, False]}))
    assert found.select("matcher", "fact_id", "correct", "asked", "category").rows() == [
        ("exact", "a", 0, 2, "Unknown"),
        ("exact", "b", 0, 2, "Unknown"),
        ("exact", "c", 0, 2, "Unknown"),
        ("released", "a", 2, 2, "HighlyKnown"),
        ("released", "b", 2, 2, "HighlyKnown"),
        ("released", "c", 2, 2, "HighlyKnown"),
        ("strict", "a", 0, 2, "Unknown"),
        ("strict", "b", 1, 2, "MaybeKnown"),
        ("strict", "c", 2, 2, "HighlyKnown"),
    ]
    assert found.to_arrow().select(CATEGORIES.names).cast(CATEGORIES).schema == CATEGORIES
    assert found.columns == CATEGORIES.names


def test_categorise_models_and_shot_sets_are_counted_apart() -> None:
    parts = [
        answers_of({"a": [True, True]}, shot_set="S0"),
        answers_of({"a": [False, True, True]}, shot_set="S1"),
        answers_of({"a": [False]}, model_id="adapter", shot_set="S1"),
    ]
    found = of_matcher(categorise(pl.concat(parts)), Matcher.STRICT)
    assert found.select("model_id", "shot_set", "correct", "asked").rows() == [
        ("adapter", "S1", 0, 1),
        ("base", "S0", 2, 2),
        ("base", "S1", 2, 3),
    ]


def test_categorise_table_without_rows_gives_none() -> None:
    assert categorise(pl.from_arrow(ANSWERS.empty_table())).height == 0  # type: ignore[arg-type]


def test_categorise_prompt_answered_twice_raises() -> None:
    answers = answers_of({"a": [True, True], "b": [True, True]})
    with pytest.raises(UserError, match="fact 'b' has more than one answer of model 'base' to prompt 1 of S0"):
        categorise(pl.concat([answers, answers.tail(1)]))


def test_categorise_fact_with_fewer_prompts_raises() -> None:
    with pytest.raises(UserError, match="fact 'b' has answers of model 'base' to 2 prompts of S0, expected 3"):
        categorise(answers_of({"a": [True] * 3, "b": [True] * 2}))


def test_categorise_same_number_of_other_prompts_raises() -> None:
    answers = answers_of({"a": [True] * 3, "b": [True] * 3})
    gaps = answers.filter(~((pl.col("fact_id") == "a") & (pl.col("prompt_index") == 0)))
    gaps = gaps.filter(~((pl.col("fact_id") == "b") & (pl.col("prompt_index") == 2)))
    with pytest.raises(UserError, match="fact 'a' has answers of model 'base' to 2 prompts of S0, expected 3"):
        categorise(gaps)


@FEW
@given(st.dictionaries(st.sampled_from("abcdef"), st.lists(st.booleans(), min_size=4, max_size=4), min_size=1), st.randoms())
def test_categorise_rows_in_any_order_count_the_same(right: dict[str, list[bool]], random: object) -> None:
    answers = answers_of(right)
    found = categorise(answers)
    assert found.equals(categorise(answers.sample(fraction=1, shuffle=True, seed=random.randrange(1000))))  # type: ignore[attr-defined]
    strict = of_matcher(found, Matcher.STRICT)
    assert dict(strict.select("fact_id", "correct").iter_rows()) == {fact_id: sum(verdicts) for fact_id, verdicts in right.items()}


def test_of_matcher_that_was_not_counted_raises() -> None:
    strict = of_matcher(categorise(answers_of({"a": [True]})), Matcher.STRICT)
    with pytest.raises(UserError, match="column 'matcher': no row of matcher 'exact'"):
        of_matcher(strict, Matcher.EXACT)


def test_category_counts_hold_zeros_and_are_apart_by_shot_set() -> None:
    table = pl.DataFrame({"shot_set": ["S1", "S0", "S0"], "category": ["Unknown", "MaybeKnown", "MaybeKnown"]})
    counts = category_counts(table, ["shot_set"])
    assert counts.filter(pl.col("facts") > 0).rows() == [("S0", "MaybeKnown", 2), ("S1", "Unknown", 1)]
    assert counts.height == 2 * len(GREEDY_CATEGORIES)


def test_category_counts_of_a_sampled_class_raise_and_drop_nothing() -> None:
    table = pl.DataFrame({"fact_id": ["a", "b"], "shot_set": ["S0", "S0"], "category": ["Unknown", "WeaklyKnown"]})
    with pytest.raises(UserError, match="column 'category': fact 'b' is 'WeaklyKnown', expected one of HighlyKnown, MaybeKnown, Unknown"):
        category_counts(table, ["shot_set"])


def test_of_matcher_with_a_sampled_class_raises() -> None:
    table = categorise(answers_of({"a": [False], "b": [True]})).with_columns(
        pl.col("category").replace(Category.UNKNOWN.value, Category.WEAKLY_KNOWN.value)
    )
    with pytest.raises(UserError, match="fact 'a' is 'WeaklyKnown'"):
        of_matcher(table, Matcher.STRICT)
