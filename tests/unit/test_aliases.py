from collections.abc import Sequence

import polars as pl
import pytest

from kp.metrics import inspection_schema
from kp.metrics.aliases import AliasProblem, doubtful_aliases


def facts_of(*rows: tuple[str, str, Sequence[str]], relation: str = "r") -> pl.DataFrame:
    """FACTS by id, object and all answers."""
    return pl.DataFrame(
        [{"fact_id": key, "relation": relation, "object": name, "answers": list(answers)} for key, name, answers in rows],
        schema={"fact_id": pl.String, "relation": pl.String, "object": pl.String, "answers": pl.List(pl.String)},
    )


def problems(alias: str) -> set[str]:
    return set(doubtful_aliases(facts_of(("f", "something", ["something", alias])))["problem"])


def test_doubtful_aliases_of_two_objects_are_ambiguous_and_count_facts() -> None:
    facts = facts_of(
        ("f1", "Georgia (state)", ["Georgia (state)", "Georgia"]),
        ("f2", "Georgia (state)", ["Georgia (state)", "georgia"]),
        ("f3", "Georgia (country)", ["Georgia (country)", "Georgia", "Sakartvelo"]),
    )
    assert doubtful_aliases(facts).rows() == [("r", "georgia", "ambiguous", 2, 3, ["f1", "f2", "f3"])]


def test_doubtful_aliases_of_one_object_or_of_other_relations_are_not_ambiguous() -> None:
    one = facts_of(("f1", "Paris", ["Paris", "City of Light"]), ("f2", "PARIS", ["PARIS", "City of Light"]))
    other = facts_of(("f3", "Lyon", ["Lyon", "City of Light"]), relation="s")
    assert doubtful_aliases(pl.concat([one, other])).is_empty()


@pytest.mark.parametrize(
    ("alias", "expected"),
    [
        ("US", {AliasProblem.SHORT}),
        ("U.S.", {AliasProblem.SHORT}),
        ("?!", {AliasProblem.EMPTY}),
        ("Answer", {AliasProblem.PROMPT_WORD, AliasProblem.ANSWER_PREFIX}),
        ("The", {AliasProblem.PROMPT_WORD}),
        ("Question", {AliasProblem.PROMPT_WORD}),
        ("Swe", {AliasProblem.ANSWER_PREFIX}),
        ("ER", {AliasProblem.SHORT, AliasProblem.ANSWER_PREFIX}),
        ("118", {AliasProblem.SHORT_NUMBER}),
        ("7", {AliasProblem.SHORT, AliasProblem.SHORT_NUMBER}),
        ("1914", set()),
        ("Sweden", set()),
        ("Sakartvelo", set()),
    ],
)
def test_doubtful_aliases_dangerous_ones_have_their_reasons(alias: str, expected: set[AliasProblem]) -> None:
    assert problems(alias) == expected


def test_doubtful_aliases_largest_come_first_in_their_schema() -> None:
    table = doubtful_aliases(facts_of(("f1", "US", ["US"]), ("f2", "UK", ["UK"]), ("f3", "UK", ["UK", "uk"])))
    assert table.select("alias", "facts", "objects").rows() == [("uk", 2, 1), ("us", 1, 1)]
    assert table.to_arrow().cast(inspection_schema.DOUBTFUL_ALIASES).schema == inspection_schema.DOUBTFUL_ALIASES


def test_doubtful_aliases_none_is_an_empty_table_in_its_schema() -> None:
    table = doubtful_aliases(facts_of(("f1", "Sweden", ["Sweden"])))
    assert table.is_empty()
    assert table.to_arrow().cast(inspection_schema.DOUBTFUL_ALIASES).schema == inspection_schema.DOUBTFUL_ALIASES
