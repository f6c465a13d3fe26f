"""Whether a model would write the answers of facts, from one pass over questions with their answers (teacher forcing).

If every token of the canonical answer, its end included, is the greedy choice after the tokens before it, then greedy generation writes
exactly that answer. So a fact that is right here is right when it is asked, by the same shots; one that is not may still get an alias.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from kp.models.chat import Chat
from kp.prompts import Shot, messages, training_messages
from kp.training.base_model_cache import BaseModelCache, against_trees
from kp.training.batches import make_batch
from kp.training.encoding import IGNORED, EncodedRow
from kp.training.loss import term_scores
from kp.vocabulary import Packing

_ROWS = 32  # in a pass: the shots before them are read once
_RESISTING = 5  # tokens that are named


@dataclass
class Forced:
    """Of all rows: how many would be written as they are, and the sum of their surprisal; and how often a token was no greedy choice."""

    rows: int = 0
    right: int = 0
    bits: float = 0.0
    resisting: Counter[int] = field(default_factory=Counter)


def forced_rows(chat: Chat, facts: pa.Table, prompts: Sequence[Sequence[Shot]]) -> list[EncodedRow]:
    """One row for each prompt and each of `facts` (FACTS): shots, question and canonical answer, of which the answer has labels."""
    rows = []
    for shots in prompts:
        for question, answers in zip(facts["question"].to_pylist(), facts["answers"].to_pylist(), strict=True):
            ids, prompt = chat.row_ids([*messages(shots, question), training_messages(question, answers[0])[-1]])
            rows.append(EncodedRow(tuple(ids), tuple([IGNORED] * prompt + ids[prompt:])))
    return rows


def forced_answers(engine: Any, rows: Sequence[EncodedRow], packing: Packing, cache: BaseModelCache) -> Forced:
    """Read the rows with a DeepSpeed engine in eval mode; rows share their shots if `packing` and the model allow it."""
    found = Forced()
    longest = max((len(row.ids) for row in rows), default=0)
    layout = Packing.PADDED if against_trees(engine.module.config, longest) else packing
    dtype = next(engine.module.parameters()).dtype
    for start in range(0, len(rows), _ROWS):
        batch = make_batch(rows[start : start + _ROWS], layout, cache.tokenizer.pad_token_id)
        scores = term_scores(engine, batch, cache.device, dtype)
        for terms in map(list, batch.terms_of_rows):
            found.rows += 1
            found.right += bool(scores.greedy[terms].all())
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
