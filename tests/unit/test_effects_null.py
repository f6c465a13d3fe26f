"""What the effects show where nothing happened, and where the harm is known: simulations of whole outcomes tables.

The fast ones run with the unit tests; those of 2,000 simulations are marked slow. A test prints the figures it found; `-s` shows them.
"""

from collections.abc import Callable, Iterator

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kp.metrics.effect_summary import effect_table, estimate_effect
from kp.metrics.effects import CROSSED_FALLS, CROSSED_RISES, NET_CHANGE, Effect, fact_effects, on_categories, rows_of
from kp.metrics.intervals import Estimate
from kp.metrics.shifts import Shift
from kp.metrics.verdicts import harm_of, judge
from kp.vocabulary import EffectKind, FactSubset, Verdict
from tests.made_up_outcomes import ASKED, CLUSTER_SIZES, facts_in, outcomes, simulate_harm, simulate_knowledge

CLUSTERS = np.repeat(np.arange(len(CLUSTER_SIZES)), CLUSTER_SIZES)
FACTS = CLUSTERS.size
SIMULATIONS, BLOCK = 2000, 100
SAME_FALLS = Effect(EffectKind.SAME_PROMPT, Shift.NEGATIVE)
Simulated = tuple[dict[str, np.ndarray], dict[str, dict[str, np.ndarray]]]
"""Counts of the base and of each trial by shot set, of shape (simulations, facts)."""


def ask(random: np.random.Generator, known: np.ndarray, *shot_sets: str) -> dict[str, np.ndarray]:
    return {shot_set: random.binomial(ASKED, known) for shot_set in shot_sets}


def exchangeable(random: np.random.Generator, simulations: int) -> Simulated:
    """An adapter that knows what the base knows and answers by its own chance; prompts of one set are all a little easier or harder."""
    known = simulate_knowledge(random, simulations, CLUSTERS)
    by_set = {shot_set: known ** np.exp(0.2 * random.standard_normal((simulations, 1))) for shot_set in ("S0", "S1", "S2")}
    base = {shot_set: random.binomial(ASKED, chance) for shot_set, chance in by_set.items()}
    return base, {"t": {shot_set: random.binomial(ASKED, by_set[shot_set]) for shot_set in ("S1", "S2")}}


def undirected(random: np.random.Generator, simulations: int) -> Simulated:
    """An adapter that repeats the base's answers, but for a tenth of the facts, which it answers anew by the base's own chances."""
    known = simulate_knowledge(random, simulations, CLUSTERS)
    base = ask(random, known, "S0", "S1", "S2")
    anew = random.random(known.shape) < 0.1
    return base, {"t": {shot_set: np.where(anew, random.binomial(ASKED, known), base[shot_set]) for shot_set in ("S1", "S2")}}


def harmful(runs: int, run_spread: float) -> Callable[[np.random.Generator, int], Simulated]:
    """Adapters that lose 5 points of knowledge on average, more in some clusters and runs than in others."""

    def simulate(random: np.random.Generator, simulations: int) -> Simulated:
        known = simulate_knowledge(random, simulations, CLUSTERS)
        harmed = {f"t{run}": simulate_harm(random, known, CLUSTERS, 0.05, run_spread) for run in range(runs)}
        return ask(random, known, "S0", "S1", "S2"), {trial: ask(random, left, "S1", "S2") for trial, left in harmed.items()}

    return simulate


