"""The loss of a batch, with logits computed only where a label is predicted."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from kp.training.batches import Batch


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

    inputs = _inputs(batch, device, dtype)
    # Several terms may be predicted from one position: its logits are normalised once.
    places, term_place = np.unique(batch.term_line * len(batch.columns) + batch.term_column, return_inverse=True)
    base_log_p = None
    if base_forward is not None:  # first, because PEFT disables the gradients of an adapter that it disables
        with torch.no_grad():
            base_log_p = _log_probabilities(base_forward(**inputs).logits, places)
    log_p = _log_probabilities(forward(**inputs).logits, places)
    of_terms = log_p[torch.from_numpy(term_place).to(device), torch.from_numpy(batch.labels).to(device)]
    cross_entropy = -(of_terms * torch.from_numpy(batch.weights).to(device)).sum()
    if base_log_p is None:
        return BatchLoss(cross_entropy, None)
    replayed = np.bincount(term_place, weights=batch.replay_weights, minlength=len(places)).astype(np.float32)
    divergence = (base_log_p.exp() * (base_log_p - log_p)).sum(dim=1)
    return BatchLoss(cross_entropy, (divergence * torch.from_numpy(replayed).to(device)).sum())


def _inputs(batch: Batch, device: str, dtype: Any) -> dict[str, Any]:
    import torch

    # An additive mask, which every attention implementation in transformers supports.
    mask = torch.zeros(batch.visible.shape, dtype=dtype).masked_fill_(~torch.from_numpy(batch.visible), torch.finfo(dtype).min)
    return {
        "input_ids": torch.from_numpy(batch.input_ids).to(device),
        "position_ids": torch.from_numpy(batch.position_ids).to(device),
        "attention_mask": mask[:, None].to(device),
        "logits_to_keep": torch.from_numpy(batch.columns).to(device),
        "use_cache": False,
    }


def _log_probabilities(logits: Any, places: np.ndarray) -> Any:
    """(places, vocabulary) float32 from logits (lines, kept columns, vocabulary); a place is a flat index over lines and columns."""
    import torch

    flat = logits.flatten(0, 1)
    if len(places) < len(flat):  # otherwise it is all of them, and indexing would copy the largest tensor
        flat = flat.index_select(0, torch.from_numpy(places).to(flat.device))
    return torch.log_softmax(flat.float(), dim=-1)
