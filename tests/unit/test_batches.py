"""A batch as a tree of tokens reads each shared beginning once and asks for every label that its rows ask for."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kp.training.batches import Batch, make_batch
from kp.training.encoding import IGNORED, EncodedRow, trained_tokens
from kp.vocabulary import Packing

PAD = 0


def row(*ids: int, trained: int = 1, replayed: bool = False) -> EncodedRow:
    """Tokens of which the last `trained` have labels."""
    return EncodedRow(ids, (IGNORED,) * (len(ids) - trained) + ids[len(ids) - trained :], replayed)


def seen(batch: Batch, line: int, token: int) -> list[int]:
    """The tokens that a token sees, in the order of their positions."""
    tokens = batch.visible[line]
    places = np.flatnonzero(tokens[token] if tokens.ndim == 2 else tokens & (np.arange(len(tokens)) <= token))
    return [int(batch.input_ids[line, place]) for place in places[np.argsort(batch.position_ids[line, places])]]


def asked(batch: Batch) -> Counter[tuple[tuple[int, ...], int]]:
    """How many rows ask for each label after each context."""
    found: Counter[tuple[tuple[int, ...], int]] = Counter()
    for line, column, label, weight in zip(batch.term_line, batch.term_column, batch.labels, batch.weights, strict=True):
        found[tuple(seen(batch, line, batch.columns[column])), int(label)] += int(weight)
    return found


def test_tree_reads_a_shared_beginning_once_and_each_end_by_itself() -> None:
    batch = make_batch([row(5, 6, 7), row(5, 6, 8), row(5, 9)], Packing.PREFIX_TREE, PAD)
    assert batch.input_ids.tolist() == [[5, 6, 7, 8, 9]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 2, 1]]
    assert [seen(batch, 0, token) for token in range(5)] == [[5], [5, 6], [5, 6, 7], [5, 6, 8], [5, 9]]


def test_tree_logits_are_kept_where_a_label_is_predicted_and_nowhere_else() -> None:
    batch = make_batch([row(5, 6, 7), row(5, 6, 8), row(5, 9)], Packing.PREFIX_TREE, PAD)
    assert batch.columns.tolist() == [0, 1]
    assert asked(batch) == {((5, 6), 7): 1, ((5, 6), 8): 1, ((5,), 9): 1}


def test_tree_rows_that_are_the_same_are_read_once_and_weigh_twice() -> None:
    batch = make_batch([row(5, 6), row(5, 6, replayed=True)], Packing.PREFIX_TREE, PAD)
    assert batch.input_ids.tolist() == [[5, 6]]
    assert (batch.weights.tolist(), batch.replay_weights.tolist()) == ([2], [1])


def test_padded_reads_every_row_whole_and_tells_tokens_from_padding() -> None:
    batch = make_batch([row(5, 6, 7), row(9, 8)], Packing.PADDED, PAD)
    assert batch.input_ids.tolist() == [[5, 6, 7], [PAD, 9, 8]]
    assert batch.position_ids.tolist() == [[0, 1, 2], [0, 0, 1]]
    assert batch.visible.tolist() == [[True, True, True], [False, True, True]]
    assert batch.columns.tolist() == [1]


rows_of_anything = st.lists(
    st.tuples(st.lists(st.integers(1, 4), min_size=2, max_size=6), st.integers(1, 5), st.booleans()), min_size=1, max_size=6
)


@pytest.mark.parametrize("packing", list(Packing))
@given(drawn=rows_of_anything)
def test_every_way_asks_for_every_label_after_its_own_row(packing: Packing, drawn: list[tuple[list[int], int, bool]]) -> None:
    rows = [row(*ids, trained=min(trained, len(ids) - 1), replayed=replayed) for ids, trained, replayed in drawn]
    batch = make_batch(rows, packing, PAD)
    expected = Counter((one.ids[:place], label) for one in rows for place, label in enumerate(one.labels) if label != IGNORED)
    assert asked(batch) == expected
    assert batch.weights.sum() == trained_tokens(rows)
    assert batch.replay_weights.sum() == trained_tokens(one for one in rows if one.replayed)
    assert sorted(batch.columns.tolist()) == batch.columns.tolist()
    assert all(one < other for one, other in pairwise(batch.columns.tolist()))
