"""Changes of refusals, paired by fact, and what they show where nothing happened."""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
import pytest

from kp.errors import UserError
from kp.metrics.effect_summary import fact_clusters
from kp.metrics.intervals import estimate_mean
from kp.metrics.paired_tests import holm
from kp.metrics.refusal_changes import CHANGED_BELOW, refusal_changes
from kp.vocabulary import BASE
from tests.made_up_outcomes import ASKED, CLUSTER_SIZES, facts_in, outcomes

CLUSTERS = np.repeat(np.arange(len(CLUSTER_SIZES)), CLUSTER_SIZES)
FACTS = facts_in(CLUSTERS)
SIMULATIONS = 400


def refused(counts: Mapping[str, Sequence[int] | np.ndarray]) -> pl.DataFrame:
    """OUTCOMES of models by trial_id that refuse this many of ten prompts of S1, fact by fact, and all of S2."""
    nothing = {shot_set: np.zeros(len(counts[BASE]), dtype=int) for shot_set in ("S1", "S2")}
    table = outcomes(nothing, {trial_id: nothing for trial_id in counts if trial_id != BASE})
    given = {(trial_id, f"f{fact}"): int(count) for trial_id, of_model in counts.items() for fact, count in enumerate(of_model)}
    rows = table.select("trial_id", "fact_id", "shot_set").rows()
    on_s1 = [given[trial_id, fact_id] if shot_set == "S1" else ASKED for trial_id, fact_id, shot_set in rows]
    return table.with_columns(refused=pl.Series(on_s1, dtype=pl.Int32))


def test_refusal_changes_are_means_over_facts_clustered_by_relation_and_object() -> None:
    base, now = [0, 5, 10, 0] * 50, [0, 5, 4, 2] * 50
    found = refusal_changes(refused({BASE: base, "t": now}), FACTS).row(0, named=True)
    expected = estimate_mean((np.array(now) - base) / ASKED, fact_clusters(FACTS))
    assert found["value"] == pytest.approx(-0.1)
    assert found["standard_error"] == pytest.approx(expected.standard_error)
    assert (found["lower"], found["upper"]) == pytest.approx(expected.limits())
    assert found["p_holm"] < 1e-4


def test_refusal_changes_of_an_adapter_that_refuses_what_the_base_does_are_exactly_0() -> None:
    base = np.random.default_rng(0).integers(0, 11, CLUSTERS.size)
    found = refusal_changes(refused({BASE: base, "t": base, "u": 0 * base}), FACTS)
    assert found["trial_id"].to_list() == ["t", "u"]
    assert found.filter(trial_id="t").select("value", "p_holm").rows() == [(0.0, 1.0)]
    assert found.filter(trial_id="u")["p_holm"].item() < CHANGED_BELOW


def test_refusal_changes_holm_is_over_all_trials_and_one_alone_is_judged_by_its_interval() -> None:
    base = np.zeros(CLUSTERS.size, dtype=int)
    some = base + 10 * (np.arange(base.size) > base.size - 13)
    alone, among = (refusal_changes(refused({BASE: base, "t": some} | others), FACTS) for others in ({}, {"u": base, "v": base}))
    (p_value,) = alone["p_holm"]
    assert p_value < CHANGED_BELOW
    assert alone["lower"].item() > 0
    assert among["p_holm"].to_list() == pytest.approx(holm([p_value, 1.0, 1.0]))
    assert among.filter(trial_id="t")["lower"].to_list() == alone["lower"].to_list()


def test_refusal_changes_of_an_adapter_that_refuses_as_often_exceed_two_errors_in_one_of_twenty() -> None:
    random = np.random.default_rng(1)
    habit = random.beta(0.3, 2, (SIMULATIONS, len(CLUSTER_SIZES)))[:, CLUSTERS]
    base, now = (random.binomial(ASKED, habit) for _ in range(2))
    beyond = []
    for one, other in zip(base, now, strict=True):
        found = refusal_changes(refused({BASE: one, "t": other}), FACTS).row(0, named=True)
        beyond.append(abs(found["value"]) > 2 * found["standard_error"])
    print(f"\n|z| > 2 in {np.mean(beyond):.2%}")
    assert 0.02 <= np.mean(beyond) <= 0.08


def test_refusal_changes_of_the_base_alone_and_of_nothing_are_empty() -> None:
    alone = refused({BASE: [0, 1]})
    assert refusal_changes(alone, FACTS).is_empty()
    assert refusal_changes(alone.clear(), FACTS).columns == ["trial_id", "value", "standard_error", "lower", "upper", "p_holm"]


def test_refusal_changes_without_a_row_of_the_base_name_the_fact() -> None:
    table = refused({BASE: [0, 1, 2], "t": [0, 1, 2]})
    lacking = table.filter((pl.col("trial_id") != BASE) | (pl.col("fact_id") != "f1"))
    for outcomes_given, facts in ((lacking, FACTS), (table, FACTS.filter(pl.col("fact_id") != "f1"))):
        with pytest.raises(UserError, match="fact 'f1' of trial 't' on S1 has no row of the base, or is none of the facts"):
            refusal_changes(outcomes_given, facts)
