"""Continuous batching: many rows are decoded together, and the batch stays full to the end.

A pass of the model reads the next token of every decode row and, as far as the token budget allows, the whole questions of waiting rows
(prefill rows), whichever prefix they follow. A row that has ended leaves at once, so no pass has ended rows and few run below the budget.

If questions behind the same prefix begin alike, their *shared question prefix* (see kp.generation.shared_prefixes) is read before them,
once.

The expected beginning of an answer is read together with the question and verified, instead of being generated token by token: for each of
these *draft* tokens the model predicts the token it would have written, and the draft is accepted as far as the two agree.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import torch
from torch import Tensor

from kp.generation.attention import Line, Prefix, Slots
from kp.generation.forward import Forward


@dataclass(frozen=True)
class Draws:
    """How a sampled answer's tokens are drawn: from the softmax at `temperature`, with one uniform number per token.

    The numbers belong to the row, so the draws do not depend on which rows are decoded together.
    """

    temperature: float
    uniforms: tuple[float, ...]  # one for each token that may be generated


@dataclass(frozen=True)
class Row:
    """One question: tokens `ids` behind prefix number `prefix` and shared question prefix number `shared_prefix` (None: none); the answer
    may begin with `draft`."""

    index: int  # index in the caller's list
    prefix: int | None
    ids: list[int]
    draft: list[int]
    draws: Draws | None = None  # None: greedy
    shared_prefix: int | None = None


@dataclass(frozen=True)
class Limits:
    """The size limits of a pass."""

    rows: int  # decoded together
    tokens: int  # read in one pass; a single row may have more

    def halved(self, rows: int) -> "Limits":
        """Half of what was just tried with `rows` rows."""
        return Limits(max(1, (rows + 1) // 2), max(1, self.tokens // 2))


@dataclass
class Work:
    """Tokens that the model has read so far."""

    prefix_tokens: int = 0
    prompt_tokens: int = 0  # of questions, without their prefix; shared prefixes count each time they are read
    answer_tokens: int = 0  # read to generate the next one, drafts included
    logits: int = 0  # positions whose logits were computed
    passes: int = 0

    @property
    def tokens(self) -> int:
        """All tokens that were read."""
        return self.prefix_tokens + self.prompt_tokens + self.answer_tokens


@dataclass
class _Live:
    row: Row
    own: int  # tokens in its slot; before the row is read, those of its shared prefix
    made: list[int] = field(default_factory=list)


def read_prefixes(forward: Forward, sequences: Sequence[list[int]], most_tokens: int, work: Work) -> list[Prefix]:
    """The keys and values of these sequences; as many are read at once as `most_tokens` allows."""
    work.prefix_tokens += sum(map(len, sequences))
    return _read(forward, [Row(0, None, ids, []) for ids in sequences], [], most_tokens, work)


def read_shared_prefixes(forward: Forward, rows: Sequence[Row], prefixes: list[Prefix], most_tokens: int, work: Work) -> list[Prefix]:
    """The keys and values of these rows' own tokens, each behind its prefix; as many are read at once as `most_tokens` allows."""
    work.prompt_tokens += sum(len(row.ids) for row in rows)
    return _read(forward, rows, prefixes, most_tokens, work)


def _read(forward: Forward, rows: Sequence[Row], prefixes: list[Prefix], most_tokens: int, work: Work) -> list[Prefix]:
    read: list[Prefix] = []
    waiting = deque(rows)
    while waiting:
        batch = [_Live(waiting.popleft(), 0)]
        while waiting and sum(len(live.row.ids) for live in batch) + len(waiting[0].ids) <= most_tokens:
            batch.append(_Live(waiting.popleft(), 0))
        slots = Slots(forward.layers, len(batch), max(len(live.row.ids) for live in batch), prefixes)
        forward.packed(_line([], batch, prefixes, forward.device, keep=1), slots)
        read += [slots.as_prefix(slot, len(live.row.ids)) for slot, live in enumerate(batch)]
        work.passes += 1
        work.logits += 1
    return read


def first_logits(forward: Forward, prefixes: list[Prefix], row: Row) -> Tensor:
    """Logits [vocabulary] of the first token of a row's answer; call it inside `Forward.exchanged`."""
    slots = Slots(forward.layers, 1, len(row.ids), prefixes)
    return forward.packed(_line([], [_Live(row, 0)], prefixes, forward.device, keep=1), slots)[0]


