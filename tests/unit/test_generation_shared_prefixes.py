"""Which beginnings of questions are read once."""

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from kp.generation.shared_prefixes import LEAST_SAVED, shared_prefix_lengths

rows_of_tokens = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=7), max_size=12)


def _read(rows: list[list[int]], lengths: list[int]) -> int:
    """Tokens that are read: every shared prefix once, and of each row what is left."""
    shared_prefixes = {tuple(row[:length]) for row, length in zip(rows, lengths, strict=True)}
    return sum(map(len, shared_prefixes)) + sum(len(row) - length for row, length in zip(rows, lengths, strict=True))


def test_shared_prefix_lengths_of_two_templates_are_what_each_template_begins_with() -> None:
    rows = [[1, 2, 3, 4, 50 + place, 9] for place in range(5)] + [[1, 2, 7, 7, 7, 60 + place, 9] for place in range(5)]

    assert shared_prefix_lengths(rows) == [4] * 5 + [5] * 5


def test_shared_prefix_lengths_of_one_row_many_times_leave_its_last_token() -> None:
    assert shared_prefix_lengths([[1, 2, 3, 4]] * 16) == [3] * 16


def test_shared_prefix_lengths_of_rows_that_share_too_little_are_none() -> None:
    assert shared_prefix_lengths([[1, 2], [1, 3], [4, 5]]) == [0, 0, 0]
    assert shared_prefix_lengths([[5]] * 40) == [0] * 40
    assert shared_prefix_lengths([]) == []


@given(rows_of_tokens)
def test_shared_prefix_lengths_leave_a_token_and_never_read_more(rows: list[list[int]]) -> None:
    lengths = shared_prefix_lengths(rows)

    assert all(0 <= length < len(row) for row, length in zip(rows, lengths, strict=True))
    assert _read(rows, lengths) <= sum(map(len, rows))


@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=4), min_size=1, max_size=4))
def test_shared_prefix_lengths_read_as_few_tokens_as_any_choice_but_for_the_least_saved(rows: list[list[int]]) -> None:
    choices = product(*(range(len(row)) for row in rows))
    fewest = min(_read(rows, list(choice)) for choice in choices)

    assert _read(rows, shared_prefix_lengths(rows)) < fewest + LEAST_SAVED * len(rows)
