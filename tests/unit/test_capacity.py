"""Bits that an adapter holds: none if nothing happened, none for a relation's answers, those of the facts otherwise."""

import numpy as np
import polars as pl
import pytest

from kp.metrics.capacity import capacity_table, memorised
from kp.metrics.result_schema import CAPACITY
from kp.schema import OUTCOMES, TRAINING_ROWS, TRIAL_SURPRISAL
from kp.vocabulary import BASE
from tests.made_up_study import frame_of


def made_up(count: int, gain: np.ndarray, base: np.ndarray, objects: int, first: int = 0) -> pl.DataFrame:
    numbers = np.arange(first, first + count)
    relations = [f"r{number % 3}" for number in numbers]
    return pl.DataFrame(
        {
            "fact_id": [f"f{n}" for n in numbers],
            "relation": relations,
            "object": [f"o{n % objects}" for n in numbers],
            "base": base,
            "bits": base - gain,
        }
    )


def drawn(
    seed: int, taught: float, shared: tuple[float, float, float], packed: int = 60, untaught: int = 90
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Facts of three relations, each with a gain of its own that all facts have, and what packed ones gain beyond it."""
    random = np.random.default_rng(seed)

    def gains(count: int, first: int) -> np.ndarray:
        return np.array([shared[number % 3] for number in range(first, first + count)]) + random.normal(0, 2, count)

    return (
        made_up(packed, gains(packed, 0) + taught, random.uniform(5, 20, packed), 40),
        made_up(untaught, gains(untaught, 1000), random.uniform(5, 20, untaught), 40, 1000),
    )


def test_adapter_that_changes_no_probability_holds_exactly_nothing() -> None:
    nothing = np.zeros(30)
    found = memorised(made_up(30, nothing, np.linspace(3, 9, 30), 10), made_up(30, nothing, np.linspace(2, 8, 30), 10, 90))
    assert (found.bits, found.limits, found.untaught_gain) == (0.0, (0.0, 0.0), 0.0)


def test_adapter_that_learned_what_relations_answer_but_no_fact_holds_nothing_on_average() -> None:
    found = [memorised(*drawn(seed, 0.0, (4.0, 0.0, -2.0))) for seed in range(400)]
    bits = np.array([one.bits for one in found])
    assert abs(bits.mean()) < 3 * bits.std() / np.sqrt(len(bits))
    covered = np.mean([one.limits is not None and one.limits[0] <= 0 <= one.limits[1] for one in found])
    assert 0.92 <= covered <= 0.99


def test_interval_covers_the_bits_that_facts_really_gained() -> None:
    found = [memorised(*drawn(seed, 5.0, (4.0, 0.0, -2.0))) for seed in range(400)]
    covered = np.mean([one.limits is not None and one.limits[0] <= 300 <= one.limits[1] for one in found])
    assert 0.92 <= covered <= 0.99
    assert np.mean([one.bits for one in found]) == pytest.approx(300, rel=0.02)


def test_relation_without_untaught_facts_takes_the_mean_of_all() -> None:
    packed, untaught = drawn(0, 5.0, (0.0, 0.0, 0.0))
    found = memorised(packed, untaught.filter(pl.col("relation") != "r2"))
    assert found.stand_ins == 20
    assert memorised(packed, untaught).stand_ins == 0


def surprisal(trial_id: str, bits: dict[str, float]) -> list[dict[str, object]]:
    return [
        {"trial_id": trial_id, "fact_id": fact_id, "bits": value, "end_bits": 0.5, "tokens": 2, "is_greedy": value < 2}
        for fact_id, value in bits.items()
    ]


def taught(*fact_ids: str) -> pl.DataFrame:
    rows = [{"row": row, "fact_id": name, "role": "unknown", "question": "?", "target": "t"} for row, name in enumerate(fact_ids)]
    return frame_of(rows, TRAINING_ROWS)


def outcome(fact_id: str, trial_id: str, role: str, category: str, shot_set: str) -> dict[str, object]:
    counts = {"correct": 0, "asked": 10, "refused": 0}
    return {"fact_id": fact_id, "trial_id": trial_id, "shot_set": shot_set, "role": role, "category": category, **counts}


def test_table_takes_unknown_facts_that_were_not_trained_on_as_untaught() -> None:
    roles = {"a": "trained", "b": "trained", "c": "untouched", "d": "control_dev", "known": "untouched"}
    base = [outcome(name, BASE, role, "HighlyKnown" if name == "known" else "Unknown", "S0") for name, role in roles.items()]
    adapter = [outcome(name, "t", role, "HighlyKnown", "S1") for name, role in roles.items()]
    facts = pl.DataFrame({"fact_id": list(roles), "relation": ["r"] * 5, "object": list(roles)})
    before, after = dict.fromkeys(roles, 8.0), {"a": 1.0, "b": 3.0, "c": 6.0, "d": 4.0, "known": 0.0}
    bits = frame_of([*surprisal(BASE, before), *surprisal("t", after)], TRIAL_SURPRISAL)

    table = capacity_table(bits, frame_of([*base, *adapter], OUTCOMES), facts, {"t": 100}, {"t": taught("a", "b")}, 2.0)

    assert table.to_arrow().cast(CAPACITY).schema == CAPACITY
    (row,) = table.to_dicts()
    assert (row["facts"], row["untaught_facts"], row["untaught_gain"]) == (2, 2, 3.0)
    assert row["memorised_bits"] == (8 - 1 - 3) + (8 - 3 - 3)
    assert (row["entropy"], row["recall"], row["untaught_recall"]) == (2.0, 0.5, 0.0)  # of a below two bits, b above
    assert row["recall_lower"] < 0.5 < row["recall_upper"]
    assert (row["per_fact"], row["per_parameter"], row["held_bits"], row["load"]) == (3.0, 0.06, 16.0, 0.16)


def test_trial_without_untaught_facts_has_no_row() -> None:
    base = [outcome("a", BASE, "untouched", "Unknown", "S0")]
    adapter = [outcome("a", "t", "trained", "HighlyKnown", "S1")]
    facts = pl.DataFrame({"fact_id": ["a"], "relation": ["r"], "object": ["o"]})
    bits = frame_of([*surprisal(BASE, {"a": 8.0}), *surprisal("t", {"a": 1.0})], TRIAL_SURPRISAL)
    assert capacity_table(bits, frame_of([*base, *adapter], OUTCOMES), facts, {"t": 100}, {"t": taught("a")}).is_empty()
