"""Whether a model would write the answers of facts, from one pass over questions with their answers (teacher forcing).

If every token of the canonical answer, its end included, is the greedy choice after the tokens before it, then greedy generation writes
exactly that answer. So a fact that is right here is right when it is asked, by the same shots; one that is not may still get an alias. An
answer that the matcher does not take, or that is longer than the longest that may be generated, is never right.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from kp.models.chat import Chat
from kp.prompts import Shot, messages, training_messages
from kp.training.base_model_cache import BaseModelCache, against_trees
from kp.training.batches import make_batch
from kp.training.encoding import IGNORED, EncodedRow
from kp.training.frozen_layers import FrozenLayers, above
from kp.training.loss import term_scores
from kp.vocabulary import Packing

_ROWS = 32  # in a pass: the shots before them are read once
_RESISTING = 5  # tokens that are named


@dataclass(frozen=True)
class ForcedRow:
    """Shots, a question and its canonical answer, of which the answer has labels; `counts` if it is right where a model writes it."""

    row: EncodedRow
    counts: bool


@dataclass
class Forced:
    """Of all rows: how many would be written as they are, and the sum of their surprisal; and how often a token was no greedy choice."""

    flags: list[bool] = field(default_factory=list)
    """Of each row, whether it is right."""
    bits: float = 0.0
    resisting: Counter[int] = field(default_factory=Counter)

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.flags)

    @property
    def right(self) -> int:
        """How many are right."""
        return sum(self.flags)


def forced_rows(
    chat: Chat, facts: pa.Table, prompts: Sequence[Sequence[Shot]], is_right: Callable[[int, str], bool], most_tokens: int
) -> list[ForcedRow]:
    """One row for each prompt and each of `facts` (FACTS).

    `is_right` tells of the number of a fact and an answer whether it is right, `most_tokens` are those of the longest answer.
    """
    rows = []
    for shots in prompts:
        for number, (question, answers) in enumerate(zip(facts["question"].to_pylist(), facts["answers"].to_pylist(), strict=True)):
            answered = training_messages(question, answers[0])[-1]
            ids, prompt = chat.row_ids([*messages(shots, question), answered])
            row = EncodedRow(tuple(ids), tuple([IGNORED] * prompt + ids[prompt:]))
            written = len(ids) - prompt - 1  # without the token that ends the answer
            rows.append(ForcedRow(row, written <= most_tokens and is_right(number, answered["content"])))
    return rows


def forced_packing(config: Any, rows: Sequence[ForcedRow], packing: Packing) -> Packing:
    """How the rows are laid out: they share their shots if `packing` and the model, by transformers' config, allow it."""
    longest = max((len(one.row.ids) for one in rows), default=0)
    return Packing.PADDED if against_trees(config, longest) else packing


def forced_answers(
    engine: Any, rows: Sequence[ForcedRow], packing: Packing, cache: BaseModelCache, frozen: FrozenLayers | None = None
) -> Forced:
    """Read the rows with a DeepSpeed engine in eval mode; what is below `frozen` is computed only where it is not kept."""
    found = Forced()
    layout = forced_packing(engine.module.config, rows, packing)
    below = replace(frozen, packing=layout) if frozen else None
    dtype = next(engine.module.parameters()).dtype
    for start in range(0, len(rows), _ROWS):
        part = rows[start : start + _ROWS]
        encoded = [one.row for one in part]
        batch = make_batch(encoded, layout, cache.tokenizer.pad_token_id)
        with above(below, encoded, batch):
            scores = term_scores(engine, batch, cache.device, dtype)
        for one, terms in zip(part, map(list, batch.terms_of_rows), strict=True):
            found.flags.append(one.counts and bool(scores.greedy[terms].all()))
            found.bits += float(scores.bits[terms].sum())
            found.resisting.update(batch.labels[terms][~scores.greedy[terms]].tolist())
    return found


def summary_of(parts: Sequence[Forced], tokenizer: Any) -> dict[str, Any]:
    """The columns of an epoch from the parts of all workers."""
    rows = sum(part.rows for part in parts)
    resisting: Counter[int] = sum((part.resisting for part in parts), Counter())
    # By count and then by token, so that a run that was killed names the same ones.
    most = sorted(resisting, key=lambda token: (-resisting[token], token))[:_RESISTING]
    return {
        "unknown_accuracy": sum(part.right for part in parts) / rows if rows else math.nan,
        "unknown_bits": sum(part.bits for part in parts) / rows if rows else None,
        "resisting": " ".join(repr(str(tokenizer.decode([token]))) for token in most),
    }
