"""The draw of a study's facts: equal, nested, independent of row order."""

from collections import Counter

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kp.errors import UserError
from kp.facts.selection import select_facts

BUCKETS = ["head", "torso", "tail", None]


@st.composite
def pools(draw: st.DrawFn) -> pl.DataFrame:
    rows = draw(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(BUCKETS)), min_size=1, max_size=60))
    return pool_of([(relation, bucket) for relation, bucket in rows])


def pool_of(rows: list[tuple[str, str | None]]) -> pl.DataFrame:
    ids = [f"f{number}" for number in range(len(rows))]
    relations, buckets = [row[0] for row in rows], [row[1] for row in rows]
    columns = {"fact_id": pl.String, "relation": pl.String, "popularity": pl.String}
    return pl.DataFrame({"fact_id": ids, "relation": relations, "popularity": buckets}, schema=columns)


@given(pools(), st.integers(0, 5), st.data())
def test_smaller_draw_stands_within_larger_one(pool: pl.DataFrame, seed: int, data: st.DataObject) -> None:
    large = data.draw(st.integers(1, pool.height))
    small = data.draw(st.integers(1, large))
    drawn = select_facts(pool, (), large, seed)
    assert drawn.height == large
    assert set(select_facts(pool, (), small, seed)["fact_id"]) <= set(drawn["fact_id"])


@given(pools(), st.integers(0, 5), st.data())
def test_relations_get_equal_numbers_while_they_last(pool: pl.DataFrame, seed: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, pool.height))
    taken = Counter(select_facts(pool, (), count, seed)["relation"])
    available = Counter(pool["relation"])
    unfinished = [taken[relation] for relation in available if taken[relation] < available[relation]]
    if unfinished:
        assert max(taken.values()) - min(unfinished) <= 1


@given(pools(), st.integers(0, 5), st.data())
def test_buckets_within_a_relation_get_equal_numbers_while_they_last(pool: pl.DataFrame, seed: int, data: st.DataObject) -> None:
    pool = pool.filter(pl.col("popularity").is_not_null())
    if pool.is_empty():
        return
    count = data.draw(st.integers(1, pool.height))
    taken = Counter(select_facts(pool, (), count, seed).select("relation", "popularity").iter_rows())
    available = Counter(pool.select("relation", "popularity").iter_rows())
    for relation in "abcd":
        keys = [key for key in available if key[0] == relation]
        unfinished = [taken[key] for key in keys if taken[key] < available[key]]
        if unfinished:
            assert max(taken[key] for key in keys) - min(unfinished) <= 1


@given(pools(), st.integers(0, 5))
def test_row_order_of_the_source_does_not_matter(pool: pl.DataFrame, seed: int) -> None:
    count = (pool.height + 1) // 2
    turned = select_facts(pool.reverse(), (), count, seed)
    assert set(turned["fact_id"]) == set(select_facts(pool, (), count, seed)["fact_id"])


def test_result_keeps_the_row_order_of_the_source() -> None:
    pool = pool_of([("a", "head")] * 30)
    order = pool["fact_id"].to_list()
    drawn = select_facts(pool, (), 10, 0)["fact_id"].to_list()
    assert drawn == [identity for identity in order if identity in drawn]


def test_seed_changes_the_draw_and_repeats_it() -> None:
    pool = pool_of([("a", "head")] * 100)
    assert select_facts(pool, (), 20, 1).equals(select_facts(pool, (), 20, 1))
    assert not select_facts(pool, (), 20, 1).equals(select_facts(pool, (), 20, 2))


def test_one_fact_a_relation_is_not_always_the_same_bucket() -> None:
    pool = pool_of([(f"relation {number}", bucket) for number in range(40) for bucket in ("head", "torso", "tail")])
    assert set(select_facts(pool, (), 40, 0)["popularity"]) == {"head", "torso", "tail"}


def test_named_relations_alone_are_kept_when_no_count_is_given() -> None:
    pool = pool_of([("a", "head"), ("b", "tail"), ("c", None)])
    assert select_facts(pool, ("a", "c"), None, 0)["relation"].to_list() == ["a", "c"]
    assert select_facts(pool, (), None, 0).equals(pool)


def test_unknown_relation_is_an_error_that_lists_what_exists() -> None:
    with pytest.raises(UserError, match=r"facts\.relations: no relation 'x'; there are: a, b"):
        select_facts(pool_of([("b", None), ("a", None)]), ("a", "x"), None, 0)


def test_more_facts_than_exist_is_an_error_with_the_shortfall() -> None:
    with pytest.raises(UserError, match=r"facts\.count: 5 facts asked for, 2 exist: 3 too many"):
        select_facts(pool_of([("a", None), ("a", None), ("b", None)]), ("a",), 5, 0)
