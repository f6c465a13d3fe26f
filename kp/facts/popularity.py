"""Head, torso and tail: how popular the subject of a fact is.

The buckets are those of Sun et al. (Head-to-Tail, arXiv 2308.10168), each with a third of the popularity and not of the entities: a head of
few names that everybody knows, and a tail of very many that hardly anybody does. Of a dump with millions of entities kp.facts.dump.merging
counts the degrees, and cuts by the same rule.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

BUCKETS = ("head", "torso", "tail")


def popularity_buckets(degrees: Iterable[int]) -> dict[int, str]:
    """The bucket of every degree that occurs, from the degrees (0 or more: triples, page views) of all entities.

    Degrees are added up in falling order. Where the sum before a degree is in its first third, the entities that have it are the head, in
    the second the torso, in the last the tail; so the most popular one is head, and equally popular ones share a bucket.
    """
    return buckets_of_counts(Counter(degrees))


def buckets_of_counts(entities: Mapping[int, int]) -> dict[int, str]:
    """The same from how many entities have each degree."""
    total, before = sum(degree * number for degree, number in entities.items()), 0
    buckets: dict[int, str] = {}
    for degree in sorted(entities, reverse=True):
        third = len(BUCKETS) * before // total if total else len(BUCKETS)
        buckets[degree] = BUCKETS[min(third, len(BUCKETS) - 1)]
        before += degree * entities[degree]
    return buckets
