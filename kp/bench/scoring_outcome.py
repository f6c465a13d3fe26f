"""From measurements to the saved result: plain JSON, every ratio with the counts and seconds that it was computed from.

asked        source, note, questions, subjects, shots, mean_prompt_tokens
implementations
             by name: way, questions, seconds, questions_per_s, accuracy (of the questions that it answered), rounds, tokens_read
ratios       kp to hf: questions_per_s, over all rounds and in each; tokens read per question
agreement    of the questions that both answered: choices, the largest difference of a log-likelihood in nats and the tolerance, the share
             of choices with the same is_greedy and of questions with the same most likely choice
references   prefill_tokens_per_s, the median of prefill_measured
kp           tokens_per_s and its share of the reference
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from typing import Any

from kp.bench.implementations import total
from kp.bench.options import BenchmarksOptions, DType
from kp.bench.outcome import model_and_machine
from kp.bench.scoring_implementations import Scorer, ScoringTurn
from kp.bench.scoring_questions import AskedQuestions
from kp.bench.subject import Subject

TOLERANCE = {DType.FLOAT32: 1e-4, DType.BFLOAT16: 0.5}
"""Nats by which equal log-likelihoods may differ. In bfloat16 a logit has three digits, and HFLM rounds the log-likelihood itself to it."""


@dataclass
class ScoringRecord:
    """The measurements: the ways, the mean length of a prompt in tokens, a turn per round, the reference of each round."""

    ways: Mapping[Scorer, str]
    prompt_tokens: float
    turns: dict[Scorer, list[ScoringTurn]] = field(default_factory=lambda: {scorer: [] for scorer in Scorer})
    prefill: list[float] = field(default_factory=list)


def scoring_outcome(options: BenchmarksOptions, subject: Subject, asked: AskedQuestions, record: ScoringRecord) -> dict[str, Any]:
    """The result of a benchmark."""
    common = model_and_machine(subject, options.dtype)
    implementations = {scorer: _implementation(record.ways[scorer], record.turns[scorer]) for scorer in Scorer}
    kp, hf = implementations[Scorer.KP], implementations[Scorer.HF]
    prefill, rate = statistics.median(record.prefill), kp["tokens_read"]["total"] / kp["seconds"]
    return {
        "bench": "benchmarks",
        **common,
        "versions": common["versions"] | {"lm_eval": version("lm-eval")},
        "settings": {entry.name: getattr(options, entry.name) for entry in fields(options) if entry.name not in ("json", "mmlu")},
        "asked": {
            "source": asked.source,
            "note": asked.note,
            "questions": len(asked.questions),
            "subjects": len({question.subject for question in asked.questions}),
            "shots": options.n_shots,
            "mean_prompt_tokens": record.prompt_tokens,
        },
        "implementations": {scorer.value: entry for scorer, entry in implementations.items()},
        "ratios": {
            Scorer.HF.value: {
                "all": kp["questions_per_s"] / hf["questions_per_s"],
                "rounds": [_rate(ours) / _rate(theirs) for ours, theirs in zip(*record.turns.values(), strict=True)],
                "tokens_per_question": kp["tokens_read"]["per_question"] / hf["tokens_read"]["per_question"],
            }
        },
        "agreement": agreement_of_likelihoods(record.turns[Scorer.KP], record.turns[Scorer.HF], TOLERANCE[options.dtype]),
        "references": {"prefill_tokens_per_s": prefill, "prefill_measured": record.prefill},
        "kp": {"tokens_per_s": rate, "share_of_prefill": rate / prefill},
    }


def _implementation(way: str, turns: Sequence[ScoringTurn]) -> dict[str, Any]:
    questions, seconds = sum(len(turn.questions) for turn in turns), sum(turn.seconds for turn in turns)
    right = [
        _best(likelihoods) == question.answer
        for turn in turns
        for question, likelihoods in zip(turn.questions, turn.likelihoods, strict=True)
    ]
    work = total([turn.work for turn in turns])
    return {
        "way": way,
        "questions": questions,
        "seconds": seconds,
        "questions_per_s": questions / seconds,
        "accuracy": statistics.fmean(right),
        "rounds": [{"questions": len(turn.questions), "seconds": turn.seconds} for turn in turns],
        "tokens_read": asdict(work) | {"total": work.tokens, "per_question": work.tokens / questions},
    }


def agreement_of_likelihoods(kp: Sequence[ScoringTurn], hf: Sequence[ScoringTurn], tolerance: float) -> dict[str, Any]:
    """How far the log-likelihoods of the questions that both answered agree."""
    ours = {question.prompt: found for turn in kp for question, found in zip(turn.questions, turn.likelihoods, strict=True)}
    theirs = [(ours[question.prompt], found) for turn in hf for question, found in zip(turn.questions, turn.likelihoods, strict=True)]
    choices = [pair for one, other in theirs for pair in zip(one, other, strict=True)]
    differences = [abs(one - other) if math.isfinite(one - other) else math.inf for (one, _), (other, _) in choices]
    return {
        "questions": len(theirs),
        "choices": len(choices),
        "largest_difference": max(differences),
        "median_difference": statistics.median(differences),
        "tolerance": tolerance,
        "equal": max(differences) <= tolerance,
        "same_greedy": statistics.fmean(one == other for (_, one), (_, other) in choices),
        "same_choice": statistics.fmean(_best(one) == _best(other) for one, other in theirs),
    }


def _best(likelihoods: Sequence[tuple[float, bool]]) -> int:
    return max(range(len(likelihoods)), key=lambda choice: likelihoods[choice][0])


def _rate(turn: ScoringTurn) -> float:
    return len(turn.questions) / turn.seconds
