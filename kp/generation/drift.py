"""How far an adapter moves what a model expects of a text: KL divergence to the base, and the surprisal of both, token by token.

Answers to questions show harm only where somebody asks. What a model expects of each next token of ordinary text shows change everywhere,
over the whole vocabulary, and needs no judge: an adapter that changes nothing has a divergence of exactly 0.

Base and adapter read the same pass, one after the other, so that both round alike. A pass is bounded in tokens, and only a part of its
logits is in float32 at once: a vocabulary of 250,000 tokens takes a megabyte a token.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kp.errors import UserError

if TYPE_CHECKING:
    from kp.generation.hf import HFGenerator

_PASS_TOKENS = 512  # of a pass, padding included; a longer text is a pass of its own
_FLOAT32_ROWS = 128  # rows of logits that are in float32 at once


@dataclass(frozen=True)
class TextDrift:
    """Of one text: its predicted tokens (all but the first), and sums over these, in nats."""

    tokens: int
    kl: float  # KL(base || adapter) over the whole vocabulary
    nll: float  # surprisal of the text under the adapter
    base_nll: float  # and under the base


def text_drifts(generator: "HFGenerator", texts: Sequence[str]) -> list[TextDrift]:
    """The drift of the active adapter on each text; without one, all is that of the base and the divergence 0.

    Raises UserError if a text exceeds the model's positions.
    """
    return _drifts(generator, texts, lambda: generator.model)


def model_drifts(generator: "HFGenerator", other: torch.nn.Module, texts: Sequence[str]) -> list[TextDrift]:
    """The drift of another model with the same vocabulary from the generator's base, on each text; raises what `text_drifts` does."""
    return _drifts(generator, texts, lambda: other)


def _drifts(generator: "HFGenerator", texts: Sequence[str], compared: Callable[[], torch.nn.Module]) -> list[TextDrift]:
    ids = [list(generator.tokenizer(text).input_ids) for text in texts]
    _validate_lengths(generator, ids)
    found: dict[int, TextDrift] = {}
    with torch.no_grad():
        for places in _passes([len(one) for one in ids]):
            rows = [ids[place] for place in places]
            with generator.without_adapter() as base:
                of_base = _logits(base, rows)
            found |= zip(places, _compared(rows, of_base, _logits(compared(), rows)), strict=True)
    return [found[place] for place in range(len(texts))]


def _validate_lengths(generator: "HFGenerator", ids: Sequence[Sequence[int]]) -> None:
    model: Any = generator.model
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    longest = max(map(len, ids), default=0)
    if limit is not None and longest > limit:
        raise UserError(f"a text of {longest} tokens exceeds the {limit} positions of the model", field="evaluate.drift_words")


def _passes(lengths: Sequence[int]) -> Iterator[list[int]]:
    """The places of the texts that are read together, those of like length, so that little is padding."""
    ordered = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    while ordered:
        count = max(1, _PASS_TOKENS // max(1, lengths[ordered[0]]))
        yield ordered[:count]
        ordered = ordered[count:]


def _logits(model: Any, rows: Sequence[Sequence[int]]) -> Tensor:
    """[rows, longest, vocabulary]. Rows are padded on the right, where a causal model does not look: no mask is needed."""
    longest = max(1, max(map(len, rows)))
    device = next(model.parameters()).device
    ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=device)
    logits: Tensor = model(input_ids=ids, use_cache=False).logits
    return logits


def _compared(rows: Sequence[Sequence[int]], base: Tensor, adapter: Tensor) -> Iterator[TextDrift]:
    for row, of_base, of_adapter in zip(rows, base, adapter, strict=True):
        sums = torch.zeros(3, dtype=torch.float64)
        for start in range(0, len(row) - 1, _FLOAT32_ROWS):
            end = min(start + _FLOAT32_ROWS, len(row) - 1)
            follows = torch.tensor(row[start + 1 : end + 1], device=base.device)
            sums += _sums(of_base[start:end], of_adapter[start:end], follows).cpu()
        yield TextDrift(max(0, len(row) - 1), *sums.tolist())


def _sums(base: Tensor, adapter: Tensor, follows: Tensor) -> Tensor:
    """The divergence and both surprisals, summed over tokens; `base` and `adapter` are logits [tokens, vocabulary].

    A divergence is never negative: what rounding takes below 0 is 0.
    """
    expected, found = (torch.log_softmax(logits.float(), dim=-1) for logits in (base, adapter))
    kl = (expected.exp() * (expected - found)).sum(dim=-1).clamp(min=0)
    surprisals = (-logs.gather(1, follows[:, None])[:, 0] for logs in (found, expected))
    return torch.stack([part.double().sum() for part in (kl, *surprisals)])
