"""Continuous batching: many rows are decoded together, and the batch stays full to the end.

A pass of the model reads the next token of every decode row and, as far as the token budget allows, the whole questions of waiting rows
(prefill rows), whichever prefix they follow. A row that has ended leaves at once, so no pass has ended rows and few run below the budget.

If questions behind the same prefix begin alike, their *shared question prefix* (see kp.generation.shared_prefixes) is read before them,
once.

The expected beginning of an answer is read together with the question and verified, instead of being generated token by token: for each of
these *draft* tokens the model predicts the token it would have written, and the draft is accepted as far as the two agree.

With an adapter of upper layers only, prefill rows enter the first adapted layer with what was computed below it before (see
kp.generation.lower_layers), and only decode rows pass all layers.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, groupby, islice
from typing import Any, Protocol

import torch
from torch import Tensor

from kp.generation.activations import LowerRow
from kp.generation.folding import PADDING_ALLOWED, fold_plan
from kp.generation.forward import Forward
from kp.generation.slots import ALL_LAYERS, Line, LinePlan, Prefix, Slots, rounded_up, sent


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
    lower: LowerRow | None = None  # what the lower layers computed for `ids` and `draft`, for a decoder that enters the layer above


@dataclass(frozen=True)
class Limits:
    """The size limits of a pass."""

    rows: int  # decoded together
    tokens: int  # read in one pass; a single row may have more

    def within(self, most: "Limits | None") -> "Limits":
        """The same, and no more than `most`, if there is one."""
        return self if most is None else Limits(min(self.rows, most.rows), min(self.tokens, most.tokens))

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
    lower_tokens: int = 0  # read by the lower layers alone, while all other counts are of the layers from the first adapted one on

    @property
    def tokens(self) -> int:
        """All tokens that were read, by the lower layers alone or not at all."""
        return self.prefix_tokens + self.prompt_tokens + self.answer_tokens


@dataclass
class Live:
    """A row in a slot."""

    row: Row
    own: int  # tokens in its slot; before the row is read, those of its shared prefix
    made: list[int] = field(default_factory=list)
    lower_copied: bool = False  # whether the keys and values that its `lower` has are in the slot


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
    for batch in batches(rows, most_tokens):
        slots = Slots(forward.layers, len(batch), max(len(live.row.ids) for live in batch), prefixes)
        forward.packed(make_line([], batch, prefixes, forward.device, keep=1), slots)
        read += [slots.as_prefix(slot, len(live.row.ids)) for slot, live in enumerate(batch)]
        work.passes += 1
        work.logits += 1
    return read


def batches(rows: Sequence[Row], most_tokens: int, shared_prefixes: Sequence[Prefix] = ()) -> Iterator[list[Live]]:
    """The rows, in their order, in batches of at most `most_tokens` tokens, or of one row; ready to be read."""
    waiting = deque(rows)
    while waiting:
        batch, room = list[Live](), most_tokens
        while waiting and (not batch or len(waiting[0].ids) + len(waiting[0].draft) <= room):
            row = waiting.popleft()
            room -= len(row.ids) + len(row.draft)
            batch.append(Live(row, _shared_tokens(row, shared_prefixes)))
        yield batch


def copy_shared_prefixes(
    slots: Slots, rows: Sequence[Live], first: int, shared_prefixes: Sequence[Prefix], layers: slice = ALL_LAYERS
) -> None:
    """Copy the shared prefixes into the slots of these rows, from slot `first` on; neighbours mostly have the same one."""
    for shared_prefix, neighbours in groupby(enumerate(rows, start=first), key=lambda placed: placed[1].row.shared_prefix):
        places = [slot for slot, _ in neighbours]
        if shared_prefix is not None:
            slots.copy_kv(places[0], places[-1] + 1, shared_prefixes[shared_prefix], layers)


def _shared_tokens(row: Row, shared_prefixes: Sequence[Prefix]) -> int:
    return 0 if row.shared_prefix is None else shared_prefixes[row.shared_prefix].tokens


def first_logits(forward: Forward, prefixes: list[Prefix], row: Row) -> Tensor:
    """Logits [vocabulary] of the first token of a row's answer; call it inside `Forward.exchanged`."""
    slots = Slots(forward.layers, 1, len(row.ids), prefixes)
    return forward.packed(make_line([], [Live(row, 0)], prefixes, forward.device, keep=1), slots)[0]


class DecodePasses(Protocol):
    """Passes that only decode, made in another way (kp.generation.static_passes)."""

    def slots(self, rows: int, columns: int, prefixes: list[Prefix]) -> Slots:
        """Slots for so many rows of so many tokens."""
        ...

    def shape_of(self, rows: Sequence[Live]) -> Any:
        """What `logits` needs to know of a pass over these rows; None if it is to be made in the usual way."""
        ...

    def logits(self, shape: Any, rows: Sequence[Live]) -> Tensor:
        """Logits [rows, vocabulary] after the last token of each row; row i is in slot i. Valid until the next pass."""
        ...


