"""Decoding the model's own way, for models whose attention cannot be replaced (recurrences, chunks, unknown windows).

Each row computes its whole prompt, padded on the left to the longest of its batch, with the model's own cache and attention. Rows that have
ended are removed from the batch. It is slower and just as exact.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from kp.generation.decoding import Row, Work, choose_tokens
from kp.generation.forward import Forward

_COMPACT_BELOW = 0.9  # if the share of live rows is below this, ended ones are removed


class PlainDecoder:
    """Decodes rows that share nothing, each with its whole prompt in `ids`; drafts are not used."""

    def __init__(
        self, forward: Forward, rows_at_once: int, new_tokens: int, ended: Callable[[Sequence[int]], bool], pad: int, work: Work
    ) -> None:
        self._forward, self._rows_at_once = forward, rows_at_once
        self._new_tokens, self._ended, self._pad, self._work = new_tokens, ended, pad, work
        self.rows_tried = 0

    def answers(self, rows: Sequence[Row]) -> Iterator[tuple[Row, list[int]]]:
        """Each row with its generated tokens, the ending one included; rows are admitted in the given order."""
        for start in range(0, len(rows), self._rows_at_once):
            batch = rows[start : start + self._rows_at_once]
            self.rows_tried = len(batch)
            yield from zip(batch, self._decode(batch), strict=True)

    def _decode(self, rows: Sequence[Row]) -> list[list[int]]:
        batch = _Batch(self._forward)
        logits = batch.prefill(*self._padded(rows))
        self._work.prompt_tokens += sum(len(row.ids) for row in rows)
        made: list[list[int]] = [[] for _ in rows]
        places = list(range(len(rows)))  # the index in `rows` of each row of the batch
        ended: set[int] = set()
        for count in range(1, self._new_tokens + 1):
            self._work.passes += 1
            self._work.logits += len(logits)
            tokens = choose_tokens(logits, [(rows[place].draws, len(made[place])) for place in places])
            for place, token in zip(places, tokens.tolist(), strict=True):
                if place not in ended:
                    made[place].append(token)
                    if self._ended(made[place]):
                        ended.add(place)
            live = [row for row, place in enumerate(places) if place not in ended]
            if not live or count == self._new_tokens:
                break
            if len(live) < _COMPACT_BELOW * len(places):
                kept = torch.tensor(live, device=tokens.device)
                batch.keep(kept)
                tokens, places = tokens[kept], [places[row] for row in live]
            self._work.answer_tokens += len(live)
            logits = batch.step(tokens)
        return made

    def _padded(self, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
        """Token ids and the mask of valid ones, both [rows, longest]."""
        device = self._forward.device
        longest = max(len(row.ids) for row in rows)
        ids = torch.tensor([[self._pad] * (longest - len(row.ids)) + row.ids for row in rows], device=device)
        lengths = torch.tensor([len(row.ids) for row in rows], device=device)
        return ids, torch.arange(longest, device=device) >= (longest - lengths)[:, None]


class _Batch:
    """Rows that are decoded together in the model's own cache."""

    def __init__(self, forward: Forward) -> None:
        self._forward = forward
        self._cache: Any = DynamicCache(config=forward.base.config)
        self._valid = torch.empty(0)
        self._next = torch.empty(0)

    def prefill(self, ids: Tensor, valid: Tensor) -> Tensor:
        """Read [rows, length] tokens; logits of the next token [rows, vocabulary]."""
        self._valid = valid
        positions = (valid.cumsum(1) - 1).clamp(min=0)
        self._next = positions[:, -1:] + 1
        return self._run(ids, positions)

    def step(self, tokens: Tensor) -> Tensor:
        """Append one token to each row [rows]; logits of the next token [rows, vocabulary]."""
        self._valid = torch.nn.functional.pad(self._valid, (0, 1), value=True)
        positions, self._next = self._next, self._next + 1
        return self._run(tokens[:, None], positions)

    def keep(self, rows: Tensor) -> None:
        """Drop all rows except these (ascending indices)."""
        self._valid, self._next = self._valid[rows], self._next[rows]
        self._cache.batch_select_indices(rows)

    def _run(self, ids: Tensor, positions: Tensor) -> Tensor:
        logits, self._cache = self._forward.plain(ids, positions, self._valid.long(), self._cache)
        return logits
