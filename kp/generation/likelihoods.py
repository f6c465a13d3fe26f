"""Log-likelihoods of continuations after their contexts, with every token that several of them share read once.

A few-shot benchmark asks many questions behind the same shots, and scores several answers behind each question. There are three kinds of
tokens, and none is read twice:

    beginning       the first tokens of several contexts (the shots): read alone; every row behind them attends to one copy
    context         the rest of a context (the question): its last token gives the logits of the first token of every continuation
    continuation    all tokens but the last, behind a copy of the keys and values of its context; a single token is never read

Where contexts agree is found on their tokens, so it does not matter which benchmark they come from. Keys and values live no longer than one
call of `LikelihoodScorer.score`, so nothing computed with one adapter can be used with another.

The model's own pass over one sequence comes first. Its logits are compared with those of the packed attention, and the keys and values of
its beginning are kept. A window of attention that nothing else reveals shows on long sequences alone, so a long one is taken.
"""

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from kp.generation.decoding import Limits, Row, Work, first_logits, row_logits
from kp.generation.forward import Forward
from kp.generation.memory import is_out_of_memory, measured_limits, release_memory
from kp.generation.shared_prefixes import shared_prefix_lengths
from kp.generation.slots import Prefix, Slots, joined
from kp.generation.verification import validate_packed

_log = logging.getLogger(__name__)

LEAST_BEGINNING = 32
"""Tokens that contexts must have in common to be read behind one copy: attending to a copy costs a few operations in every layer."""

_BEGINNING_TOKENS = 4096  # of beginnings whose keys and values are kept at once
_VERIFIED_SHARE = 40  # the sequence that is verified is at most this fraction of all, or the shortest
_LOGITS_ROWS = 256  # rows of logits that are in float32 at once


@dataclass(frozen=True)
class Context:
    """Tokens, and the continuations that are scored behind them; all have at least one token, and no two contexts are equal."""

    ids: tuple[int, ...]
    continuations: tuple[tuple[int, ...], ...]

    @property
    def longest(self) -> tuple[int, ...]:
        """The tokens that are read for the longest continuation."""
        return self.ids + max(self.continuations, key=len)[:-1]


@dataclass(frozen=True)
class Likelihood:
    """Of a continuation: the sum of its tokens' log-probabilities in nats, and whether each token is the most likely one."""

    log: float
    is_greedy: bool

    def __add__(self, other: "Likelihood") -> "Likelihood":
        """That of a continuation of two parts."""
        return Likelihood(self.log + other.log, self.is_greedy and other.is_greedy)


class LikelihoodScorer:
    """Scores continuations with one model, plain or wrapped by PEFT, in eval mode; `work` counts the tokens that it has read.

    `most_rows` is the most rows of a pass; memory may allow fewer. Raises NotShareableError if the model's attention cannot be replaced:
    when it is made, or from `score`, which compares it with the model's own for the first contexts and again for longer ones.
    """

    def __init__(self, model: torch.nn.Module, most_rows: int) -> None:
        self.work = Work()
        self._forward = Forward(model)
        self._forward.validate_shareable()
        self._most_rows = most_rows
        self._verified = 0  # tokens of the longest sequence on which packed attention was compared with the model's own

    def score(self, contexts: Sequence[Context]) -> list[list[Likelihood]]:
        """The likelihoods of each context's continuations, in the given order; out of memory, passes are halved until they fit."""
        cuts = beginning_lengths([context.ids for context in contexts])
        behind: dict[tuple[int, ...], list[Row]] = {}
        for index, (context, cut) in enumerate(zip(contexts, cuts, strict=True)):
            behind.setdefault(context.ids[:cut], []).append(Row(index, None, list(context.ids[cut:]), []))
        found: dict[int, list[Likelihood]] = {}
        passes = _Passes(self._forward, contexts, self.work, self._most_rows)
        with torch.no_grad():
            known = self._verify(contexts, cuts)
            for beginnings in _together(sorted(behind, key=lambda ids: ids not in known)):
                prefixes = [known.pop(ids) if ids in known else self._beginning(ids) for ids in beginnings if ids]
                numbered = {ids: number for number, ids in enumerate(ids for ids in beginnings if ids)}
                rows = [replace(row, prefix=numbered.get(ids)) for ids in beginnings for row in behind[ids]]
                with self._forward.exchanged():
                    found |= passes.score(rows, prefixes)
        return [found[index] for index in range(len(contexts))]

    def _verify(self, contexts: Sequence[Context], cuts: Sequence[int]) -> dict[tuple[int, ...], Prefix]:
        """Compare the packed attention with the model's own on one sequence, and return its beginning if it has one."""
        if not contexts:
            return {}
        chosen = _verified_on(contexts, cuts)
        ids, cut = list(contexts[chosen].longest), cuts[chosen]
        if len(ids) <= self._verified:
            return {}
        own, cache = self._read(ids)
        prefixes = [_first_tokens(cache, cut)] if cut else []
        row = Row(0, 0 if prefixes else None, ids[cut:], [])
        validate_packed(self._forward, lambda: first_logits(self._forward, prefixes, row), own)
        self._verified = len(ids)
        self.work.prompt_tokens += len(row.ids)  # by packed attention
        return {tuple(ids[:cut]): prefixes[0]} if prefixes else {}

    def _beginning(self, ids: Sequence[int]) -> Prefix:
        return _first_tokens(self._read(ids)[1], len(ids))

    def _read(self, ids: Sequence[int]) -> tuple[Tensor, Any]:
        """The model's own pass over a sequence: logits [vocabulary] after its last token, and its keys and values."""
        device = self._forward.device
        tokens, positions = torch.tensor([list(ids)], device=device), torch.arange(len(ids), device=device)[None]
        logits, cache = self._forward.plain(tokens, positions, None, DynamicCache())
        self.work.prefix_tokens += len(ids)
        self.work.logits += 1
        self.work.passes += 1
        return logits[0], cache