class Decoder:
    """Decodes rows behind `shared` (prefixes, shared question prefixes) until they have `ended` or until `new_tokens` are generated.

    With `first_layer` above 0, the rows enter that layer with their `lower`, and have the same answers for less work.
    """

    def __init__(
        self,
        forward: Forward,
        shared: tuple[list[Prefix], list[Prefix]],
        limits: Limits,
        new_tokens: int,
        ended: Callable[[Sequence[int]], bool],
        work: Work,
        first_layer: int = 0,
        passes: DecodePasses | None = None,
    ) -> None:
        self._forward, self._limits, self._passes = forward, limits, passes
        self._prefixes, self._shared_prefixes = shared
        self._new_tokens, self._ended, self._work = new_tokens, ended, work
        self._first_layer = first_layer
        self._live: list[Live] = []
        self._moves: tuple[list[int], list[int]] = ([], [])  # slots whose rows move before the next pass, and where to

    @property
    def rows_tried(self) -> int:
        """Rows in the current pass."""
        return len(self._live)

    def answers(self, rows: Sequence[Row]) -> Iterator[tuple[Row, list[int]]]:
        """Each row with its generated tokens, the ending one included, in the order of finishing; rows are admitted in the given order."""
        waiting = deque(rows)
        columns = max(_shared_tokens(row, self._shared_prefixes) + len(row.ids) for row in rows) + self._new_tokens
        slots = self._slots(min(self._limits.rows, len(rows)), columns)
        while waiting or self._live:
            n_live = len(self._live)
            n_decode = 0 if self._prefills_first(waiting) else n_live
            self._admit(waiting, n_decode)
            decode, prefill = self._live[:n_decode], self._live[n_live:]
            logits = self._pass(slots, decode, prefill, n_live)
            self._count(n_decode, prefill, len(logits))
            chosen = iter(self._choose(logits, decode, prefill))
            for live in decode:
                _take(live, [next(chosen)])
            for live in prefill:
                _take(live, [next(chosen) for _ in range(len(live.row.draft) + 1)])
            yield from self._leave()

    def _slots(self, rows: int, columns: int) -> Slots:
        if self._passes is not None:
            return self._passes.slots(rows, columns, self._prefixes)
        return Slots(self._forward.layers, rows, columns, self._prefixes)

    def _prefills_first(self, waiting: deque[Row]) -> bool:
        """Whether the decode rows wait for a pass of prefill rows, which skips the lower layers and is full without them.

        The lower layers cost the same weights for one token as for many, so the more rows are decoded together, the better.
        """
        if not self._first_layer:
            return False
        may_enter = islice(waiting, self._limits.rows - len(self._live))
        return any(tokens >= self._limits.tokens for tokens in accumulate(len(row.ids) + len(row.draft) for row in may_enter))

    def _admit(self, waiting: deque[Row], n_decode: int) -> None:
        room, alone = self._limits.tokens - n_decode, not n_decode
        while waiting and len(self._live) < self._limits.rows:
            room -= len(waiting[0].ids) + len(waiting[0].draft)
            if room < 0 and not alone:
                return
            row, alone = waiting.popleft(), False
            self._live.append(Live(row, _shared_tokens(row, self._shared_prefixes)))

    def _pass(self, slots: Slots, decode: list[Live], prefill: list[Live], first_prefill: int) -> Tensor:
        """The logits of the next tokens of decode rows, and of what follows each draft token of prefill rows."""
        if self._passes is not None and not prefill and (shape := self._passes.shape_of(decode)) is not None:
            if self._moves[0]:
                sources, targets = sent(self._moves, self._forward.device)
                self._move(slots, sources, targets, len(decode))
            if self._first_layer:
                self._copy_lower(slots, decode)
                self._work.lower_tokens += len(decode)
            return self._passes.logits(shape, decode)
        line = make_line(decode, prefill, self._prefixes, self._forward.device, first_prefill=first_prefill, moves=self._moves)
        self._move(slots, line.sources, line.targets, first_prefill)
        copy_shared_prefixes(slots, prefill, first_prefill, self._shared_prefixes, slice(self._first_layer, None))
        if not self._first_layer:
            return self._forward.packed(line, slots)
        hidden = [live.row.lower.hidden for live in prefill if live.row.lower is not None]
        if decode:
            self._copy_lower(slots, decode)
            below = make_line(decode, [], self._prefixes, self._forward.device, keep=1)
            hidden.insert(0, self._forward.packed_below(self._first_layer, below, slots))
            self._work.lower_tokens += len(decode)
        return self._forward.packed(line, slots, (self._first_layer, torch.cat(hidden)))

    def _move(self, slots: Slots, sources: Tensor, targets: Tensor, rows: int) -> None:
        """Make the moves that are due among the first rows."""
        if self._moves[0]:
            slots.move(sources, targets, max(live.own for live in self._live[:rows]))

    def _copy_lower(self, slots: Slots, decode: list[Live]) -> None:
        """Copy the lower layers' keys and values into the slots of rows that are decoded for the first time; most rows never are."""
        lower = slice(0, self._first_layer)
        for slot, live in enumerate(decode):
            if live.lower_copied or live.row.lower is None:
                continue
            copy_shared_prefixes(slots, [live], slot, self._shared_prefixes, lower)
            shared = _shared_tokens(live.row, self._shared_prefixes)
            slots.copy_kv(slot, slot + 1, live.row.lower.kv(live.own - shared), lower, shared)
            live.lower_copied = True

    def _choose(self, logits: Tensor, decode: list[Live], prefill: list[Live]) -> list[int]:
        """The chosen token for each position of the logits."""
        asked = [(live, 0) for live in decode] + [(live, len(live.row.draft)) for live in prefill]
        wanted = [(live.row.draws, len(live.made) + offset) for live, drafts in asked for offset in range(drafts + 1)]
        chosen: list[int] = choose_tokens(logits, wanted).tolist()
        return chosen

    def _leave(self) -> Iterator[tuple[Row, list[int]]]:
        """Remove rows that have ended and let the last ones move into the gaps, so that decode rows are always in the first slots."""
        ended = [self._ended(live.made) or len(live.made) >= self._new_tokens for live in self._live]
        stay = len(ended) - sum(ended)
        gaps = [slot for slot in range(stay) if ended[slot]]
        movers = [slot for slot in range(stay, len(ended)) if not ended[slot]]
        finished = [live for live, gone in zip(self._live, ended, strict=True) if gone]
        self._moves = movers, gaps
        for gap, mover in zip(gaps, movers, strict=True):
            self._live[gap] = self._live[mover]
        del self._live[stay:]
        for live in finished:
            yield live.row, live.made

    def _count(self, n_decode: int, prefill: list[Live], logits: int) -> None:
        self._work.prompt_tokens += sum(len(live.row.ids) for live in prefill)
        self._work.answer_tokens += n_decode + sum(len(live.row.draft) for live in prefill)
        self._work.logits += logits
        self._work.passes += 1