class Decoder:
    """Decodes rows behind `shared` (prefixes, shared question prefixes) until they have `ended` or until `new_tokens` are generated."""

    def __init__(
        self,
        forward: Forward,
        shared: tuple[list[Prefix], list[Prefix]],
        limits: Limits,
        new_tokens: int,
        ended: Callable[[Sequence[int]], bool],
        work: Work,
    ) -> None:
        self._forward, self._limits = forward, limits
        self._prefixes, self._shared_prefixes = shared
        self._new_tokens, self._ended, self._work = new_tokens, ended, work
        self._live: list[_Live] = []

    @property
    def rows_tried(self) -> int:
        """Rows in the current pass."""
        return len(self._live)

    def answers(self, rows: Sequence[Row]) -> Iterator[tuple[Row, list[int]]]:
        """Each row with its generated tokens, the ending one included, in the order of finishing; rows are admitted in the given order."""
        waiting = deque(rows)
        columns = max(self._shared_prefix_tokens(row) + len(row.ids) for row in rows) + self._new_tokens
        slots = Slots(self._forward.layers, min(self._limits.rows, len(rows)), columns, self._prefixes)
        while waiting or self._live:
            n_decode = len(self._live)
            self._admit(waiting)
            self._copy_shared_prefixes(slots, n_decode)
            line = _line(self._live[:n_decode], self._live[n_decode:], self._prefixes, self._forward.device)
            logits = self._forward.packed(line, slots)
            self._count(n_decode, len(line.wanted))
            chosen = iter(self._choose(logits, n_decode))
            for position, live in enumerate(self._live):
                _take(live, [next(chosen)] if position < n_decode else [next(chosen) for _ in range(len(live.row.draft) + 1)])
            yield from self._leave(slots)

    def _admit(self, waiting: deque[Row]) -> None:
        room = self._limits.tokens - len(self._live)
        while waiting and len(self._live) < self._limits.rows:
            room -= len(waiting[0].ids) + len(waiting[0].draft)
            if room < 0 and self._live:
                return
            row = waiting.popleft()
            self._live.append(_Live(row, self._shared_prefix_tokens(row)))

    def _shared_prefix_tokens(self, row: Row) -> int:
        return 0 if row.shared_prefix is None else self._shared_prefixes[row.shared_prefix].tokens

    def _copy_shared_prefixes(self, slots: Slots, n_decode: int) -> None:
        """Copy the shared prefixes into the slots of the prefill rows; neighbours mostly have the same one."""
        prefill_rows = enumerate(self._live[n_decode:], start=n_decode)
        for shared_prefix, neighbours in groupby(prefill_rows, key=lambda placed: placed[1].row.shared_prefix):
            places = [slot for slot, _ in neighbours]
            if shared_prefix is not None:
                slots.copy_kv(places[0], places[-1] + 1, self._shared_prefixes[shared_prefix])

    def _choose(self, logits: Tensor, n_decode: int) -> list[int]:
        """The chosen token for each position of the logits."""
        asked = [(live, 0 if position < n_decode else len(live.row.draft)) for position, live in enumerate(self._live)]
        wanted = [(live.row.draws, len(live.made) + offset) for live, drafts in asked for offset in range(drafts + 1)]
        chosen: list[int] = choose_tokens(logits, wanted).tolist()
        return chosen

    def _leave(self, slots: Slots) -> Iterator[tuple[Row, list[int]]]:
        """Remove rows that have ended and move the last ones into the gaps, so that decode rows are always in the first slots."""
        ended = [self._ended(live.made) or len(live.made) >= self._new_tokens for live in self._live]
        stay = len(ended) - sum(ended)
        gaps = [slot for slot in range(stay) if ended[slot]]
        movers = [slot for slot in range(stay, len(ended)) if not ended[slot]]
        finished = [live for live, gone in zip(self._live, ended, strict=True) if gone]
        slots.move(movers, gaps, max(live.own for live in self._live))
        for gap, mover in zip(gaps, movers, strict=True):
            self._live[gap] = self._live[mover]
        del self._live[stay:]
        for live in finished:
            yield live.row, live.made

    def _count(self, n_decode: int, logits: int) -> None:
        prefill_rows = self._live[n_decode:]
        self._work.prompt_tokens += sum(len(live.row.ids) for live in prefill_rows)
        self._work.answer_tokens += n_decode + sum(len(live.row.draft) for live in prefill_rows)
        self._work.logits += logits
        self._work.passes += 1


