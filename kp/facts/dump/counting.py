"""What is counted in one partition of a dump: distinct triples, single-valued pairs, mentions of entities.

Everything is done on hashes, sorted once per partition. The sort key has the pair in its upper bits and the object in its lower ones, so
one sort of one number groups pairs and, within a pair, repeated triples. If two pairs or two objects have the same bits in the key (in
about one partition in twenty), the partition is sorted again by the whole hashes.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from kp.facts.dump.parsing import OTHER_VALUE, SPELLED
from kp.facts.dump.spans import Hashes

_PAIR_BITS = np.uint64(0xFFFFFFFFFF000000)
_OBJECT_BITS = np.uint64(0x0000000000FFFFFF)
_ODD = np.uint64(0x9E3779B97F4A7C15)  # spreads small numbers over 64 bits (the fraction of the golden ratio)

Counts = npt.NDArray[np.int64]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Statements:
    """The rows of one partition; relations are numbered over the whole dump."""

    subjects: Hashes
    relations: npt.NDArray[np.uint32]
    objects: Hashes
    kinds: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Counted:
    """The counts of one partition; `triples`, `subjects` and `pairs` are by relation."""

    triples: Counts  # distinct, between two entities
    subjects: Counts  # with at least one such triple
    pairs: Counts  # single-valued
    single: Rows  # one row of each single-valued pair
    texts: Rows  # the index of its texts among those of the partition
    mentions: Hashes  # of entities: one for each distinct triple with the entity as subject or object


def count(statements: Statements, relations: int) -> Counted:
    """Count one partition of a dump with `relations` relations."""
    pairs = statements.subjects ^ ((statements.relations.astype(np.uint64) + np.uint64(1)) * _ODD)
    order = _sorted(pairs, statements.objects)
    pairs, objects, kinds = pairs[order], statements.objects[order], statements.kinds[order]
    begins = np.concatenate(([True], pairs[1:] != pairs[:-1])) if len(pairs) else np.zeros(0, dtype=bool)
    distinct = begins.copy()
    distinct[1:] |= objects[1:] != objects[:-1]
    starts = np.flatnonzero(begins)
    is_triple = kinds != OTHER_VALUE
    relation = statements.relations[order]
    values = np.add.reduceat(distinct, starts, dtype=np.int64) if len(starts) else starts
    alone = starts[(values == 1) & is_triple[starts]]
    kept = distinct & is_triple
    with_triple = starts[np.logical_or.reduceat(is_triple, starts)] if len(starts) else starts
    subjects, objects = statements.subjects[order[kept]], objects[kept]
    single = order[alone]
    return Counted(
        triples=np.bincount(relation[kept], minlength=relations),
        subjects=np.bincount(relation[with_triple], minlength=relations),
        pairs=np.bincount(relation[alone], minlength=relations),
        single=single,
        texts=np.cumsum(statements.kinds == SPELLED)[single] - 1,
        mentions=np.concatenate((subjects, objects[objects != subjects])),
    )


def _sorted(pairs: Hashes, objects: Hashes) -> npt.NDArray[np.int64]:
    """The rows in an order in which equal pairs, and within a pair equal objects, are adjacent."""
    key = (pairs & _PAIR_BITS) | (objects & _OBJECT_BITS)
    order = pl.Series(key).arg_sort().to_numpy()
    key, pairs_there, objects_there = key[order], pairs[order], objects[order]
    same_pair = pairs_there[1:] == pairs_there[:-1]
    alike = (key[1:] & _PAIR_BITS) == (key[:-1] & _PAIR_BITS)
    same_key = key[1:] == key[:-1]
    if (alike & ~same_pair).any() or (same_key & (objects_there[1:] != objects_there[:-1])).any():
        return pl.DataFrame({"pair": pairs, "object": objects}).select(pl.arg_sort_by("pair", "object")).to_series().to_numpy()
    return order
