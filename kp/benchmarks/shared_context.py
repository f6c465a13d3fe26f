"""An lm-eval model that reads a question once, however many answers are scored for it.

lm-eval's HFLM runs question + answer for every answer of more than one token, and computes the logits of every position over the whole
vocabulary. Here all answers of a question follow it in one row. The attention mask lets each answer see only the question and itself, and
logits are computed only from the question's last token on. For short multiple-choice questions this is less than half of the work, and the
log-likelihoods are the same. It needs attention that uses the given mask and positions, so it serves only the model types that a test
compares with HFLM; all others run in HFLM.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from lm_eval.models.huggingface import HFLM

SERVED = frozenset({"llama", "mistral", "qwen2", "qwen3"})
"""Model types (config.model_type) whose answers share their context."""

_ATTENTION = frozenset({"eager", "sdpa"})  # implementations that accept a mask with four dimensions
_BATCH_TOKENS = 4096  # padding included; a few long prompts or many short ones

Request = tuple[tuple[str, str], list[int], list[int]]


@dataclass(frozen=True)
class _Row:
    """One context with all its continuations; `requests[i]` has the indices of the requests for `continuations[i]`."""

    context: tuple[int, ...]
    continuations: tuple[tuple[int, ...], ...]
    requests: tuple[tuple[int, ...], ...]

    @property
    def tail(self) -> int:
        """Tokens after the context; the last token of a continuation is predicted and never read."""
        return sum(len(continuation) - 1 for continuation in self.continuations)


class SharedContextLM(HFLM):
    """HFLM with shared contexts; log-softmax in float32."""

    def _loglikelihood_tokens(
        self, requests: list[Request], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        config = self.model.config
        if config.model_type not in SERVED or config._attn_implementation not in _ATTENTION:
            # HFLM keeps the logits of every position twice, so its batches must be smaller for long prompts.
            longest = max(len(context) + len(continuation) for _, context, continuation in requests)
            self.batch_size_per_gpu = max(1, min(int(self.batch_size), _BATCH_TOKENS // longest))
            return list(super()._loglikelihood_tokens(requests, disable_tqdm=disable_tqdm, override_bs=override_bs))
        answers: dict[int, tuple[float, bool]] = {}
        for batch in _batches(_rows(requests, self.max_length), int(self.batch_size)):
            logits = self._tail_logits(batch)
            for index, row in enumerate(batch):
                answers.update(_row_answers(row, logits[index]))
        return [answers[index] for index in range(len(requests))]

    def _tail_logits(self, batch: Sequence[_Row]) -> torch.Tensor:
        """Log-probabilities of shape (rows, 1 + longest tail, vocabulary), from the last token of the context on."""
        context = max(len(row.context) for row in batch)
        tail = max(row.tail for row in batch)
        tokens = torch.zeros((len(batch), context + tail), dtype=torch.long)
        positions = torch.zeros_like(tokens)
        segments = torch.full_like(tokens, -1)  # -1 padding, 0 context, 1.. continuations
        for index, row in enumerate(batch):
            # Contexts end in the same column, so that one slice of columns holds every logit that is needed.
            _place(tokens[index], positions[index], segments[index], row, context)
        dtype = self.model.get_input_embeddings().weight.dtype
        with torch.no_grad():
            output = self.model(
                input_ids=tokens.to(self.device),
                attention_mask=_mask(segments, dtype).to(self.device),
                position_ids=positions.to(self.device),
                logits_to_keep=tail + 1,
                use_cache=False,
            )
        return torch.log_softmax(output.logits.float(), dim=-1)


def _rows(requests: Sequence[Request], max_length: int) -> list[_Row]:
    grouped: dict[tuple[int, ...], dict[tuple[int, ...], list[int]]] = {}
    for index, (_, context, continuation) in enumerate(requests):
        grouped.setdefault(tuple(context), {}).setdefault(tuple(continuation), []).append(index)
    rows = []
    for context_tokens, asked in grouped.items():
        kept = max_length + 1 - max(len(continuation) for continuation in asked)
        rows.append(_Row(context_tokens[-kept:], tuple(asked), tuple(tuple(indices) for indices in asked.values())))
    return rows


def _batches(rows: Sequence[_Row], most_rows: int) -> Iterator[list[_Row]]:
    batch: list[_Row] = []
    longest = tail = 0
    for row in sorted(rows, key=lambda row: (len(row.context), row.tail), reverse=True):
        longest, tail = max(longest, len(row.context)), max(tail, row.tail)
        if batch and (len(batch) == most_rows or (len(batch) + 1) * (longest + tail) > _BATCH_TOKENS):
            yield batch
            batch, longest, tail = [], len(row.context), row.tail
        batch.append(row)
    if batch:
        yield batch


def _place(tokens: torch.Tensor, positions: torch.Tensor, segments: torch.Tensor, row: _Row, end: int) -> None:
    """Write one row into its tensors; the context ends before column `end`."""
    length = len(row.context)
    tokens[end - length : end] = torch.tensor(row.context)
    positions[end - length : end] = torch.arange(length)
    segments[end - length : end] = 0
    for segment, continuation in enumerate(row.continuations, start=1):
        read = len(continuation) - 1
        tokens[end : end + read] = torch.tensor(continuation[:-1], dtype=torch.long)
        positions[end : end + read] = torch.arange(length, length + read)
        segments[end : end + read] = segment
        end += read


def _mask(segments: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Additive mask (rows, 1, length, length): a token sees the earlier tokens of its own segment and of the context."""
    query, key = segments[:, :, None], segments[:, None, :]
    length = segments.shape[1]
    earlier = torch.ones((length, length), dtype=torch.bool).tril()
    seen = ((query == key) | ((key == 0) & (query > 0))) & earlier
    return torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)[:, None]


def _row_answers(row: _Row, logits: torch.Tensor) -> Iterator[tuple[int, tuple[float, bool]]]:
    """Request index -> (log-likelihood, is the greedy continuation)."""
    start = 1
    for continuation, indices in zip(row.continuations, row.requests, strict=True):
        read = len(continuation) - 1
        steps = torch.cat([logits[:1], logits[start : start + read]])
        target = torch.tensor(continuation, device=logits.device)
        likelihood = float(steps.gather(1, target[:, None]).sum())
        greedy = bool((steps.argmax(dim=1) == target).all())
        for index in indices:
            yield index, (likelihood, greedy)
        start += read
