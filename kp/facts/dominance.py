"""Thin out relations in which one object answers most facts.

If 83% of films are in English, a model that says "English" to every question about film languages seems to know most of them. With
`facts.most_of_one_object` a study measures fewer facts with such an object. Random keys decide which of them stay, as in the study's draw,
so the order of rows in the source does not matter. The keys differ from those of the draw, which would otherwise favour the facts that
stayed.
"""

from collections import defaultdict
from collections.abc import Sequence

import pyarrow as pa

from kp.facts.selection import random_key
from kp.facts.validation import rejected_rows
from kp.metrics.matching import normalise
from kp.schema import QUARANTINED


def without_dominance(
    facts: pa.Table, rejected: pa.Table, share: float, seed: int, source_rows: Sequence[int] | None = None
) -> tuple[pa.Table, pa.Table]:
    """The result of `check_facts` without the facts by which an object exceeds `share` (above 0, at most 1) of its relation.

    Afterwards no object has more than `share` of the remaining facts of its relation, unless it has a single fact, which does not help
    guessing. In a random subset of these facts the share is the same except for chance. Objects are compared as the matchers compare
    answers. The rejected facts are added to QUARANTINED. `source_rows` are those that `check_facts` got, 1 to n if absent.
    """
    left_out = _left_out(facts, share, seed)
    if not left_out:
        return facts, rejected
    before = set(rejected_rows(rejected))
    rows = [row for row in source_rows or range(1, facts.num_rows + len(before) + 1) if row not in before]  # of each fact
    ids, objects = facts["fact_id"].to_pylist(), facts["object"].to_pylist()
    listed = [
        {"row": rows[place], "fact_id": ids[place], "column": "object", "reason": reason, "value": objects[place]}
        for place, reason in sorted(left_out.items())
    ]
    everything = pa.concat_tables([rejected, pa.Table.from_pylist(listed, schema=QUARANTINED)]).sort_by("row")
    return facts.take([place for place in range(facts.num_rows) if place not in left_out]), everything


def _left_out(facts: pa.Table, share: float, seed: int) -> dict[int, str]:
    """Indices of the facts to leave out, and why."""
    relations: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    objects, ids = facts["object"].to_pylist(), facts["fact_id"].to_pylist()
    for place, (relation, object_) in enumerate(zip(facts["relation"].to_pylist(), objects, strict=True)):
        relations[relation][normalise(object_) or object_].append(place)
    left_out: dict[int, str] = {}
    for relation, having in relations.items():
        whole = sum(map(len, having.values()))
        most = _most_of_each([len(places) for places in having.values()], share)
        for places in having.values():
            reason = (
                f"has the object of too many facts of its relation '{objects[places[0]]}', {len(places) / whole:.1%} of {relation}, above "
                f"facts.most_of_one_object = {share:g}"
            )
            places.sort(key=lambda place: random_key(seed, f"dominance {ids[place]}"))
            left_out.update((place, reason) for place in places[most:])
    return left_out


def _most_of_each(counts: list[int], share: float) -> int:
    """The largest m such that objects with `counts` facts, cut to m each, have at most `share` of what is left; 1 if there is none.

    The possible m are consecutive from 1, because the sum of the cut counts is concave in m, and 0 at 0.
    """
    least, most = 1, max(counts)
    while least < most:
        middle = (least + most + 1) // 2
        fits = middle <= share * sum(min(count, middle) for count in counts) + 1e-9
        least, most = (middle, most) if fits else (least, middle - 1)
    return least
