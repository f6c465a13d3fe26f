"""From measured tables to judged quantities. Pure: tables and estimates in, verdicts out.

A quantity passes if its 95% interval lies below the margin, fails if it lies above, and is not resolved otherwise. A candidate passes only
if every quantity does, so the chance to pass one that is beyond any margin is at most 2.5% without a correction (an intersection-union
test). It fails if any quantity does, so the fails of one candidate are corrected by Holm: the chance that a candidate within all margins
fails is at most 2.5%. Candidates are decisions of their own and not corrected for each other.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl

from kp.gate.verdict import CONTROL_FACTS, Check, Outcome, Quantity
from kp.metrics.drift import QUESTIONS
from kp.metrics.effect_summary import CLUSTER, estimate_effect
from kp.metrics.effects import NET_CHANGE, fact_effects
from kp.metrics.intervals import CONFIDENCE, Estimate, Support, estimate_difference, estimate_mean, estimate_ratio
from kp.metrics.paired_tests import holm
from kp.metrics.verdicts import harm_of, judge
from kp.vocabulary import BASE, ShotSet

MEASURED = (ShotSet.S1, ShotSet.S2)
_MOST = 100_000_000  # facts that a number is looked for among


@dataclass(frozen=True)
class Harm:
    """An estimate to be judged; larger is worse."""

    name: str
    unit: str
    estimate: Estimate
    margin: float
    n: int
    of: str
    note: str = ""


def judged(harms: Sequence[Harm]) -> tuple[Quantity, ...]:
    """The verdicts on all harms of one candidate."""
    beyond = holm([harm.estimate.p_above(harm.margin) for harm in harms])
    return tuple(_quantity(harm, p) for harm, p in zip(harms, beyond, strict=True))


def _quantity(harm: Harm, p_beyond: float) -> Quantity:
    limits = harm.estimate.limits()
    lower, upper = limits or (None, None)
    outcome = Outcome.PASS if upper is not None and upper < harm.margin else Outcome.NOT_RESOLVED
    if p_beyond < (1 - CONFIDENCE) / 2:
        outcome = Outcome.FAIL
    return Quantity(
        name=harm.name,
        unit=harm.unit,
        harm=harm.estimate.value,
        lower=lower,
        upper=upper,
        margin=harm.margin,
        outcome=outcome,
        verdict=judge(harm.estimate, harm.margin).verdict,
        n=harm.n,
        of=harm.of,
        needed=needed(harm.estimate, harm.margin, harm.n) if outcome is Outcome.NOT_RESOLVED else None,
        note=harm.note,
    )


def needed(estimate: Estimate, margin: float, n: int) -> int | None:
    """How many of what is counted by `n` would resolve this harm, if value and spread stay as found; None if no number would."""
    if estimate.standard_error is None or estimate.clusters < 2:
        return None
    low, high = n, _MOST
    if not _resolved(estimate, margin, high / n):
        return None
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _resolved(estimate, margin, middle / n) else (middle, high)
    return high


def _resolved(estimate: Estimate, margin: float, times: float) -> bool:
    """Whether the interval of as many times the sample would leave the margin out."""
    assert estimate.standard_error is not None
    degrees = None if estimate.degrees is None else estimate.degrees * times
    small = estimate.small and replace(estimate.small, size=estimate.small.size * times)
    limits = replace(estimate, standard_error=estimate.standard_error / math.sqrt(times), degrees=degrees, small=small).limits()
    return limits is not None and (limits[1] < margin or limits[0] > margin)


def knowledge(outcomes: pl.DataFrame, facts: pl.DataFrame, margin: float) -> Harm:
    """The net loss of right answers on control facts, over the same prompts of S1 and S2; OUTCOMES are of the base and one candidate."""
    rows = fact_effects(outcomes, facts, (NET_CHANGE,))
    estimate = estimate_effect(rows, NET_CHANGE)
    assert estimate is not None, "there are control facts"
    sides = [100 * float(rows[side].to_numpy().mean()) for side in ("base", "adapter")]
    lost = rows.filter((pl.col("base") >= 0.5) & (pl.col("adapter") < pl.col("base") / 2)).height
    note = f"right answers {sides[0]:.1f}% -> {sides[1]:.1f}%; {lost} facts lost more than half"
    return Harm("knowledge", "share", harm_of(estimate, NET_CHANGE), margin, rows.height, CONTROL_FACTS, note)


def refusals(outcomes: pl.DataFrame, facts: pl.DataFrame, margin: float) -> Harm:
    """The rise of the share of refused answers on control facts, over the same prompts."""
    rate = (pl.col("refused").sum() / pl.col("asked").sum()).alias("rate")
    asked = outcomes.filter(pl.col("shot_set").is_in([one.value for one in MEASURED]))
    base = asked.filter(trial_id=BASE).group_by("fact_id").agg(rate)
    candidate = asked.filter(pl.col("trial_id") != BASE).group_by("fact_id").agg(rate.alias("other"))
    pairs = base.join(candidate, on="fact_id", validate="1:1").join(facts.select("fact_id", CLUSTER), on="fact_id").sort("fact_id")
    changes = pairs["other"] - pairs["rate"]
    estimate = estimate_mean(changes, pairs["cluster"].to_numpy(), support=Support.SIGNED)
    note = f"{int((changes > 0).sum())} facts refused more often, {int((changes < 0).sum())} less"
    return Harm("refusals", "share", estimate, margin, pairs.height, CONTROL_FACTS, note)


def drift(texts: pl.DataFrame, margin: float) -> Harm:
    """KL(base || candidate) a token of neutral text (TEXT_DRIFT)."""
    read = texts.filter(pl.col("register") != QUESTIONS, pl.col("tokens") > 0)
    estimate = estimate_ratio(read["kl"], read["tokens"], (0.0, math.inf))
    change = estimate_ratio(read["nll"] - read["base_nll"], read["tokens"]).value
    note = f"perplexity times {math.exp(min(change, 700)):.3f}"
    return Harm("drift", "nats", estimate, margin, read.height, "texts", note)


def benchmark(base: pl.DataFrame, candidate: pl.DataFrame, name: str, margin: float) -> Harm:
    """The loss of one score, question by question (BENCHMARK_ITEMS of one task and metric)."""
    pairs = base.join(candidate.select("item", pl.col("score").alias("other")), on="item", validate="1:1").sort("item")
    estimate = estimate_difference(pairs["score"], pairs["other"], pairs["group"])
    sides = [100 * float(pairs[side].to_numpy().mean()) for side in ("score", "other")]
    return Harm(name, "share", estimate, margin, pairs.height, "questions", f"score {sides[0]:.1f}% -> {sides[1]:.1f}%")


def shares(outcomes: pl.DataFrame) -> dict[str, float]:
    """The share of right answers over S1 and S2 of each fact in the OUTCOMES of one model."""
    asked = outcomes.filter(pl.col("shot_set").is_in([one.value for one in MEASURED]))
    found = asked.group_by("fact_id").agg(pl.col("correct").sum() / pl.col("asked").sum())
    return dict(found.iter_rows())


def kept(base: dict[str, float], candidate: dict[str, float], questions: dict[str, str], most_lost: int) -> Check:
    """The guard of single facts: one that the base knows (half of its answers are right) is lost if more than half of these are gone."""
    known = [fact for fact, share in base.items() if share >= 0.5]
    lost = sorted((fact for fact in known if candidate[fact] < base[fact] / 2), key=lambda fact: questions[fact])
    outcome = Outcome.FAIL if len(lost) > most_lost else Outcome.PASS
    unknown = len(base) - len(known)
    rest = f"; {unknown} others the base does not know, which cannot be lost" if unknown else ""
    return Check("keep", outcome, f"{len(lost)} of {len(known)} facts lost, at most {most_lost} may be{rest}", _told(lost, questions))


def learned(base: dict[str, float], candidate: dict[str, float], questions: dict[str, str], least: float) -> Check:
    """Whether the facts that were to be learned are: the mean share of right answers to them."""
    share = sum(candidate.values()) / len(candidate)
    missing = sorted((fact for fact, right in candidate.items() if right < 0.5), key=lambda fact: questions[fact])
    known = sum(right >= 0.5 for right in base.values())
    before = f"; the base knew {known} of them already" if known else ""
    told = f"{100 * share:.1f}% of answers to {len(candidate)} facts right, at least {100 * least:g}% must be{before}"
    return Check("learned", Outcome.PASS if share >= least else Outcome.FAIL, told, _told(missing, questions))


def _told(facts: Sequence[str], questions: dict[str, str]) -> tuple[str, ...]:
    return tuple(questions[fact] for fact in facts)
