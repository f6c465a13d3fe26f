"""What kp says of raw answers is what plain arithmetic says of them."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from kp.metrics.answer_changes import answer_changes
from kp.metrics.compared_answers import ComparedAnswers
from kp.metrics.locality import locality
from kp.metrics.reasons import reasons
from tests.independent_answers import Answers, released_reasons, table_4, unchanged
from tests.made_up_answers import compared_of, facts_of, published


def shuffled(seed: int) -> ComparedAnswers:
    """Sixty facts of four relations in two domains; what either model says is drawn from few answers, of which one refuses."""
    random = np.random.default_rng(seed)
    ids = [f"f{number:02d}" for number in range(60)]
    objects = {fact_id: f"Object {random.integers(0, 9)}" for fact_id in ids}
    domains = {fact_id: f"domain {random.integers(0, 4)}" for fact_id in ids}
    facts = facts_of(objects, domains).with_columns(
        pl.Series("domain", [{"domain 0": "place", "domain 1": "place", "domain 2": "work"}.get(domains[fact_id]) for fact_id in ids]),
        pl.Series("subject", [f"subject {random.integers(0, 40)}" for _ in ids]),
    )

    def said() -> dict[str, str]:
        guesses = ["I found no information", "The boom", *objects.values()]
        return {fact_id: objects[fact_id] if random.random() < 0.4 else guesses[random.integers(0, len(guesses))] for fact_id in ids}

    return compared_of(facts, said(), said(), trained=random.choice(ids, size=4, replace=False).tolist(), prompts=3)


def raw(compared: ComparedAnswers) -> Answers:
    trained = compared.rows["fact_id"].to_list()
    return Answers.of(compared.base.to_dicts(), compared.adapter.to_dicts(), compared.facts.to_dicts(), trained)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_tables_of_raw_answers_are_those_of_plain_arithmetic(seed: int) -> None:
    compared = shuffled(seed)
    answers = raw(compared)
    assert_reasons_agree(compared, answers)
    sides = {"base": table_4(answers.base), "adapter": table_4(answers.adapter)}
    for row in answer_changes(compared).iter_rows(named=True):
        assert {side: row[side] for side in sides} == {side: pytest.approx(found[row["measure"]]) for side, found in sides.items()}
    shares = {row["neighbours"]: row["value"] for row in locality(compared).filter(measure="unchanged").iter_rows(named=True)}
    assert shares == {group: pytest.approx(share) for group, share in unchanged(answers).items()}


def test_published_reasons_are_those_of_plain_arithmetic() -> None:
    compared = published()
    assert_reasons_agree(compared, raw(compared))


def test_plain_arithmetic_sees_another_trained_fact() -> None:
    compared = published()
    other = replace(compared, rows=compared.rows.with_columns(fact_id=pl.lit("u0020"), target=pl.lit("object u0020")))
    assert released_reasons(raw(other), "UK->HK") != released_reasons(raw(compared), "UK->HK")


def assert_reasons_agree(compared: ComparedAnswers, answers: Answers) -> None:
    released = reasons(compared).filter(variant="released")
    for direction in ("UK->HK", "HK->UK"):
        found = dict(released.filter(direction=direction).select("reason", "count").iter_rows())
        expected = released_reasons(answers, direction)
        assert {reason: count for reason, count in found.items() if count} == {reason: count for reason, count in expected.items() if count}
