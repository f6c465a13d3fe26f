"""Facts beyond an object's share of its relation are rejected, the same ones for a seed whatever the order of rows."""

from collections import Counter

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kp.facts.dominance import without_dominance
from kp.facts.selection import select_facts
from kp.facts.validation import check_facts, reason_kind, rejected_rows
from kp.schema import FACTS, QUARANTINED

NONE = QUARANTINED.empty_table()


def table_of(*pairs: tuple[str, str]) -> pa.Table:
    """A fact for each relation and object."""
    rows = [
        {
            "fact_id": f"id{number}",
            "subject": f"s{number}",
            "relation": relation,
            "object": object_,
            "question": f"Question {number}?",
            "answers": [object_],
            "popularity": None,
            "subject_degree": None,
            "domain": None,
            "paraphrases": [],
            "source": "test",
        }
        for number, (relation, object_) in enumerate(pairs)
    ]
    return pa.Table.from_pylist(rows, schema=FACTS)


def objects(table: pa.Table) -> Counter[str]:
    return Counter(table["object"].to_pylist())


def test_dominance_within_the_share_leaves_everything() -> None:
    table = table_of(("r", "a"), ("r", "b"), ("r", "c"), ("r", "a"))
    kept, rejected = without_dominance(table, NONE, 0.5, 0)
    assert kept.equals(table)
    assert rejected.num_rows == 0


def test_dominant_object_is_cut_to_the_share_of_what_is_left() -> None:
    table = table_of(*[("film", "English")] * 83, *[("film", f"language {i}") for i in range(17)], ("city", "x"))
    kept, rejected = without_dominance(table, NONE, 0.2, 0)
    left = objects(kept)
    assert left["English"] == 4  # 4 of 21; 5 would be more than a fifth of 22
    assert left.total() == 4 + 17 + 1
    assert rejected.num_rows == 79
    [reason] = set(rejected["reason"].to_pylist())
    assert reason == "has the object of too many facts of its relation 'English', 83.0% of film, above facts.most_of_one_object = 0.2"
    assert reason_kind(reason) == "has the object of too many facts of its relation"


def test_dominance_counts_spellings_of_one_object_together() -> None:
    table = table_of(("r", "The U.S."), ("r", "U.S."), ("r", "US"), ("r", "a b"), ("r", "c d"))
    kept, _ = without_dominance(table, NONE, 0.34, 0)
    assert kept.num_rows == 3


def test_object_keeps_one_fact_where_no_share_could_be_kept() -> None:
    kept, _ = without_dominance(table_of(*[("sex", "male")] * 6, *[("sex", "female")] * 5), NONE, 0.1, 0)
    assert objects(kept) == {"male": 1, "female": 1}


def test_dominance_seed_decides_which_facts_stay() -> None:
    table = table_of(*[("r", "a")] * 60, *[("r", f"x{i}") for i in range(20)])
    first, again, other = (without_dominance(table, NONE, 0.1, seed)[0]["fact_id"].to_pylist() for seed in (1, 1, 2))
    assert first == again != other


def test_dominance_rows_are_those_of_the_source_before_others_were_rejected() -> None:
    table = table_of(("r", "x"), ("r", "a"), ("r", "a"), ("r", "a"))
    broken = table.set_column(4, FACTS.field("question"), pa.array(["What\tis it?", *table["question"].to_pylist()[1:]]))
    fit, unfit = check_facts(broken, "facts.csv")
    kept, rejected = without_dominance(fit, unfit, 0.5, 0)
    assert kept.num_rows == 1
    left_out = rejected_rows(rejected)
    assert left_out[0] == 1
    [stayed] = {2, 3, 4} - set(left_out)
    assert kept["fact_id"].to_pylist() == [f"id{stayed - 1}"]
    for fault in rejected.to_pylist():
        assert fault["fact_id"] == f"id{fault['row'] - 1}"


@given(
    st.lists(st.tuples(st.sampled_from("pq"), st.sampled_from("abcde")), min_size=1, max_size=40),
    st.floats(0.05, 1.0),
    st.integers(0, 3),
)
def test_dominance_never_leaves_an_object_above_the_share_but_with_one_fact(pairs: list[tuple[str, str]], share: float, seed: int) -> None:
    pairs = [(relation, object_ * 3) for relation, object_ in pairs]  # "a" alone would be an article
    table = table_of(*pairs)
    kept, rejected = without_dominance(table, NONE, share, seed)
    assert kept.num_rows + rejected.num_rows == table.num_rows
    counted = Counter(zip(kept["relation"].to_pylist(), kept["object"].to_pylist(), strict=True))
    sizes = Counter(kept["relation"].to_pylist())
    assert all(facts == 1 or facts <= share * sizes[relation] + 1e-6 for (relation, _), facts in counted.items())
    assert {relation for relation, _ in counted} == {relation for relation, _ in pairs}


@given(st.integers(0, 5), st.randoms())
def test_dominance_does_not_depend_on_the_order_of_rows(seed: int, shuffler: object) -> None:
    table = table_of(*[("r", "aaa")] * 12, ("r", "bbb"), ("r", "ccc"), ("r", "ddd"))
    order = list(range(table.num_rows))
    shuffler.shuffle(order)  # type: ignore[attr-defined]
    kept, shuffled = (without_dominance(rows, NONE, 0.4, seed)[0] for rows in (table, table.take(order)))
    assert set(kept["fact_id"].to_pylist()) == set(shuffled["fact_id"].to_pylist())


@pytest.mark.parametrize("share", [0.2, 0.4])
def test_dominance_of_a_smaller_share_keeps_some_of_what_a_larger_keeps(share: float) -> None:
    table = table_of(*[("r", "aaa")] * 40, *[("r", f"x{i}") for i in range(20)])
    smaller, larger = (set(without_dominance(table, NONE, value, 0)[0]["fact_id"].to_pylist()) for value in (share, 0.6))
    assert smaller < larger


def test_dominance_does_not_sway_the_draw_of_a_part_of_the_facts() -> None:
    table = table_of(*[("r", "aaa")] * 2000, *[("r", f"x{i}") for i in range(800)])
    kept, _ = without_dominance(table, NONE, 0.2, 0)
    assert objects(kept)["aaa"] == 200
    drawn = select_facts(pl.DataFrame(pl.from_arrow(kept)), (), 200, 0)
    assert 20 <= drawn.filter(object="aaa").height <= 60  # 40 are expected, and 5 is one standard deviation
