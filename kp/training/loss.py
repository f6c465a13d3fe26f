"""The loss of a batch, with logits computed only where a label is predicted."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kp.errors import UserError
from kp.training.batches import Batch, make_batch
from kp.training.encoding import IGNORED, EncodedRow
from kp.vocabulary import Packing

# How much the loss of rows that are laid out together may differ from that of each alone, relative to it: by the order of summation.
_TOLERANCE = {"torch.float32": 1e-4}
_TOLERANCE_ELSE = 3e-2


@dataclass(frozen=True)
class BatchLoss:
    """Sums over the terms of a batch, as 0-dimensional tensors; `kl` only if it was requested."""

    cross_entropy: Any
    kl: Any | None

    def of_step(self, trained: int, replayed: int, kl_coefficient: float) -> Any:
        """This batch's part of the loss of a step, whose global batch trains `trained` tokens, of which `replayed` are in replayed rows.

        The parts of all workers and passes add up to the cross entropy per trained token plus the coefficient times the KL per replayed
        one. Each term is a mean over its own tokens, so the weight of the KL does not depend on how many other tokens a batch has.
        """
        cross_entropy = self.cross_entropy / trained
        return cross_entropy if self.kl is None else cross_entropy + kl_coefficient * self.kl / replayed


def batch_loss(forward: Any, base_forward: Any | None, batch: Batch, device: str, dtype: Any) -> BatchLoss:
    """The loss of a batch for a model in training.

    `forward` is called like a causal language model of transformers and returns its output. `base_forward`, the same without the adapter,
    is given if the KL divergence KL(base || adapter) = sum p_base (log p_base - log p_adapter) over replayed rows is needed. Cross entropy
    is -log p(label). Both are in nats, weighted by the number of rows that have a term, and computed in float32 whatever the model's dtype.
    """
    import torch

    from kp.training.cross_entropy import weighted_cross_entropy

    inputs = model_inputs(batch, device, dtype)
    places, term_place = _places(batch)
    base_log_p = None
    if base_forward is not None:  # first, because PEFT disables the gradients of an adapter that it disables
        with torch.no_grad():
            base_log_p = _log_probabilities(base_forward(**inputs).logits, places)
    logits = _logits(forward(**inputs).logits, places)
    by_place = np.argsort(term_place, kind="stable")
    place, labels, weights = (torch.from_numpy(values[by_place]).to(device) for values in (term_place, batch.labels, batch.weights))
    if base_log_p is None:
        return BatchLoss(weighted_cross_entropy(logits, place, labels, weights), None)
    log_p = torch.log_softmax(logits.float(), dim=-1)  # of the whole vocabulary, which the KL needs
    cross_entropy = -(log_p[place, labels] * weights).sum()
    replayed = np.bincount(term_place, weights=batch.replay_weights, minlength=len(places)).astype(np.float32)
    divergence = (base_log_p.exp() * (base_log_p - log_p)).sum(dim=1)
    return BatchLoss(cross_entropy, (divergence * torch.from_numpy(replayed).to(device)).sum())


@dataclass(frozen=True)
class TermScores:
    """Of each term of a batch: the probability of its label in bits of surprisal, and whether it is the model's greedy choice."""

    bits: np.ndarray
    greedy: np.ndarray


def term_scores(forward: Any, batch: Batch, device: str, dtype: Any) -> TermScores:
    """The scores of a batch's terms, -log2 p(label), without gradients."""
    import torch

    places, term_place = _places(batch)
    with torch.no_grad():
        log_p = _log_probabilities(forward(**model_inputs(batch, device, dtype)).logits, places)
        of_terms = torch.from_numpy(term_place).to(device)
        labels = torch.from_numpy(batch.labels).to(device)
        bits = -log_p[of_terms, labels] / math.log(2)
        greedy = log_p.argmax(dim=1)[of_terms] == labels
    return TermScores(bits.cpu().numpy(), greedy.cpu().numpy())


def _places(batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """The distinct positions that predict terms, and for each term its position: logits of one are normalised once for several terms."""
    return np.unique(batch.term_line * len(batch.columns) + batch.term_column, return_inverse=True)


def model_inputs(batch: Batch, device: str, dtype: Any) -> dict[str, Any]:
    """The arguments of a causal language model of transformers in `dtype` that reads a batch."""
    import torch

    visible = torch.from_numpy(batch.visible)
    if visible.ndim == 3:  # an additive mask, which every attention implementation in transformers supports
        visible = torch.zeros(visible.shape, dtype=dtype).masked_fill_(~visible, torch.finfo(dtype).min)[:, None]
    return {
        "input_ids": torch.from_numpy(batch.input_ids).to(device),
        "position_ids": torch.from_numpy(batch.position_ids).to(device),
        "attention_mask": (visible if visible.ndim == 4 else visible.long()).to(device),
        "logits_to_keep": torch.from_numpy(batch.columns).to(device),
        "use_cache": False,
    }


def _logits(logits: Any, places: np.ndarray) -> Any:
    """(places, vocabulary) from logits (lines, kept columns, vocabulary); a place is a flat index over lines and columns."""
    import torch

    flat = logits.flatten(0, 1)
    if len(places) < len(flat):  # otherwise it is all of them, and indexing would copy the largest tensor
        flat = flat.index_select(0, torch.from_numpy(places).to(flat.device))
    return flat


def _log_probabilities(logits: Any, places: np.ndarray) -> Any:
    """(places, vocabulary) float32."""
    import torch

    return torch.log_softmax(_logits(logits, places).float(), dim=-1)


def validate_layout(model: Any, rows: Sequence[EncodedRow], packing: Packing, pad_token_id: int, device: str) -> None:
    """Raise UserError if these rows, laid out together, have another loss than each of them read alone in the model's own way.

    Masks and positions say all of what a token sees only where attention is made of nothing else: not of distances between columns, not of
    a recurrent state. That is a property of a model's code, so it is measured.
    """
    import torch

    with torch.no_grad():
        together = float(batch_loss(model, None, make_batch(rows, packing, pad_token_id), device, model.dtype).cross_entropy)
        alone = sum(_own_cross_entropy(model, row, device) for row in rows)
    if not is_same_loss(together, alone, model.dtype):
        remedy = f"use '{Packing.PADDED}'" if packing is Packing.PREFIX_TREE else "kp cannot train this model"
        raise UserError(
            f"a {model.config.model_type} gives rows in a '{packing}' another loss than alone ({together:.6g} for {alone:.6g}): {remedy}",
            field="training.packing",
        )


def is_same_loss(one: float, other: float, dtype: Any) -> bool:
    """Whether two losses of the same rows differ by no more than the order of summation explains in this dtype."""
    return abs(one - other) <= _TOLERANCE.get(str(dtype), _TOLERANCE_ELSE) * abs(other)


def _own_cross_entropy(model: Any, row: EncodedRow, device: str) -> float:
    import torch

    logits = model(input_ids=torch.tensor([row.ids], device=device)).logits[0, :-1].float()
    labels = torch.tensor(row.labels[1:], device=device)
    return float(torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum"))
