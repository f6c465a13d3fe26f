"""What the gate says of measured tables: verdicts, the number of facts that would resolve one, and rules about single facts."""

import numpy as np
import polars as pl
import pytest

from kp.gate.judging import Harm, drift, judged, kept, knowledge, learned, needed, refusals
from kp.gate.margins import least_facts
from kp.gate.verdict import CandidateVerdict, ExitCode, GateResult, Outcome, Quantity
from kp.metrics.intervals import estimate_mean
from kp.vocabulary import Verdict

ASKED = {"S0": 2, "S1": 3, "S2": 3}


def facts_of(count: int) -> pl.DataFrame:
    return pl.DataFrame(
        {"fact_id": [f"f{i:04d}" for i in range(count)], "relation": ["r"] * count, "object": [f"o{i}" for i in range(count)]}
    )


def outcomes_of(model: str, right: np.ndarray, refused: np.ndarray | None = None) -> pl.DataFrame:
    """OUTCOMES with `right` answers of 3 to each fact on S1 and S2; the base knows all of them on S0."""
    rows = []
    for shot_set in ("S0", "S1", "S2") if model == "base" else ("S1", "S2"):
        for place, count in enumerate(right):
            asked = ASKED[shot_set]
            correct = asked if shot_set == "S0" else int(count)
            kind = "HighlyKnown" if correct == asked else "MaybeKnown" if correct else "Unknown"
            declined = 0 if refused is None else int(refused[place])
            rows.append((f"f{place:04d}", model, shot_set, "control_test", correct, asked, kind, declined))
    names = ["fact_id", "trial_id", "shot_set", "role", "correct", "asked", "category", "refused"]
    return pl.DataFrame(rows, schema=names, orient="row")


def harm_of_values(values: list[float], margin: float = 0.02) -> Harm:
    estimate = estimate_mean(values, np.arange(len(values)))
    return Harm("knowledge", "share", estimate, margin, len(values), "control facts")


def only(harm: Harm) -> Quantity:
    (quantity,) = judged([harm])
    return quantity


def test_knowledge_of_a_candidate_that_changes_no_answer_is_exactly_zero_and_passes() -> None:
    right = np.random.default_rng(0).integers(0, 4, 250)
    harm = knowledge(pl.concat([outcomes_of("base", right), outcomes_of("candidate", right)]), facts_of(250), 0.02)
    quantity = only(harm)
    assert (quantity.harm, quantity.outcome, quantity.verdict) == (0.0, Outcome.PASS, Verdict.WITHIN_MARGIN)


def test_knowledge_of_a_candidate_that_forgets_fails() -> None:
    right = np.full(250, 3)
    worse = np.where(np.arange(250) < 100, 0, 3)
    quantity = only(knowledge(pl.concat([outcomes_of("base", right), outcomes_of("candidate", worse)]), facts_of(250), 0.02))
    assert quantity.harm == pytest.approx(0.4)
    assert quantity.outcome is Outcome.FAIL
    assert "100 facts lost more than half" in quantity.note


def test_knowledge_has_mean_zero_for_answers_exchangeable_with_the_bases() -> None:
    # The null test: both draw each answer by the fact's own chance, so nothing is lost, and the gate says so or leaves it open.
    random = np.random.default_rng(1)
    values, outcomes = [], []
    for _ in range(60):
        chances = random.uniform(0, 1, 200)
        base, other = (random.binomial(3, chances) for _ in range(2))
        harm = knowledge(pl.concat([outcomes_of("base", base), outcomes_of("candidate", other)]), facts_of(200), 0.02)
        values.append(harm.estimate.value)
        outcomes.append(only(harm).outcome)
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(len(values))
    assert outcomes.count(Outcome.FAIL) <= 3


def test_refusals_count_the_rise_alone_as_harm() -> None:
    right = np.full(300, 3)
    refusing, answering = np.full(300, 3), np.zeros(300, dtype=int)

    def outcome(base: np.ndarray, other: np.ndarray) -> Quantity:
        both = pl.concat([outcomes_of("base", right, base), outcomes_of("candidate", right, other)])
        return only(refusals(both, facts_of(300), 0.02))

    more, less = outcome(answering, refusing), outcome(refusing, answering)
    assert (more.harm, more.outcome) == (1.0, Outcome.FAIL)
    assert (less.harm, less.outcome) == (-1.0, Outcome.PASS)
    assert more.note == "300 facts refused more often, 0 less"