class _Passes:
    """Passes over rows; their size is measured before the first."""

    def __init__(self, forward: Forward, contexts: Sequence[Context], work: Work, most_rows: int) -> None:
        self._forward, self._contexts, self._work, self._most_rows = forward, contexts, work, most_rows
        self._prefixes: list[Prefix] = []
        self._limits: Limits | None = None

    def score(self, rows: Sequence[Row], prefixes: list[Prefix]) -> dict[int, list[Likelihood]]:
        """The likelihoods of the continuations of each row's context, by the row's index."""
        self._prefixes = prefixes
        if self._limits is None:
            columns = max(len(context.longest) for context in self._contexts)
            self._limits = measured_limits(self._forward, prefixes[0] if prefixes else None, columns, self._most_rows)
        waiting = deque(sorted(rows, key=lambda row: (-1 if row.prefix is None else row.prefix, -len(row.ids))))
        found: dict[int, list[Likelihood]] = {}
        while waiting:
            batch = _admitted(waiting, self._limits)
            try:
                found |= self._contexts_of(batch, self._limits)
                continue
            except RuntimeError as error:
                if not is_out_of_memory(error) or self._limits.rows == len(batch) == 1:
                    raise
                self._limits = self._limits.halved(len(batch))
                _log.warning("out of memory with %d rows in a pass, continuing with %d", len(batch), self._limits.rows)
                waiting.extendleft(reversed(batch))
            release_memory()  # outside the except clause, because within it the traceback keeps the pass's tensors alive
        return found

    def _contexts_of(self, rows: Sequence[Row], limits: Limits) -> dict[int, list[Likelihood]]:
        """Read contexts together, and then what their continuations have beyond the first token."""
        slots = Slots(self._forward.layers, len(rows), max(len(row.ids) for row in rows), self._prefixes)
        logits = row_logits(self._forward, rows, self._prefixes, [], slots)
        self._work.prompt_tokens += sum(len(row.ids) for row in rows)
        self._count(len(logits))
        asked = [(row, self._contexts[row.index].continuations) for row in rows]
        places = [(place, tokens[0]) for place, (_, continuations) in enumerate(asked) for tokens in continuations]
        firsts = iter(token_likelihoods(logits, places))
        found = {row.index: [next(firsts) for _ in continuations] for row, continuations in asked}
        longer = [slot for slot, (_, continuations) in enumerate(asked) if any(len(tokens) > 1 for tokens in continuations)]
        copies = [slots.as_prefix(slot, len(rows[slot].ids)) for slot in longer]
        del slots, logits  # before further passes need the memory
        self._add_continuations([rows[slot] for slot in longer], copies, limits, found)
        return found

    def _add_continuations(self, parents: Sequence[Row], copies: list[Prefix], limits: Limits, found: dict[int, list[Likelihood]]) -> None:
        """Add to the likelihoods of first tokens those of the rest of their continuations."""
        waiting: deque[Row] = deque()
        targets: dict[int, tuple[int, int, tuple[int, ...]]] = {}  # by row: its context, which of its continuations, the tokens to score
        for number, parent in enumerate(parents):
            for which, tokens in enumerate(self._contexts[parent.index].continuations):
                if len(tokens) > 1:
                    waiting.append(Row(len(targets), parent.prefix, [tokens[0]], list(tokens[1:-1]), shared_prefix=number))
                    targets[len(targets)] = parent.index, which, tokens[1:]
        while waiting:
            batch = _admitted(waiting, limits)
            columns = max(copies[_copy(row)].tokens + _read_tokens(row) for row in batch)
            slots = Slots(self._forward.layers, len(batch), columns, self._prefixes)
            logits = row_logits(self._forward, batch, self._prefixes, copies, slots)
            self._work.answer_tokens += len(logits)
            self._count(len(logits))
            scored = [targets[row.index] for row in batch]
            parts = iter(token_likelihoods(logits, list(enumerate(token for _, _, tokens in scored for token in tokens))))
            for index, which, tokens in scored:
                for _ in tokens:
                    found[index][which] += next(parts)

    def _count(self, logits: int) -> None:
        self._work.logits += logits
        self._work.passes += 1


