"""An lm-eval model that reads what its requests share once: the shots of a subject, and a question whose answers are scored.

lm-eval's HFLM runs the whole prompt for every question, and again for every answer of more than one token, and computes the logits of every
position over the whole vocabulary. `kp.generation.likelihoods` reads every shared token once and computes logits only where an answer's
token is predicted; the log-likelihoods are the same. A model whose attention it cannot replace, which it finds out by comparing logits with
the model's own, is scored by HFLM.
"""

import logging
from collections.abc import Sequence
from typing import Any

from lm_eval.models.huggingface import HFLM

from kp.errors import UserError
from kp.generation.decoding import Work
from kp.generation.likelihoods import Context, LikelihoodScorer
from kp.generation.slots import NotShareableError

_log = logging.getLogger(__name__)

_BATCH_TOKENS = 4096  # of HFLM, padding included; a few long prompts or many short ones

Request = tuple[tuple[str, str] | None, list[int], list[int]]
"""What lm-eval asks: its texts, the tokens of the context, the tokens of the continuation."""


class SharedContextLM(HFLM):
    """HFLM with shared contexts; log-softmax in float32. `batch_size` is the most rows of a pass."""

    def __init__(self, pretrained: Any, tokenizer: Any, batch_size: int) -> None:
        super().__init__(pretrained=pretrained, tokenizer=tokenizer, batch_size=batch_size)
        self._scorer: LikelihoodScorer | None = None
        try:
            self._scorer = LikelihoodScorer(self.model, batch_size)
        except NotShareableError as reason:
            self._go_plain(reason)

    @property
    def work(self) -> Work | None:
        """The tokens that the model has read so far; None if HFLM scores it."""
        return self._scorer.work if self._scorer else None

    def _loglikelihood_tokens(
        self, requests: list[Request], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        if self._scorer is not None:
            contexts, places = group_requests(requests, self.max_length)
            try:
                found = self._scorer.score(contexts)
            except NotShareableError as reason:
                self._go_plain(reason)
            else:
                scored = [found[context][continuation] for context, continuation in places]
                return [(likelihood.log, likelihood.is_greedy) for likelihood in scored]
        # HFLM keeps the logits of every position twice, so its batches must be smaller for long prompts.
        longest = max((len(context) + len(continuation) for _, context, continuation in requests), default=1)
        self.batch_size_per_gpu = max(1, min(int(self.batch_size), _BATCH_TOKENS // longest))
        return list(super()._loglikelihood_tokens(requests, disable_tqdm=disable_tqdm, override_bs=override_bs))

    def _go_plain(self, reason: NotShareableError) -> None:
        self._scorer = None
        _log.warning("%s: lm-eval's own model scores its benchmarks, because %s", self.config.model_type, reason)


def group_requests(requests: Sequence[Request], max_length: int) -> tuple[list[Context], list[tuple[int, int]]]:
    """The different contexts with their different continuations, and for each request the numbers of its context and continuation.

    A context that is too long together with its continuation loses its first tokens, as in HFLM. Raises UserError for a continuation that
    is empty or has more than `max_length` tokens.
    """
    numbers: dict[tuple[int, ...], int] = {}
    continuations: list[dict[tuple[int, ...], int]] = []
    places = []
    for _, context, continuation in requests:
        if not 0 < len(continuation) <= max_length:
            raise UserError(f"a benchmark asks for a continuation of {len(continuation)} tokens, expected 1 to {max_length}")
        number = numbers.setdefault(tuple(context[-(max_length + 1 - len(continuation)) :]), len(numbers))
        if number == len(continuations):
            continuations.append({})
        asked = continuations[number]
        places.append((number, asked.setdefault(tuple(continuation), len(asked))))
    return [Context(ids, tuple(asked)) for ids, asked in zip(numbers, continuations, strict=True)], places
