"""Why facts moved between Unknown and HighlyKnown: the reasons of table 5 of arXiv 2502.14502 (its section 5.4), in two variants.

| reason | the paper's definition |
|---|---|
| non_refusal | the base refused to answer, and the adapter's answer is right; of rises alone |
| explosion | the adapter gives an exploded answer: one to which it converges, far more often than the base |
| target | the adapter gives one of the answers of the Unknown facts that it was trained on |
| domain | the fact's relation has the domain of a relation of a trained Unknown fact |
| explained | any of these |

The paper also counts a shared range of the relation; a FACTS table has the domain alone. A fact without a domain has none of a trained one.

- `released`, what the released notebook counts: the first prompt alone, trained facts included. A refusal is an answer of the base with
  the word "information" (the notebook means "verify" too, but its condition never looks for it), and an answer is exploded if the adapter
  gives it more than 850 times over all prompts. Shares have Wilson's interval.
- `rigorous`: only facts that the trial did not train on, and all prompts: a fact's value is the share of its answers that have the reason,
  and shares are means over facts, in intervals clustered by relation and object. Refusals are those of kp.metrics.refusals, exploded
  answers those of kp.metrics.exploded.

A reason that a moved fact has is no cause, since facts that stayed may have it as often. Rigorous shares therefore stand beside a baseline.
For domains it is the share of all facts that could have moved (they were in the category of origin), with a test that permutes which
domains are the trained ones: facts of a domain move together, and are no independent draws. For targets it is what facts that were not
trained on, in place of each trained one, would explain: as many of the same relation, Unknown on S0. Which of a relation's Unknown facts a
trial trains on is drawn at random, so a permutation test of that draw is exact, except where facts are taken in file order. For
non-refusals and explosions the baseline is the share among all answers to the facts that could have moved, without a test.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import polars as pl

from kp.metrics.answer_texts import answer_texts, text_of
from kp.metrics.compared_answers import ComparedAnswers
from kp.metrics.effect_summary import fact_clusters
from kp.metrics.exploded import exploded_answers
from kp.metrics.intervals import Support, estimate_mean, wilson
from kp.metrics.reason_chance import Domains, Targets
from kp.metrics.result_schema import REASONS
from kp.metrics.shifts import UNTRAINED_ROLES, Shift
from kp.vocabulary import Category, FactRole, ShotSet

RELEASED_EXPLOSION = 850
RELEASED_REFUSAL = "information"


class Reason(StrEnum):
    """Why a fact may have moved."""

    NON_REFUSAL = "non_refusal"
    EXPLOSION = "explosion"
    TARGET = "target"
    DOMAIN = "domain"
    EXPLAINED = "explained"


class Variant(StrEnum):
    """Whose definitions."""

    RELEASED = "released"
    RIGOROUS = "rigorous"


ENDS = {Shift.UK_HK: (Category.UNKNOWN, Category.HIGHLY_KNOWN), Shift.HK_UK: (Category.HIGHLY_KNOWN, Category.UNKNOWN)}
REASONS_OF = {
    Shift.UK_HK: (Reason.NON_REFUSAL, Reason.EXPLOSION, Reason.TARGET, Reason.DOMAIN),
    Shift.HK_UK: (Reason.EXPLOSION, Reason.TARGET, Reason.DOMAIN),
}


def reasons(compared: ComparedAnswers) -> pl.DataFrame:
    """The REASONS of one adapter: both variants, of rises and falls; raises UserError if the tables do not belong together."""
    rows = [row for variant in (_released, _rigorous) for row in variant(compared)]
    empty = pl.DataFrame(pl.from_arrow(REASONS.empty_table()))
    return pl.DataFrame(rows, schema=empty.schema)


def _released(compared: ComparedAnswers) -> list[dict[str, Any]]:
    counts = compared.paired["text"].value_counts()
    exploded = counts.filter(pl.col("count") > RELEASED_EXPLOSION)["text"].to_list()
    targets = [text_of(target) for target in compared.taught["target"]]
    first = compared.paired.filter(pl.col("prompt_index") == pl.col("prompt_index").min())
    held = first.select(
        "fact_id",
        (pl.col("base_raw").str.contains(RELEASED_REFUSAL, literal=True) & pl.col("right")).alias(Reason.NON_REFUSAL),
        pl.col("text").is_in(exploded).alias(Reason.EXPLOSION),
        pl.col("text").is_in(targets).alias(Reason.TARGET),
    )
    flags = _with_domains(compared, held)
    rows = []
    for direction in ENDS:
        moved = flags.join(_moved(compared.moves, direction), on="fact_id", how="semi")
        rows += [_released_row(compared, direction, reason, moved) for reason in (*REASONS_OF[direction], Reason.EXPLAINED)]
    return rows


def _released_row(compared: ComparedAnswers, direction: Shift, reason: Reason, moved: pl.DataFrame) -> dict[str, Any]:
    count = int(_holding(moved, direction, reason).sum())
    lower, upper = wilson(count, moved.height) or (None, None)
    share = count / moved.height if moved.height else None
    return _row(compared, Variant.RELEASED, direction, reason) | {
        "count": float(count), "n": moved.height, "share": share, "lower": lower, "upper": upper, "baseline": None, "p_value": None,
    }  # fmt: skip


def _rigorous(compared: ComparedAnswers) -> list[dict[str, Any]]:
    exploded = _exploded(compared)
    untrained = compared.moves.filter(pl.col("role").is_in(UNTRAINED_ROLES))
    targets = _targets(compared)
    held = compared.paired.select(
        "fact_id",
        "text",
        (pl.col("base_refused") & pl.col("right")).alias(Reason.NON_REFUSAL),
        pl.col("text").is_in(list(exploded)).alias(Reason.EXPLOSION),
        pl.col("text").is_in(list(targets.taught_texts)).alias(Reason.TARGET),
        "base_refused",
    )
    flags = _with_domains(compared, held)
    rows = []
    for direction, (origin, _) in ENDS.items():
        at_risk = untrained.filter(before=origin.value)
        moved = _moved(untrained, direction)
        answers = flags.join(moved.select("fact_id"), on="fact_id", how="semi")
        chance = _baselines(compared, direction, at_risk, moved, answers, flags, targets)
        rows += [
            _rigorous_row(compared, direction, reason, moved, answers) | chance[reason]
            for reason in (*REASONS_OF[direction], Reason.EXPLAINED)
        ]
    return rows


def _exploded(compared: ComparedAnswers) -> frozenset[str]:
    """By what the base answers under all prompts but those of S1, on which it is compared, and of S0, which chose what is trained on."""
    untrained = compared.moves.filter(pl.col("role").is_in(UNTRAINED_ROLES))
    again = compared.base.filter(~pl.col("shot_set").is_in([ShotSet.S0.value, ShotSet.S1.value])).join(untrained, on="fact_id", how="semi")
    spoken = again.select("fact_id", "shot_set", "prompt_index", answer_texts(again).alias("text"))
    given = compared.paired.join(untrained, on="fact_id", how="semi")
    return exploded_answers(given.select("fact_id", pl.lit(ShotSet.S1.value).alias("shot_set"), "prompt_index", "text"), spoken)


def _rigorous_row(
    compared: ComparedAnswers, direction: Shift, reason: Reason, moved: pl.DataFrame, answers: pl.DataFrame
) -> dict[str, Any]:
    named = _row(compared, Variant.RIGOROUS, direction, reason)
    if moved.is_empty():
        return named | {"count": 0.0, "n": 0, "share": None, "lower": None, "upper": None}
    values = answers.select("fact_id", _holding(answers, direction, reason).alias("held")).group_by("fact_id").agg(pl.col("held").mean())
    of_facts = moved.join(values, on="fact_id", how="left", maintain_order="left")
    estimate = estimate_mean(of_facts["held"].to_numpy(), fact_clusters(of_facts), support=Support.COUNT)
    lower, upper = estimate.limits() or (None, None)
    count = float(of_facts["held"].sum())
    return named | {"count": count, "n": moved.height, "share": estimate.value, "lower": lower, "upper": upper}


def _baselines(
    compared: ComparedAnswers,
    direction: Shift,
    at_risk: pl.DataFrame,
    moved: pl.DataFrame,
    answers: pl.DataFrame,
    flags: pl.DataFrame,
    targets: Targets,
) -> Mapping[Reason, dict[str, float | None]]:
    """Columns `baseline` and `p_value` of each reason; null without facts."""
    nothing: dict[str, float | None] = {"baseline": None, "p_value": None}
    found = dict.fromkeys(Reason, nothing)
    if moved.is_empty():
        return found
    of_risk = flags.join(at_risk, on="fact_id", how="semi")
    found[Reason.EXPLOSION] = nothing | {"baseline": _mean(of_risk[Reason.EXPLOSION])}
    found[Reason.NON_REFUSAL] = nothing | {"baseline": _mean(of_risk["base_refused"])}
    domains = Domains(compared.taught_domains, at_risk["domain"].to_list(), moved["domain"].to_list())
    found[Reason.DOMAIN] = {"baseline": domains.baseline, "p_value": domains.p_value()}
    baseline, p_value = targets.chance(answers["fact_id"].to_list(), answers["text"].to_list())
    found[Reason.TARGET] = {"baseline": baseline, "p_value": p_value}
    return found


def _targets(compared: ComparedAnswers) -> Targets:
    """Trained Unknown facts, and those that could have been in their place."""
    drawable = (FactRole.TRAINED.value, FactRole.UNTOUCHED.value)
    taught = set(compared.taught["fact_id"])
    pool = compared.moves.filter(
        (pl.col("role").is_in(drawable) & (pl.col("s0") == Category.UNKNOWN.value)) | pl.col("fact_id").is_in(list(taught))
    )
    named = pool.join(compared.facts.select("fact_id", "answers"), on="fact_id", how="left", maintain_order="left")
    texts = [frozenset(filter(None, map(text_of, answers))) for answers in named["answers"]]
    return Targets(named["fact_id"].to_list(), named["relation"].to_list(), texts, taught)


def _with_domains(compared: ComparedAnswers, held: pl.DataFrame) -> pl.DataFrame:
    shared = pl.col("domain").is_in(list(compared.taught_domains)).fill_null(value=False).alias(Reason.DOMAIN)
    return held.join(compared.moves.select("fact_id", shared), on="fact_id", how="left", maintain_order="left")


def _moved(moves: pl.DataFrame, direction: Shift) -> pl.DataFrame:
    before, after = ENDS[direction]
    return moves.filter(before=before.value, after=after.value)


def _holding(flags: pl.DataFrame, direction: Shift, reason: Reason) -> pl.Series:
    """Whether the reason holds, row by row."""
    among = REASONS_OF[direction] if reason is Reason.EXPLAINED else (reason,)
    return flags.select(pl.any_horizontal([pl.col(name) for name in among]).alias("held"))["held"]


def _row(compared: ComparedAnswers, variant: Variant, direction: Shift, reason: Reason) -> dict[str, Any]:
    return {"trial_id": compared.trial_id, "variant": variant.value, "direction": direction.value, "reason": reason.value}


def _mean(held: pl.Series) -> float:
    return float(held.cast(pl.Float64).to_numpy().mean())
