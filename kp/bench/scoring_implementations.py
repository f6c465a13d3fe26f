"""Two ways to score the same lm-eval requests: kp's model class and lm-eval's own for transformers, `hf`.

Each is timed from lm-eval's requests to their log-likelihoods, tokenising included. Both get the same loaded model.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import torch
from lm_eval.models.huggingface import HFLM

from kp.bench.implementations import difference
from kp.bench.scoring_questions import ScoredQuestion
from kp.bench.subject import Subject
from kp.bench.timing import timed
from kp.benchmarks.shared_context import SharedContextLM
from kp.errors import UserError
from kp.generation.decoding import Work

_HF_BATCH = {"cpu": 1, "cuda": 16}


class Scorer(StrEnum):
    """The implementations that take part."""

    KP = "kp"
    HF = "hf"


@dataclass(frozen=True)
class ScoringTurn:
    """What an implementation did in one round: for each question the log-likelihood of every choice and whether it is greedy."""

    questions: list[ScoredQuestion]
    likelihoods: list[list[tuple[float, bool]]]
    seconds: float
    work: Work


class Scoring(Protocol):
    """A way to score questions."""

    scorer: Scorer
    way: str

    def score(self, questions: Sequence[ScoredQuestion]) -> ScoringTurn:
        """Score these questions from scratch."""
        ...


class KpScoring:
    """The model class with which a study scores its benchmarks."""

    scorer = Scorer.KP
    way = "kp.benchmarks.shared_context: what prompts have in common is read once, logits where an answer is predicted"

    def __init__(self, subject: Subject, most_rows: int) -> None:
        self._subject = subject
        self._model = SharedContextLM(subject.model, subject.tokenizer, most_rows)

    def score(self, questions: Sequence[ScoredQuestion]) -> ScoringTurn:
        before = dataclasses.replace(self._work())
        likelihoods, seconds = timed(self._subject.device, lambda: _of_all(self._model, questions))
        return ScoringTurn(list(questions), likelihoods, seconds, difference(self._work(), before))

    def _work(self) -> Work:
        work = self._model.work
        if work is None:
            raise UserError(
                f"kp scores a {self._subject.model.config.model_type} with lm-eval's own model: nothing to compare", field="model"
            )
        return work


class HFScoring:
    """lm-eval's model class for transformers."""

    scorer = Scorer.HF

    def __init__(self, subject: Subject, batch_size: int | None) -> None:
        self._subject = subject
        rows = batch_size or _HF_BATCH[subject.device.type]
        self.way = f"lm-eval's HFLM: whole prompts once for all one-token choices, logits of every token, batches of {rows}"
        self._model = _CountingHFLM(pretrained=subject.model, tokenizer=subject.tokenizer, batch_size=rows)

    def score(self, questions: Sequence[ScoredQuestion]) -> ScoringTurn:
        self._model.work = Work()
        likelihoods, seconds = timed(self._subject.device, lambda: _of_all(self._model, questions))
        return ScoringTurn(list(questions), likelihoods, seconds, self._model.work)


class _CountingHFLM(HFLM):
    """HFLM that counts the tokens which its model reads, padding included."""

    work = Work()

    def _model_call(self, inps: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        self.work.prompt_tokens += inps.numel()
        self.work.logits += inps.numel()
        self.work.passes += 1
        logits: torch.Tensor = super()._model_call(inps, *args, **kwargs)
        return logits


def _of_all(model: HFLM, questions: Sequence[ScoredQuestion]) -> list[list[tuple[float, bool]]]:
    found = iter(model.loglikelihood([request for question in questions for request in question.requests], disable_tqdm=True))
    return [[next(found) for _ in question.requests] for question in questions]
