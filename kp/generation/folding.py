"""Queries of several tokens and heads as rows of one matrix, for attention to the same keys.

Heads that share keys, and tokens that share a row's keys or a prefix, are one batch of queries: [lines, key heads, tokens * heads per key
head, width]. Lines of unequal length are padded, by queries whose result nobody reads. The indices that bring queries there and results
back are made once a pass, by the first layer, so that a layer spends one operation on each direction.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor

PADDING_ALLOWED = {"cpu": 1.25, "cuda": 4.0}
"""How many times the products of queries and keys may grow by padding, if that makes one batch of several. On a GPU they take less time
than the launch of one more kernel."""


@dataclass(frozen=True)
class FoldPlan:
    """Which tokens are together; on the host.

    `keys` says for each line which keys it attends to (the number of a prefix, of a row); `batches` has the numbers of lines and of tokens
    in each line of every batch. `tokens` are the tokens of all lines, padding included; `places` says for each token of the result where
    it is among them.
    """

    keys: tuple[int, ...]
    batches: tuple[tuple[int, int], ...]
    tokens: list[int]
    places: list[int]
    absent: list[int]  # tokens of the result that are in no line

    @property
    def numbers(self) -> list[list[int]]:
        """What the device needs."""
        return [self.tokens, self.places, self.absent]

    @property
    def in_order(self) -> bool:
        """Whether the only line has all tokens of the result in their order."""
        first = self.tokens[0]
        return len(self.keys) == 1 and not self.absent and self.tokens == [*range(first, first + len(self.places))]


def fold_plan(lines: dict[int, list[int]], sizes: dict[int, int], results: Sequence[int], padding: float) -> FoldPlan | None:
    """The plan for lines of tokens, each with the number of its keys; `sizes` says how many keys there are, `results` are the tokens whose
    results are needed, in that order. None without lines.

    All lines are one batch, unless that would multiply the work by more than `padding`; then each is one of its own.
    """
    if not lines:
        return None
    needed = sum(len(tokens) * sizes[keys] for keys, tokens in lines.items())
    widest, most = max(map(len, lines.values())), max(sizes[keys] for keys in lines)
    together = len(lines) * widest * most <= padding * needed
    laid: list[int] = []
    places: dict[int, int] = {}
    for tokens in lines.values():
        places |= {token: place for place, token in enumerate(tokens, start=len(laid))}
        laid += tokens
        if together:
            laid += tokens[-1:] * (widest - len(tokens))
    absent = [number for number, token in enumerate(results) if token not in places]
    batches = ((len(lines), widest),) if together else tuple((1, len(tokens)) for tokens in lines.values())
    return FoldPlan(tuple(lines), batches, laid, [places.get(token, 0) for token in results], absent)


@dataclass(frozen=True)
class Folding:
    """A plan whose numbers are on the device."""

    plan: FoldPlan
    tokens: Tensor
    places: Tensor
    absent: Tensor
    made: dict[tuple[int, int], tuple[Tensor, Tensor]] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: FoldPlan, sent: Sequence[Tensor]) -> "Folding":
        """A plan with its numbers, which are the first of `sent`."""
        return cls(plan, sent[0], sent[1], sent[2])

    def lines(self, numbers: Tensor) -> list[Tensor]:
        """`numbers`, one for each token of the pass, as [lines, tokens in a line] for each batch."""
        return self._by_batch(numbers[self.tokens])

    def folded(self, query: Tensor, key_heads: int) -> list[Tensor]:
        """For each batch [lines, key heads, tokens * heads per key head, width], of `query` [tokens, heads, width]."""
        heads, width = query.shape[1:]
        if self.plan.in_order:
            first = self.plan.tokens[0]
            one = query[first : first + len(self.plan.places)].unflatten(1, (key_heads, heads // key_heads))
            return [one.transpose(1, 2).reshape(1, -1, key_heads, width).transpose(1, 2)]
        rows = query.reshape(-1, width).index_select(0, self._indices(heads, key_heads)[0])
        sizes = [lines * length * heads for lines, length in self.plan.batches]
        parts = rows.split(sizes) if len(sizes) > 1 else [rows]
        return [part.view(lines, -1, key_heads, width).transpose(1, 2) for part, (lines, _) in zip(parts, self.plan.batches, strict=True)]

    def unfolded(self, outputs: Sequence[Tensor], weights: Sequence[Tensor], heads: int) -> tuple[Tensor, Tensor]:
        """The results of all batches, `outputs` as `folded` and `weights` the same without width, as [tokens, key heads, heads per key
        head, width] and the same without; a token in no line has the weight -inf."""
        key_heads, width = outputs[0].shape[1], outputs[0].shape[-1]
        shared = heads // key_heads
        if self.plan.in_order:
            return outputs[0][0].unflatten(1, (-1, shared)).transpose(0, 1), weights[0][0].unflatten(1, (-1, shared)).transpose(0, 1)
        rows = [part.transpose(1, 2).reshape(-1, width) for part in outputs]
        logs = [part.transpose(1, 2).reshape(-1) for part in weights]
        output, weight = (parts[0] if len(parts) == 1 else torch.cat(parts) for parts in (rows, logs))
        back = self._indices(heads, key_heads)[1]
        output = output.index_select(0, back).view(-1, key_heads, shared, width)
        weight = weight.index_select(0, back).view(-1, key_heads, shared)
        if self.plan.absent:
            weight = weight.index_fill(0, self.absent, float("-inf"))
        return output, weight

    def _indices(self, heads: int, key_heads: int) -> tuple[Tensor, Tensor]:
        """For each folded row the row of [tokens * heads] that it is; and for each row of the result the folded row. Folded rows are in the
        order of token, head among those that share keys, key head: kernels write their outputs as their queries lie."""
        if (heads, key_heads) not in self.made:
            there, back = _head_orders(heads, key_heads, self.tokens.device)
            rows = (torch.add(order, tokens[:, None], alpha=heads) for order, tokens in ((there, self.tokens), (back, self.places)))
            self.made[heads, key_heads] = next(rows).flatten(), next(rows).flatten()
        return self.made[heads, key_heads]

    def _by_batch(self, laid: Tensor) -> list[Tensor]:
        parts = laid.split([lines * length for lines, length in self.plan.batches])
        return [part.view(shape) for part, shape in zip(parts, self.plan.batches, strict=True)]


@lru_cache
def _head_orders(heads: int, key_heads: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The heads of a token, [key heads, heads per key head], in the order of folded rows; and where each of them is in that order."""
    numbers = torch.arange(heads, device=device)
    return numbers.view(key_heads, -1).t().flatten(), numbers.view(-1, key_heads).t().flatten()
