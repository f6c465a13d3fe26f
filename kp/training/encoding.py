"""Training rows as token ids; kp.training.batches lays them out for a model."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kp.errors import UserError
from kp.generation.rendering import chat_format, render, tokenise
from kp.prompts import training_messages
from kp.vocabulary import LossTokens

IGNORED = -100  # the label that torch's cross entropy ignores


@dataclass(frozen=True)
class EncodedRow:
    """Token ids of one chat and, for each, its label or IGNORED."""

    ids: tuple[int, ...]
    labels: tuple[int, ...]
    replayed: bool = False  # it teaches a fact that the base knows


def encode_row(tokenizer: Any, question: str, target: str, loss: LossTokens, max_length: int, replayed: bool = False) -> EncodedRow:
    """Encode one training row up to and including the token that ends the assistant's turn.

    Raises UserError if the row is longer than `max_length` tokens: a truncated row would teach half an answer.
    """
    chat = training_messages(question, target)
    form = chat_format(tokenizer)
    # The prompt as in generation, then the answer tokenised separately, so that the boundary is the one from which the model will generate.
    prompt = tokenise(tokenizer, [render(tokenizer, chat[:-1], form)], form)[0]
    answer: list[int] = tokenizer(chat[-1]["content"], add_special_tokens=False)["input_ids"]
    ids = [*prompt, *answer, tokenizer.eos_token_id]
    if len(ids) > max_length:
        raise UserError(f"{max_length} tokens are too few for the row '{question[:60]}' of {len(ids)}", field="training.max_length")
    untrained = len(prompt) if loss is LossTokens.ANSWER else 1
    return EncodedRow(tuple(ids), tuple([IGNORED] * untrained + ids[untrained:]), replayed)


def trained_tokens(rows: Iterable[EncodedRow]) -> int:
    """Tokens that a loss is taken on."""
    return sum(label != IGNORED for row in rows for label in row.labels)


def epoch_order(rows: int, seed: int, epoch: int) -> list[int]:
    """The order of the rows in one epoch; depends only on its arguments, so a resumed run has the same order."""
    return [int(index) for index in np.random.default_rng([seed, epoch]).permutation(rows)]
