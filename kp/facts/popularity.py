"""Head, torso and tail: how popular the subject of a fact is.

The buckets are those of Sun et al. (Head-to-Tail, arXiv 2308.10168), each with a third of the popularity and not of the entities: a head of
few well-known names, and a tail of very many that hardly anybody knows. For a dump with millions of entities, kp.facts.dump.merging counts
the degrees and applies the same rule.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

BUCKETS = ("head", "torso", "tail")


def popularity_buckets(degrees: Iterable[int]) -> dict[int, str]:
    """The bucket of every degree that occurs, from the degrees (0 or more: triples, page views) of all entities.

    Degrees are added up in descending order. Entities with a degree are head if the sum before it is in the first third of the total, torso
    in the second, and tail in the last. So the most popular entity is head, and equally popular ones share a bucket.
    """
    return buckets_of_counts(Counter(degrees))


def buckets_of_counts(entities: Mapping[int, int]) -> dict[int, str]:
    """The same from the number of entities with each degree."""
    total, before = sum(degree * number for degree, number in entities.items()), 0
    buckets: dict[int, str] = {}
    for degree in sorted(entities, reverse=True):
        third = len(BUCKETS) * before // total if total else len(BUCKETS)
        buckets[degree] = BUCKETS[min(third, len(BUCKETS) - 1)]
        before += degree * entities[degree]
    return buckets