def simulated_effects(simulate: Callable[[np.random.Generator, int], Simulated], count: int, seed: int) -> Iterator[pl.DataFrame]:
    """FACT_EFFECTS of each simulation. Many go through `fact_effects` at once, as facts of one large study."""
    random = np.random.default_rng(seed)
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        base, trials = simulate(random, size)
        flat = {trial: {name: counts.ravel() for name, counts in given.items()} for trial, given in trials.items()}
        table = outcomes({name: counts.ravel() for name, counts in base.items()}, flat)
        effects = fact_effects(table, facts_in(np.tile(CLUSTERS, size)))
        number = (pl.col("fact_id").str.slice(1).cast(pl.Int64) // FACTS).alias("simulation")
        wanted = effects.filter(pl.col("shift").is_null() | pl.col("shift").is_in([Shift.NEGATIVE.value, Shift.POSITIVE.value]))
        yield from (part for _, part in wanted.with_columns(number).sort("simulation").group_by("simulation", maintain_order=True))


def estimates(
    parts: Iterator[pl.DataFrame], *effects: Effect, watch: Callable[[pl.DataFrame], None] = lambda part: None
) -> dict[Effect, list[Estimate]]:
    """The estimate of each effect in each simulation; `watch` sees each simulation's FACT_EFFECTS."""
    found: dict[Effect, list[Estimate]] = {effect: [] for effect in effects}
    for part in parts:
        watch(part)
        for effect in effects:
            estimate = estimate_effect(rows_of(part, effect), effect)
            assert estimate is not None
            found[effect].append(estimate)
    return found


def z_scores(found: list[Estimate], truth: float = 0.0) -> np.ndarray:
    return np.array([(estimate.value - truth) / estimate.standard_error if estimate.standard_error else 0.0 for estimate in found])


def mean_is(found: list[Estimate], truth: float) -> bool:
    """Whether the mean of the estimates is `truth` to within four standard errors of the simulation."""
    values = np.array([estimate.value for estimate in found])
    return bool(abs(values.mean() - truth) < 4 * values.std(ddof=1) / np.sqrt(values.size))


def coverage(found: list[Estimate], truth: float) -> float:
    limits = [estimate.limits() for estimate in found]
    return float(np.mean([pair is not None and pair[0] <= truth <= pair[1] for pair in limits]))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(*[st.sampled_from([0, 0, 3, 7, 10, 10])] * 3), min_size=1, max_size=40))
def test_effects_of_an_adapter_that_changes_nothing_are_exactly_0(counts: list[tuple[int, int, int]]) -> None:
    s0, s1, s2 = (list(column) for column in zip(*counts, strict=True))
    effects = fact_effects(outcomes({"S0": s0, "S1": s1, "S2": s2}, {"t": {"S1": s1, "S2": s2}}), facts_in(range(len(s0))))
    assert set(effects["value"]) == {0.0}
    for subset in (FactSubset.ALL, FactSubset.CONTROL):
        table = effect_table(effects, subset)
        assert set(table["value"].drop_nulls()) == {0.0}
        assert set(table["verdict"].drop_nulls()) <= {"within_margin", "not_resolved"}


@pytest.mark.parametrize(("facts", "verdict"), [(150, "not_resolved"), (400, "within_margin")])
def test_verdict_on_an_adapter_that_changes_nothing_depends_on_the_facts_alone(facts: int, verdict: str) -> None:
    base = ask(np.random.default_rng(0), np.random.default_rng(1).beta(0.6, 0.6, facts), "S0", "S1", "S2")
    effects = fact_effects(outcomes(base, {"t": {name: base[name] for name in ("S1", "S2")}}), facts_in(range(facts)))
    table = effect_table(effects, FactSubset.CONTROL).filter(~pl.col("at_risk"))
    assert set(table["verdict"].drop_nulls()) == {verdict}
    assert set(table["value"]) == {0.0}
    assert table["upper"].min() > 0  # no change seen is not a certain 0


def test_effects_of_an_exchangeable_adapter_have_mean_0_in_a_few_simulations() -> None:
    found = estimates(simulated_effects(exchangeable, 100, seed=0), NET_CHANGE, CROSSED_FALLS, CROSSED_RISES)
    for of_effect in found.values():
        assert mean_is(of_effect, 0.0)
        assert np.mean(np.abs(z_scores(of_effect)) > 2) <= 0.12


