"""Which questions are read as one for as long as they say the same.

Facts of one relation are asked by one template, so a third of a question's tokens are those of hundreds of others behind the same shots,
and the answers sampled to one prompt share all of it. Such a *shared question prefix* is read once for each prefix, and its keys and values
are copied into the rows that begin with it: a copy of a few tokens, against a pass of them through the model.
"""

from collections.abc import Sequence
from itertools import groupby

LEAST_SAVED = 4
"""Tokens that a shared prefix must save over all rows to be worth a row of its own."""


def shared_prefix_lengths(rows: Sequence[list[int]]) -> list[int]:
    """For each row how many of its first tokens are read together with others', 0 for none, so that the fewest tokens are read in all.

    Of every row at least one token stays, since its logits begin the answer. Rows with one shared prefix are those that agree in that
    many tokens and in that number.
    """
    usable = [row[:-1] for row in rows]
    order = sorted(range(len(rows)), key=lambda row: usable[row])
    _, cuts = _best([usable[row] for row in order], 0)
    lengths = [0] * len(rows)
    for row, cut in zip(order, cuts, strict=True):
        lengths[row] = cut
    return lengths


def _best(rows: list[list[int]], above: int) -> tuple[int, list[int]]:
    """Tokens saved and the shared prefixes' lengths of sorted rows, which agree in their first `above` tokens.

    Where they part they fall into groups, of which each is best off with the shared prefix of them all, or without it as well as it can be.
    """
    if len(rows) < 2:
        return 0, [0] * len(rows)
    depth = _agreeing(rows[0], rows[-1], above)
    parts = [list(part) for _, part in groupby(rows, key=lambda row: row[depth : depth + 1])]
    apart = [_best(part, depth) if len(part[0]) > depth else (0, [0] * len(part)) for part in parts]
    joins = [depth * len(part) > saved for part, (saved, _) in zip(parts, apart, strict=True)]
    together = [
        (depth * len(part), [depth] * len(part)) if joined else alone for part, alone, joined in zip(parts, apart, joins, strict=True)
    ]
    gain = sum(saved for saved, _ in together) - depth - sum(saved for saved, _ in apart)  # the shared prefix is read once itself
    chosen = together if gain >= LEAST_SAVED else apart
    return sum(saved for saved, _ in chosen) - (depth if chosen is together else 0), [cut for _, cuts in chosen for cut in cuts]


def _agreeing(one: list[int], other: list[int], start: int) -> int:
    """In how many first tokens two rows agree, which agree in `start`; of sorted rows the first and the last agree in what all do."""
    most = min(len(one), len(other))
    return next((place for place in range(start, most) if one[place] != other[place]), most)