def _take(live: _Live, chosen: list[int]) -> None:
    """Append the chosen tokens to a row: the next token, or one for the question's end and one for each draft token."""
    if live.made:
        live.own += 1
        live.made += chosen
        return
    draft = live.row.draft
    right = next((place for place, token in enumerate(draft) if chosen[place] != token), len(draft))
    live.own += len(live.row.ids) + right
    live.made = [*draft[:right], chosen[right]]


def row_logits(forward: Forward, rows: Sequence[Row], prefixes: list[Prefix], shared_prefixes: list[Prefix], slots: Slots) -> Tensor:
    """Logits [tokens, vocabulary] after the `ids` of each row and after each token of its draft, of rows read in one pass; row i fills
    slot i. Call it inside `Forward.exchanged`."""
    live = [_Live(row, 0 if row.shared_prefix is None else shared_prefixes[row.shared_prefix].tokens) for row in rows]
    for shared_prefix, neighbours in groupby(range(len(rows)), key=lambda slot: rows[slot].shared_prefix):
        places = list(neighbours)
        if shared_prefix is not None:
            slots.copy_kv(places[0], places[-1] + 1, shared_prefixes[shared_prefix])
    return forward.packed(_line([], live, prefixes, forward.device), slots)


def choose_tokens(logits: Tensor, wanted: Sequence[tuple[Draws | None, int]]) -> Tensor:
    """One token for each row of `logits` [rows, vocabulary]: the most likely one, or the draw for this token of the row's answer."""
    chosen = logits.max(dim=-1).indices  # several times as fast as argmax in bfloat16 on a CPU
    drawn = [
        (place, draws.temperature, draws.uniforms[token])
        for place, (draws, token) in enumerate(wanted)
        if draws is not None and token < len(draws.uniforms)
    ]
    if drawn:
        places, temperatures, uniforms = (torch.tensor(column, device=logits.device) for column in zip(*drawn, strict=True))
        # Inverse transform sampling: find each uniform number in the cumulative sum.
        cumulative = (logits[places].float() / temperatures[:, None]).softmax(dim=-1).double().cumsum(dim=-1)
        found = torch.searchsorted(cumulative, (uniforms.double() * cumulative[:, -1])[:, None], right=True)[:, 0]
        chosen[places] = found.clamp(max=logits.shape[-1] - 1)
    return chosen


def _line(
    decode_rows: list[_Live], prefill_rows: list[_Live], prefixes: list[Prefix], device: torch.device, keep: int | None = None
) -> Line:
    """The line of one pass; with `keep`, logits only after the last `keep` tokens."""
    ids: list[int] = []
    columns: list[int] = []
    wanted: list[int] = []
    slots, starts, shifts = [], [], []
    behind: dict[int | None, list[int]] = {}

    def place(live: _Live, slot: int, tokens: list[int], asked: int) -> None:
        start = len(ids)
        ids.extend(tokens)
        columns.extend(range(live.own, live.own + len(tokens)))
        slots.extend([slot] * len(tokens))
        wanted.extend(range(len(ids) - asked, len(ids)))
        prefix = live.row.prefix
        shifts.extend([0 if prefix is None else prefixes[prefix].tokens] * len(tokens))
        behind.setdefault(prefix, []).extend(range(start, len(ids)))

    for slot, live in enumerate(decode_rows):
        place(live, slot, live.made[-1:], 1)
    for slot, live in enumerate(prefill_rows, start=len(decode_rows)):
        starts.append(len(ids))
        place(live, slot, [*live.row.ids, *live.row.draft], len(live.row.draft) + 1)
    positions = [column + shift for column, shift in zip(columns, shifts, strict=True)]

    def tensor(numbers: list[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.long).to(device, non_blocking=True)

    return Line(
        ids=tensor(ids)[None],
        positions=tensor(positions)[None],
        slot=tensor(slots),
        column=tensor(columns),
        n_decode=len(decode_rows),
        order=tensor([token for tokens in behind.values() for token in tokens]),
        behind=[(prefix, len(tokens)) for prefix, tokens in behind.items()],
        starts=tensor(starts),
        lengths=tensor([len(live.row.ids) + len(live.row.draft) for live in prefill_rows]),
        wanted=tensor(wanted if keep is None else wanted[-keep:]),
        decode_columns=max((live.own + 1 for live in decode_rows), default=0),
        prefill_columns=max((live.own + len(live.row.ids) + len(live.row.draft) for live in prefill_rows), default=0),
        farthest=max(positions),
    )