def test_known_harm_is_covered_in_a_few_simulations() -> None:
    found = estimates(simulated_effects(harmful(1, 0.0), 100, seed=0), NET_CHANGE)[NET_CHANGE]
    assert mean_is(found, -0.05)
    assert coverage(found, -0.05) >= 0.88


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_effects_of_an_exchangeable_adapter_reject_at_their_level() -> None:
    at_risk: list[Estimate] = []

    def watch(part: pl.DataFrame) -> None:
        estimate = estimate_effect(on_categories(rows_of(part, CROSSED_FALLS), CROSSED_FALLS.at_risk), CROSSED_FALLS)
        assert estimate is not None
        at_risk.append(estimate)

    parts = simulated_effects(exchangeable, SIMULATIONS, seed=1)
    found = estimates(parts, NET_CHANGE, CROSSED_FALLS, CROSSED_RISES, SAME_FALLS, watch=watch)
    same = found.pop(SAME_FALLS)
    named = {str(effect): of_effect for effect, of_effect in found.items()} | {"crossed negative at risk": at_risk}
    for name, of_effect in named.items():
        rejected = float(np.mean(np.abs(z_scores(of_effect)) > 2))
        print(f"\nexchangeable, {name}: mean {np.mean([e.value for e in of_effect]):+.5f}, |z| > 2 in {rejected:.2%}")
        assert mean_is(of_effect, 0.0)
        assert 0.03 <= rejected <= 0.07
    print(f"exchangeable, same-prompt falls: {np.mean([e.value for e in same]):.3f} of all facts")
    verdicts = [judge(harm_of(estimate, CROSSED_FALLS)).verdict for estimate in found[CROSSED_FALLS]]
    assert np.mean([verdict is Verdict.HARM_SHOWN for verdict in verdicts]) <= 0.035


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_effects_of_small_undirected_changes_are_0_where_same_prompt_counts_are_not() -> None:
    subtracted: list[bool] = []

    def watch(part: pl.DataFrame) -> None:
        """Shifts on the same prompts minus the base's between S1 and S2: is this significantly below 0?"""
        noise = rows_of(part, CROSSED_FALLS)["base"].to_numpy()
        excess = rows_of(part, SAME_FALLS)["value"].to_numpy() - noise
        subtracted.append(bool(stats.ttest_1samp(excess, 0, alternative="less").pvalue < 0.025))

    parts = simulated_effects(undirected, SIMULATIONS, seed=2)
    found = estimates(parts, NET_CHANGE, CROSSED_FALLS, CROSSED_RISES, SAME_FALLS, watch=watch)
    same = np.array([estimate.value for estimate in found.pop(SAME_FALLS)])
    print(f"\nundirected, same-prompt falls: {same.mean():.4f} of all facts")
    print(f"undirected, same-prompt falls minus the base's own: significantly below 0 in {np.mean(subtracted):.1%}")
    for effect, of_effect in found.items():
        rejected = float(np.mean(np.abs(z_scores(of_effect)) > 2))
        print(f"undirected, {effect}: mean {np.mean([e.value for e in of_effect]):+.5f}, |z| > 2 in {rejected:.2%}")
        assert mean_is(of_effect, 0.0)
        assert rejected <= 0.07  # three facts change on average: too few for a normal z, which therefore stays below 2 more often
    assert same.mean() > 0.005
    assert np.mean(subtracted) > 0.9


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("runs", "run_spread"), [(1, 0.0), (3, 0.0), (3, 0.01)])
def test_known_harm_of_five_points_is_covered_by_95_percent_of_intervals(runs: int, run_spread: float) -> None:
    found = estimates(simulated_effects(harmful(runs, run_spread), SIMULATIONS, seed=3), NET_CHANGE, CROSSED_FALLS)
    truths = {NET_CHANGE: -0.05, CROSSED_FALLS: true_crossed_falls(run_spread)}
    for effect, of_effect in found.items():
        covered = coverage(of_effect, truths[effect])
        width = np.mean([limits[1] - limits[0] for limits in (estimate.limits() for estimate in of_effect) if limits])
        print(
            f"\n5 points, {runs} runs, spread {run_spread}, {effect}: truth {truths[effect]:+.4f}, covered {covered:.2%}, width {width:.4f}"
        )
        assert mean_is(of_effect, truths[effect])
        assert 0.93 <= covered <= 0.97


def true_crossed_falls(run_spread: float) -> float:
    """P(A < B) - P(B' < B) over many facts, from the chances of each category."""
    random = np.random.default_rng(4)
    known = simulate_knowledge(random, 5000, CLUSTERS)
    left = simulate_harm(random, known, CLUSTERS, 0.05, run_spread)
    return float((_falls(known, left) - _falls(known, known)).mean())


def _falls(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The chance of a lower category after than before, ten answers each."""
    highly, unknown = before**ASKED, (1 - before) ** ASKED
    return highly * (1 - after**ASKED) + (1 - highly - unknown) * (1 - after) ** ASKED
