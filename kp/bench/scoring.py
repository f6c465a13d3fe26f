"""`kp bench benchmarks`: how fast multiple-choice questions with shots are scored, by kp and by lm-eval's own model class.

The speed of a shared machine changes from minute to minute, so the two take turns in every round, and their order alternates; each round
asks other subjects. lm-eval's model answers a sample of the questions, because it is slower; rates are compared, and the log-likelihoods of
every choice of the sampled questions.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from kp.bench.options import BenchmarksOptions
from kp.bench.output import log, save_result, validate_folder
from kp.bench.rates import Prefill
from kp.bench.scoring_implementations import HFScoring, KpScoring, Scorer, Scoring
from kp.bench.scoring_outcome import ScoringRecord, scoring_outcome
from kp.bench.scoring_questions import ScoredQuestion, load_asked_questions
from kp.bench.scoring_table import markdown, text
from kp.bench.subject import load_subject
from kp.errors import UserError

_PREFILL_PROMPTS = 6  # few, because the reference is measured in every round


def run_scoring(options: BenchmarksOptions) -> int:
    """Run the benchmark, print its table, and write the requested files; returns the exit code, 1 if log-likelihoods differ."""
    validate_folder(options.json)
    torch.set_num_threads(options.cpu_threads)
    with _errors_only("lm_eval"):
        result = benchmark(options)
    save_result(result, text, markdown, options.json)
    return 0 if result["agreement"]["equal"] else 1


def benchmark(options: BenchmarksOptions) -> dict[str, Any]:
    """The result of a benchmark, as `kp.bench.scoring_outcome` describes it."""
    asked = load_asked_questions(options)
    if len(asked.questions) < options.rounds:
        raise UserError(f"{options.rounds}, {asked.source} has {len(asked.questions)} questions", field="rounds")
    portions = portions_of_subjects(asked.questions, options.rounds)
    samples = [
        spread(portion, options.hf_questions * (number + 1) // options.rounds - options.hf_questions * number // options.rounds)
        for number, portion in enumerate(portions)
    ]
    subject = load_subject(options, options.dtype)
    token_ids: list[list[int]] = [subject.tokenizer.encode(question.prompt) for question in asked.questions]
    prefill = Prefill(subject, spread(token_ids, _PREFILL_PROMPTS))
    scorings: list[Scoring] = [KpScoring(subject, options.batch_size), HFScoring(subject, options.hf_batch_size)]
    record = ScoringRecord({scoring.scorer: scoring.way for scoring in scorings}, sum(map(len, token_ids)) / len(token_ids))
    for scoring in scorings:
        log(f"{scoring.scorer} warms up")
        scoring.score([min(asked.questions, key=lambda question: len(question.prompt))])
    for number, (portion, sample) in enumerate(zip(portions, samples, strict=True)):
        record.prefill.append(prefill.measure())
        for scoring in scorings if number % 2 == 0 else reversed(scorings):
            turn = scoring.score(portion if scoring.scorer is Scorer.KP else sample)
            record.turns[scoring.scorer].append(turn)
            rate = len(turn.questions) / turn.seconds
            log(f"round {number + 1}: {scoring.scorer} {len(turn.questions)} questions in {turn.seconds:.1f} s, {rate:.2f} questions/s")
    return scoring_outcome(options, subject, asked, record)


def portions_of_subjects(questions: Sequence[ScoredQuestion], count: int) -> list[list[ScoredQuestion]]:
    """The questions in `count` parts of nearly the same size, each of whole subjects in turn."""
    subjects = list(dict.fromkeys(question.subject for question in questions))
    places = {subject: number % count for number, subject in enumerate(subjects)}
    return [[question for question in questions if places[question.subject] == part] for part in range(count)]


def spread(items: Sequence[Any], count: int) -> list[Any]:
    """`count` of the items, evenly spaced; all if there are fewer."""
    count = min(count, len(items))
    return [items[len(items) * number // count] for number in range(count)]


@contextmanager
def _errors_only(logger: str) -> Iterator[None]:
    """lm-eval says at every start that the model was passed already loaded."""
    named = logging.getLogger(logger)
    level = named.level
    named.setLevel(logging.ERROR)
    try:
        yield
    finally:
        named.setLevel(level)
