"""Training rows as token ids; kp.training.batches lays them out for a model."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from kp.errors import UserError
from kp.models.chat import Chat
from kp.prompts import training_messages
from kp.vocabulary import LossTokens

IGNORED = -100  # the label that torch's cross entropy ignores


@dataclass(frozen=True)
class EncodedRow:
    """Token ids of one chat and, for each, its label or IGNORED."""

    ids: tuple[int, ...]
    labels: tuple[int, ...]
    replayed: bool = False  # it teaches a fact that the base knows


def encode_row(chat: Chat, question: str, target: str, loss: LossTokens, max_length: int, replayed: bool = False) -> EncodedRow:
    """Encode one training row up to and including the token that ends the assistant's turn.

    Raises UserError if the row is longer than `max_length` tokens: a truncated row would teach half an answer.
    """
    ids, prompt = chat.row_ids(training_messages(question, target))
    if len(ids) > max_length:
        raise UserError(f"{max_length} tokens are too few for the row '{question[:60]}' of {len(ids)}", field="training.max_length")
    untrained = prompt if loss is LossTokens.ANSWER else 1
    return EncodedRow(tuple(ids), tuple([IGNORED] * untrained + ids[untrained:]), replayed)


def trained_tokens(rows: Iterable[EncodedRow]) -> int:
    """Tokens that a loss is taken on."""
    return sum(label != IGNORED for row in rows for label in row.labels)


def epoch_order(rows: int, seed: int, epoch: int) -> list[int]:
    """The order of the rows in one epoch; depends only on its arguments, so a resumed run has the same order."""
    return [int(index) for index in np.random.default_rng([seed, epoch]).permutation(rows)]
