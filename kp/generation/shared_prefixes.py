"""Which questions are read together for as long as their tokens agree.

Facts of one relation are asked with one template, so a third of a question's tokens equal those of hundreds of others after the same shots,
and answers sampled for one prompt share the whole question. Such a *shared question prefix* is read once for each prefix, and its keys and
values are copied into the rows that begin with it: copying a few tokens is cheaper than passing them through the model.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from kp.generation.decoding import Row

LEAST_SAVED = 4
"""Tokens that a shared prefix must save over all rows to be worth a separate row."""


def shared_prefix_lengths(rows: Sequence[list[int]]) -> list[int]:
    """For each row, how many of its first tokens are read together with other rows (0 for none), so that the fewest tokens are read.

    At least one token of every row stays, because its logits give the answer's first token. Rows have the same shared prefix if they have
    the same length here and agree in that many tokens.
    """
    usable = [row[:-1] for row in rows]
    order = sorted(range(len(rows)), key=lambda row: usable[row])
    _, cuts = _best([usable[row] for row in order], 0)
    lengths = [0] * len(rows)
    for row, cut in zip(order, cuts, strict=True):
        lengths[row] = cut
    return lengths


def with_shared_prefixes(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    """The rows without the first tokens that several behind the same prefix share, and these shared prefixes as separate rows.

    The rows are sorted by prefix.
    """
    shared_prefixes: dict[tuple[int | None, tuple[int, ...]], int] = {}
    shorter = []
    behind_each: dict[int | None, list[Row]] = {}
    for row in rows:
        behind_each.setdefault(row.prefix, []).append(row)
    for prefix, behind in behind_each.items():
        for row, length in zip(behind, shared_prefix_lengths([row.ids for row in behind]), strict=True):
            number = shared_prefixes.setdefault((prefix, tuple(row.ids[:length])), len(shared_prefixes)) if length else None
            shorter.append(replace(row, ids=row.ids[length:], shared_prefix=number))
    return shorter, [Row(0, prefix, list(ids), []) for prefix, ids in shared_prefixes]


def _best(rows: list[list[int]], above: int) -> tuple[int, list[int]]:
    """Tokens saved, and the lengths of the shared prefixes, for sorted rows that agree in their first `above` tokens.

    Where the rows diverge, they form groups; each group uses either the prefix that all rows share, or its own best solution.
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
    """The common prefix length of two rows that agree up to `start`; for the first and last of sorted rows it is that of all of them."""
    most = min(len(one), len(other))
    return next((place for place in range(start, most) if one[place] != other[place]), most)