def test_drift_leaves_questions_out_and_counts_by_token() -> None:
    texts = pl.DataFrame(
        {"register": ["prose", "code", "news", "questions"], "tokens": [100, 300, 100, 10], "kl": [2.0, 6.0, 2.0, 99.0]}
    ).with_columns(pl.lit(5.0).alias("nll"), pl.lit(5.0).alias("base_nll"))
    harm = drift(texts, 0.1)
    assert (harm.estimate.value, harm.n, harm.of) == (pytest.approx(0.02), 3, "texts")
    assert harm.note == "perplexity times 1.000"


@pytest.mark.parametrize(("facts", "outcome"), [(188, Outcome.NOT_RESOLVED), (189, Outcome.PASS)])
def test_least_facts_is_where_no_change_at_all_begins_to_pass(facts: int, outcome: Outcome) -> None:
    assert least_facts(0.02) == 189
    assert only(harm_of_values([0.0] * facts)).outcome is outcome


def test_needed_facts_of_twenty_unchanged_ones_are_those_that_the_margin_needs_at_least() -> None:
    quantity = only(harm_of_values([0.0] * 20))
    assert (quantity.outcome, quantity.needed) == (Outcome.NOT_RESOLVED, 189)


def test_needed_facts_resolve_a_sample_of_that_size_with_the_same_spread() -> None:
    values = [0.5, -0.5, 0.0, 0.0] * 25
    found = only(harm_of_values(values))
    assert found.outcome is Outcome.NOT_RESOLVED
    assert found.needed is not None
    repeats = -(-found.needed // 100)
    assert only(harm_of_values(values * repeats)).outcome is Outcome.PASS
    assert only(harm_of_values(values * (repeats - 2))).outcome is Outcome.NOT_RESOLVED


def test_needed_facts_are_none_where_the_harm_is_the_margin() -> None:
    estimate = estimate_mean([0.04, 0.0] * 50, np.arange(100))
    assert needed(estimate, estimate.value, 100) is None


def test_fails_of_one_candidate_are_corrected_for_their_number() -> None:
    random = np.random.default_rng(3)
    values = list(random.normal(0.0, 0.3, 400))
    shift = 0.02 + 2.2 * np.std(values) / 20 - np.mean(values)
    beyond = harm_of_values([min(1.0, max(-1.0, value + shift)) for value in values])
    fine = [harm_of_values([0.0] * 300) for _ in range(3)]
    assert only(beyond).outcome is Outcome.FAIL
    assert judged([beyond, *fine])[0].outcome is Outcome.NOT_RESOLVED


def test_keep_names_lost_facts_and_fails_beyond_the_tolerance() -> None:
    base, other = {"a": 1.0, "b": 0.5, "c": 0.2}, {"a": 0.2, "b": 0.5, "c": 0.0}
    questions = {"a": "Who?", "b": "What?", "c": "Where?"}
    check = kept(base, other, questions, 0)
    assert (check.outcome, check.facts) == (Outcome.FAIL, ("Who?",))
    assert check.summary == "1 of 2 facts lost, at most 0 may be; 1 others the base does not know, which cannot be lost"
    assert kept(base, other, questions, 1).outcome is Outcome.PASS


def test_learned_needs_the_share_and_names_what_is_missing() -> None:
    check = learned({"a": 1.0, "b": 0.0}, {"a": 1.0, "b": 0.25}, {"a": "Who?", "b": "What?"}, 0.9)
    assert (check.outcome, check.facts) == (Outcome.FAIL, ("What?",))
    assert check.summary == "62.5% of answers to 2 facts right, at least 90% must be; the base knew 1 of them already"
    assert learned({"a": 0.0}, {"a": 1.0}, {"a": "Who?"}, 1.0).outcome is Outcome.PASS


@pytest.mark.parametrize(
    ("values", "code"),
    [([[0.0] * 200], ExitCode.PASS), ([[0.0] * 200, [0.0] * 20], ExitCode.NOT_RESOLVED), ([[0.0] * 20, [1.0] * 200], ExitCode.FAIL)],
)
def test_exit_code_is_that_of_the_worst_candidate(values: list[list[float]], code: ExitCode) -> None:
    candidates = tuple(CandidateVerdict("c", "d", judged([harm_of_values(one)])) for one in values)
    assert GateResult("m", "r", 200, 6, "", candidates).exit_code is code
