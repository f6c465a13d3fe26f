"""What happens to the neighbours of trained facts."""

import polars as pl
import pytest

from kp import schema
from kp.metrics.compared_answers import ComparedAnswers
from kp.metrics.locality import locality, neighbours
from kp.metrics.result_schema import LOCALITY
from kp.vocabulary import UNSPECIFIED
from tests.made_up_answers import Said, compared_of
from tests.made_up_study import frame_of

NAMED = {  # fact: subject, relation, domain
    "trained": ("Ann", "born in", "person"),
    "same subject": ("Ann", "lives in", "person"),
    "same relation": ("Bob", "born in", "person"),
    "same domain": ("Bob", "lives in", "person"),
    "unrelated": ("Ems", "flows into", "river"),
    "no domain": ("Rio", "is in", None),
    "no relation": ("Eve", UNSPECIFIED, None),
}
BASE = dict.fromkeys(NAMED, "wrong") | {"unrelated": "object unrelated"}


def compared(adapter: Said) -> ComparedAnswers:
    rows = [
        {
            "fact_id": fact_id,
            "subject": subject,
            "relation": relation,
            "object": f"object {fact_id}",
            "question": f"{fact_id}?",
            "answers": [f"object {fact_id}"],
            "domain": domain,
            "paraphrases": [],
            "source": "test",
        }
        for fact_id, (subject, relation, domain) in NAMED.items()
    ]
    return compared_of(frame_of(rows, schema.FACTS), BASE, {**BASE, **adapter}, trained=["trained"])


def test_neighbours_are_what_a_fact_shares_with_a_trained_one() -> None:
    found = dict(neighbours(compared({})).select("fact_id", "neighbours").iter_rows())
    assert found == {
        "same subject": "same_subject",
        "same relation": "same_relation",
        "same domain": "same_domain",
        "unrelated": "unrelated",
        "no domain": "unrelated",
    }


def test_locality_of_an_adapter_that_changes_nothing_but_what_it_was_taught_is_exactly_one_and_zero() -> None:
    table = locality(compared({"trained": "object trained"}))
    assert table.to_arrow().cast(LOCALITY).schema == LOCALITY
    assert set(table.filter(measure="unchanged")["value"]) == {1.0}
    assert set(table.filter(measure="net_change")["value"]) == {0.0}
    lower, upper, n = table.filter(neighbours="unrelated", measure="unchanged").select("lower", "upper", "n").row(0)
    assert (upper, n) == (1.0, 2)
    assert lower < 0.5  # of two facts nobody knows much


def test_locality_counts_answers_that_say_something_else_and_what_became_right_or_wrong() -> None:
    table = locality(compared({"same subject": "Wrong!", "same relation": "object same relation", "unrelated": "wrong"}))
    values = {(group, measure): value for group, measure, value in table.select("neighbours", "measure", "value").iter_rows()}
    assert values == {
        ("same_subject", "unchanged"): 1.0,  # the same words
        ("same_subject", "net_change"): 0.0,
        ("same_relation", "unchanged"): 0.0,
        ("same_relation", "net_change"): 1.0,
        ("same_domain", "unchanged"): 1.0,
        ("same_domain", "net_change"): 0.0,
        ("unrelated", "unchanged"): pytest.approx(0.5),
        ("unrelated", "net_change"): pytest.approx(-0.5),
    }


def test_locality_of_an_adapter_without_neighbours_has_no_rows() -> None:
    whole = compared({})
    alone = ComparedAnswers("t", whole.facts, whole.outcomes, whole.base, whole.adapter, whole.rows.clear(), whole.matcher)
    groups = set(locality(alone)["neighbours"])
    assert groups == {"unrelated"}
    only = pl.col("fact_id") == "trained"
    taught = ComparedAnswers(
        "t", whole.facts, *(t.filter(only) for t in (whole.outcomes, whole.base, whole.adapter)), whole.rows, whole.matcher
    )
    assert locality(taught).is_empty()