def _verified_on(contexts: Sequence[Context], cuts: Sequence[int]) -> int:
    """The index of the longest sequence that is not too expensive to be read twice more."""
    rests = [len(context.longest) - cut for context, cut in zip(contexts, cuts, strict=True)]
    allowed = max(min(rests), sum(rests) // _VERIFIED_SHARE)
    return max((index for index, rest in enumerate(rests) if rest <= allowed), key=lambda index: len(contexts[index].longest))


def beginning_lengths(sequences: Sequence[Sequence[int]]) -> list[int]:
    """For each sequence, how many of its first tokens are read once together with other sequences: 0, or at least LEAST_BEGINNING.

    At least one token of every sequence stays, because its logits are needed.
    """
    return [length if length >= LEAST_BEGINNING else 0 for length in shared_prefix_lengths([list(sequence) for sequence in sequences])]


def token_likelihoods(logits: Tensor, wanted: Sequence[tuple[int, int]]) -> list[Likelihood]:
    """The likelihoods of tokens under logits [rows, vocabulary], each given as its row and its id; log-softmax in float32."""
    rows, tokens = (torch.tensor(column, device=logits.device) for column in zip(*wanted, strict=True))
    parts = logits.split(_LOGITS_ROWS)
    normalisers = torch.cat([part.float().logsumexp(dim=-1) for part in parts])
    greedy = torch.cat([part.max(dim=-1).indices for part in parts])
    logs = logits[rows, tokens].float() - normalisers[rows]
    return [Likelihood(log, same) for log, same in zip(logs.tolist(), (greedy[rows] == tokens).tolist(), strict=True)]


def _together(beginnings: Sequence[tuple[int, ...]]) -> Iterator[list[tuple[int, ...]]]:
    """Beginnings whose keys and values are kept at the same time."""
    batch: list[tuple[int, ...]] = []
    for ids in beginnings:
        if batch and sum(map(len, batch)) + len(ids) > _BEGINNING_TOKENS:
            yield batch
            batch = []
        batch.append(ids)
    if batch:
        yield batch


def _admitted(waiting: deque[Row], limits: Limits) -> list[Row]:
    """The next rows of a pass, removed from `waiting`; at least one."""
    batch = [waiting.popleft()]
    tokens = _read_tokens(batch[0])
    while waiting and len(batch) < limits.rows and tokens + _read_tokens(waiting[0]) <= limits.tokens:
        tokens += _read_tokens(waiting[0])
        batch.append(waiting.popleft())
    return batch


def _read_tokens(row: Row) -> int:
    return len(row.ids) + len(row.draft)


def _copy(row: Row) -> int:
    assert row.shared_prefix is not None
    return row.shared_prefix


def _first_tokens(cache: Any, tokens: int) -> Prefix:
    """The keys and values of the first tokens of the only sequence in a cache."""
    keys, values = (
        joined([getattr(layer, side)[:, :, :tokens].transpose(1, 2).flatten(2) for layer in cache.layers]) for side in ("keys", "values")
    )
    return Prefix(keys, values)
