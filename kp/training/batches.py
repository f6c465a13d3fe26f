"""How the rows of a batch are laid out for a model: every row whole, or with shared first tokens only once.

All chats of a study begin alike (system prompt, the opening of the question), questions of one relation share more, and a paraphrase or a
replayed row may share even more. `prefix_tree` lays the rows out as the tree of their tokens: each token is read once, sees only the tokens
on its path from the root, and its depth is its position. The model computes the same for a row as for the row alone, so loss and gradient
equal those of the padded batch. Only dropout differs, because a shared token has one mask.

In both layouts, logits are needed only where a label is predicted. A *term* of the loss is one label, the position whose logits predict it,
and the number of rows that have it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kp.training.encoding import IGNORED, EncodedRow
from kp.vocabulary import Packing


@dataclass(frozen=True)
class Batch:
    """One input of a model and the terms of its loss.

    `input_ids` and `position_ids` are (lines, length) int64. `visible` of a prefix tree is (lines, length, length) bool: which tokens (last
    axis) each token sees; of padded rows it is (lines, length) bool: the tokens that are no padding, which a model sees in its own way
    (through windows, or by distances). `columns` (kept,) int64 are the columns whose logits are computed, `term_line` and `term_column`
    (terms,) the line and the index in `columns` that predict `labels` (terms,) int64; `weights` and `replay_weights` (terms,) float32 count
    rows, the latter only replayed ones.
    """

    input_ids: np.ndarray
    position_ids: np.ndarray
    visible: np.ndarray
    columns: np.ndarray
    term_line: np.ndarray
    term_column: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    replay_weights: np.ndarray
    terms_of_rows: tuple[tuple[int, ...], ...]
    """The terms of each row, in the order of its labels."""

    @property
    def read_tokens(self) -> int:
        """Tokens that the model reads, including padding."""
        return int(self.input_ids.size)


def make_batch(rows: Sequence[EncodedRow], packing: Packing, pad_token_id: int) -> Batch:
    """Lay out one or more rows."""
    return _prefix_tree(rows) if packing is Packing.PREFIX_TREE else _padded(rows, pad_token_id)


def _prefix_tree(rows: Sequence[EncodedRow]) -> Batch:
    nodes: dict[tuple[int, int], int] = {}  # (parent node, token) -> node; -1 is above the first tokens
    parents: list[int] = []
    terms: dict[int, list[int]] = {}  # node -> number of rows that predict its token, and of replayed rows among them
    numbers: dict[int, int] = {}  # node -> its term
    of_rows: list[tuple[int, ...]] = []
    for row in rows:
        node, mine = -1, list[int]()
        for token, label in zip(row.ids, row.labels, strict=True):
            above = node
            node = nodes.setdefault((above, token), len(nodes))
            if node == len(parents):
                parents.append(above)
            if label != IGNORED:
                asked = terms.setdefault(node, [0, 0])
                asked[0] += 1
                asked[1] += row.replayed
                mine.append(numbers.setdefault(node, len(numbers)))
        of_rows.append(tuple(mine))
    tokens = np.array([token for _, token in nodes], dtype=np.int64)
    visible = np.zeros((len(parents), len(parents)), dtype=bool)
    depth = np.zeros(len(parents), dtype=np.int64)
    for node, above in enumerate(parents):  # a parent has the smaller number
        if above >= 0:
            visible[node] = visible[above]
            depth[node] = depth[above] + 1
        visible[node, node] = True
    predicted = np.array(list(terms), dtype=np.int64)
    columns, term_column = np.unique(np.array(parents, dtype=np.int64)[predicted], return_inverse=True)
    counts = np.array(list(terms.values()), dtype=np.float32)
    return Batch(
        input_ids=tokens[None],
        position_ids=depth[None],
        visible=visible[None],
        columns=columns,
        term_line=np.zeros(len(predicted), dtype=np.int64),
        term_column=term_column,
        labels=tokens[predicted],
        weights=counts[:, 0],
        replay_weights=counts[:, 1],
        terms_of_rows=tuple(of_rows),
    )


def _padded(rows: Sequence[EncodedRow], pad_token_id: int) -> Batch:
    """Pad on the left, so that the answers of a batch end in the same column and few columns contain all labels."""
    length = max(len(row.ids) for row in rows)
    input_ids = np.full((len(rows), length), pad_token_id, dtype=np.int64)
    real = np.zeros((len(rows), length), dtype=bool)
    labels = np.full((len(rows), length), IGNORED, dtype=np.int64)
    for line, row in enumerate(rows):
        start = length - len(row.ids)
        input_ids[line, start:] = row.ids
        real[line, start:] = True
        labels[line, start:] = row.labels
    term_line, predicted = np.nonzero(labels != IGNORED)
    columns, term_column = np.unique(predicted - 1, return_inverse=True)
    replayed = np.array([row.replayed for row in rows], dtype=np.float32)
    return Batch(
        input_ids=input_ids,
        position_ids=np.maximum(real.cumsum(axis=1) - 1, 0),
        visible=real,
        columns=columns,
        term_line=term_line,
        term_column=term_column,
        labels=labels[term_line, predicted],
        weights=np.ones(len(term_line), dtype=np.float32),
        replay_weights=replayed[term_line],
        terms_of_rows=tuple(tuple(np.flatnonzero(term_line == line).tolist()) for line in range(len(rows))),
    )
