"""How surprised a model is of the answers to questions, in bits: -log2 of the probability of each answer token, given the question.

The question stands in the chat form of a training row, without shots, and the answer begins after its label ("Answer:"), so that what a
model has yet to learn of the form is not counted as a part of the fact. The token that ends the answer is told apart for the same reason.

Rows that have the same beginning share it (kp.generation.likelihoods). A model whose attention cannot be replaced reads one row at a time.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from kp.generation.likelihoods import Context, Likelihood, LikelihoodScorer, token_likelihoods
from kp.generation.slots import NotShareableError
from kp.models.chat import Chat
from kp.prompts import ANSWER_PREFIX, messages, training_messages

NAT = 1 / math.log(2)
"""Bits in a nat."""


@dataclass(frozen=True)
class Surprisal:
    """Of one answer: bits of its tokens, without label and end, and of the token that ends it; how many tokens they are; and whether greedy
    choices would write it."""

    bits: float
    end_bits: float
    tokens: int
    is_greedy: bool


def surprisals(model: torch.nn.Module, chat: Chat, asked: Sequence[tuple[str, str]], most_rows: int) -> list[Surprisal]:
    """The surprisal of each question and answer; log-softmax in float32. `most_rows` is the most rows of a pass."""
    rows = [_parted(chat, question, answer) for question, answer in asked]
    numbers: dict[tuple[int, ...], int] = {}
    continuations: list[dict[tuple[int, ...], int]] = []
    for context, written in rows:
        number = numbers.setdefault(context, len(numbers))
        if number == len(continuations):
            continuations.append({})
        for part in (written[:-1], written):
            continuations[number].setdefault(part, len(continuations[number]))
    found = _likelihoods(model, [Context(ids, tuple(parts)) for ids, parts in zip(numbers, continuations, strict=True)], most_rows)
    made = []
    for context, written in rows:
        number = numbers[context]
        answer, whole = (found[number][continuations[number][part]] for part in (written[:-1], written))
        made.append(Surprisal(-answer.log * NAT, (answer.log - whole.log) * NAT, len(written) - 1, answer.is_greedy))
    return made


def _parted(chat: Chat, question: str, answer: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Token ids of a training row up to the answer, and of the answer with its end."""
    ids, _ = chat.row_ids(training_messages(question, answer))
    (labelled,) = chat.prompt_ids([messages((), question)], ANSWER_PREFIX.rstrip())
    same = (place for place, (one, other) in enumerate(zip(labelled, ids, strict=False)) if one != other)
    cut = next(same, min(len(labelled), len(ids)))
    cut = min(cut, len(ids) - 2)  # an answer has at least one token, and its end
    return tuple(ids[:cut]), tuple(ids[cut:])


def _likelihoods(model: torch.nn.Module, contexts: Sequence[Context], most_rows: int) -> list[list[Likelihood]]:
    try:
        return LikelihoodScorer(model, most_rows).score(contexts)
    except NotShareableError:
        return [[_alone(model, context.ids, ids) for ids in context.continuations] for context in contexts]


def _alone(model: Any, context: Sequence[int], continuation: Sequence[int]) -> Likelihood:
    """The likelihood of a continuation by the model's own pass over one row."""
    device = next(model.parameters()).device
    with torch.no_grad():
        logits = model(torch.tensor([[*context, *continuation[:-1]]], device=device), use_cache=False).logits[0, len(context) - 1 :]
    first, *rest = token_likelihoods(logits, list(enumerate(continuation)))
    return sum(rest, first)