def _take(live: Live, chosen: list[int]) -> None:
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
    live = [Live(row, _shared_tokens(row, shared_prefixes)) for row in rows]
    copy_shared_prefixes(slots, live, 0, shared_prefixes)
    return forward.packed(make_line([], live, prefixes, forward.device), slots)


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


def make_line(
    decode_rows: Sequence[Live],
    prefill_rows: Sequence[Live],
    prefixes: Sequence[Prefix],
    device: torch.device,
    keep: int | None = None,
    first_prefill: int | None = None,
    moves: tuple[list[int], list[int]] = ([], []),
) -> Line:
    """The line of one pass; with `keep`, logits only after the last `keep` tokens. The prefill rows are in the slots from `first_prefill`
    on, by default in those after the decode rows. `moves` are the slots whose rows move before the pass, and where to."""
    first = len(decode_rows) if first_prefill is None else first_prefill
    ids: list[int] = []
    columns: list[int] = []
    positions: list[int] = []
    wanted: list[int] = []
    slots: list[int] = []
    own: dict[int, list[int]] = {}
    behind: dict[int, list[int]] = {}

    def place(live: Live, slot: int, tokens: list[int], asked: int) -> list[int]:
        placed = [*range(len(ids), len(ids) + len(tokens))]
        shift = 0 if live.row.prefix is None else prefixes[live.row.prefix].tokens
        ids.extend(tokens)
        columns.extend(range(live.own, live.own + len(tokens)))
        positions.extend(range(live.own + shift, live.own + shift + len(tokens)))
        slots.extend([slot] * len(tokens))
        wanted.extend(placed[-asked:])
        if live.row.prefix is not None:
            behind.setdefault(live.row.prefix, []).extend(placed)
        return placed

    for slot, live in enumerate(decode_rows):
        place(live, slot, live.made[-1:], 1)
    for slot, live in enumerate(prefill_rows, start=first):
        own[slot] = place(live, slot, [*live.row.ids, *live.row.draft], len(live.row.draft) + 1)
    sizes = {number: prefixes[number].tokens for number in behind}
    return LinePlan(
        ids=ids,
        positions=positions,
        slot=slots,
        column=columns,
        wanted=wanted if keep is None else wanted[-keep:],
        n_decode=len(decode_rows),
        first_prefill=first,
        # Rows always form one batch, because they are many and short.
        own=fold_plan(own, dict.fromkeys(own, 1), range(len(decode_rows), len(ids)), math.inf),
        behind=fold_plan(behind, sizes, range(len(ids)), PADDING_ALLOWED[device.type]),
        sources=moves[0],
        targets=moves[1],
        decode_columns=rounded_up(max((live.own + 1 for live in decode_rows), default=0)),
        prefill_columns=rounded_up(max((live.own + len(live.row.ids) + len(live.row.draft) for live in prefill_rows), default=0)),
    ).to(device)
