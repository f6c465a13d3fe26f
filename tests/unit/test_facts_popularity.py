"""Head, torso and tail hold a third of the popularity each."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kp.facts.dump.merging import least_degrees
from kp.facts.popularity import BUCKETS, popularity_buckets

DEGREES = st.lists(st.integers(0, 1000), min_size=1)


def test_buckets_follow_popularity_and_not_numbers_of_entities() -> None:
    assert popularity_buckets([90, 4, 3, 3]) == {90: "head", 4: "tail", 3: "tail"}
    assert popularity_buckets([40, 30, 29, 1]) == {40: "head", 30: "torso", 29: "tail", 1: "tail"}


def test_bucket_of_the_most_popular_is_head_and_of_nobody_tail() -> None:
    assert popularity_buckets([5, 5, 5]) == {5: "head"}
    assert popularity_buckets([0, 0]) == {0: "tail"}
    assert popularity_buckets([]) == {}


@given(DEGREES)
def test_bucket_never_rises_as_popularity_falls(degrees: list[int]) -> None:
    buckets = popularity_buckets(degrees)
    falling = [BUCKETS.index(buckets[degree]) for degree in sorted(degrees, reverse=True)]
    assert falling == sorted(falling)
    assert popularity_buckets(reversed(degrees)) == buckets


@given(DEGREES)
def test_buckets_of_a_table_are_those_of_a_dump_with_the_same_degrees(degrees: list[int]) -> None:
    degrees = [degree + 1 for degree in degrees]  # an entity of a dump stands in a triple at least
    head, torso = least_degrees(np.array(degrees, dtype=np.uint32))
    expected = {degree: "head" if degree >= head else "torso" if degree >= torso else "tail" for degree in degrees}
    assert popularity_buckets(degrees) == expected
