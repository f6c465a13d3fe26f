"""Where the gate looks for control facts: a few of each relation first, then those relations that the base knows."""

import polars as pl

from kp.gate.questions import LEAST_ROUND, MOST_ROUND, SCOUTS, next_round

RELATIONS = ("capital", "director", "symbol")
POOL = pl.DataFrame(
    {"fact_id": [f"{relation}-{place}" for place in range(300) for relation in RELATIONS], "relation": list(RELATIONS) * 300}
)


def knows(fact_id: str) -> bool:
    """A model that knows every second capital, every symbol, and no director."""
    relation, place = fact_id.split("-")
    return relation == "symbol" or (relation == "capital" and int(place) % 2 == 0)


def test_first_round_has_a_few_facts_of_each_relation_in_the_order_of_the_draw() -> None:
    assert sorted(next_round(POOL, {}, 100)) == sorted(f"{relation}-{place}" for relation in RELATIONS for place in range(SCOUTS))


def test_later_rounds_leave_out_what_the_base_does_not_know_and_end_with_as_many_as_wanted() -> None:
    known: dict[str, bool] = {}
    rounds = 0
    while chosen := next_round(POOL, known, 150):
        assert not set(chosen) & known.keys()
        assert len(chosen) <= MOST_ROUND + len(RELATIONS)
        known |= {fact_id: knows(fact_id) for fact_id in chosen}
        rounds += 1
    assert sum(known.values()) >= 150
    assert sum(fact_id.startswith("director") for fact_id in known) == SCOUTS
    assert len(known) < 2 * 150
    assert rounds < 8


def test_search_ends_where_the_base_knows_nothing_or_everything_was_asked() -> None:
    known: dict[str, bool] = {}
    while chosen := next_round(POOL, known, 50):
        known |= dict.fromkeys(chosen, False)
    assert len(known) <= len(POOL)
    few = POOL.head(9)
    assert next_round(few, dict.fromkeys(few["fact_id"], True), 100) == []


def test_rounds_are_large_enough_to_fill_a_pass() -> None:
    known = {f"symbol-{place}": True for place in range(99)}
    assert len(next_round(POOL, known, 100)) >= LEAST_ROUND
