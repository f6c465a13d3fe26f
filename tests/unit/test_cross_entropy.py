"""Cross entropy in parts: the sum and the gradient of torch's, however positions, terms and parts lie."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kp.training import cross_entropy
from kp.training.cross_entropy import weighted_cross_entropy


def _torchs(logits: Tensor, place: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    return -(torch.log_softmax(logits.float(), dim=-1)[place, labels] * weights).sum()


def _terms(places: int, vocabulary: int, number: int, dtype: torch.dtype, seed: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(places, vocabulary, generator=generator).mul_(5).to(dtype)
    place = torch.randint(places, (number,), generator=generator).sort().values
    labels = torch.randint(vocabulary, (number,), generator=generator)
    return logits, place, labels, torch.randint(1, 4, (number,), generator=generator).float()


@given(places=st.integers(1, 9), number=st.integers(1, 30), elements=st.sampled_from([1, 40, 64, 1000]), seed=st.integers(0, 1000))
def test_sum_and_gradient_are_torchs_in_parts_of_any_size(places: int, number: int, elements: int, seed: int) -> None:
    logits, *terms = _terms(places, 20, number, torch.float32, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cross_entropy, "_ELEMENTS", {"cpu": elements})
        ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        found, expected = weighted_cross_entropy(ours, *terms), _torchs(theirs, *terms)
        (found * 0.37).backward()
    (expected * 0.37).backward()

    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    assert ours.grad is not None
    assert theirs.grad is not None
    assert torch.allclose(ours.grad, theirs.grad, rtol=1e-5, atol=1e-6)


def test_bfloat16_is_summed_in_float32_and_its_gradient_rounded_to_bfloat16() -> None:
    logits, *terms = _terms(7, 300, 12, torch.bfloat16, seed=0)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()

    found, expected = weighted_cross_entropy(ours, *terms), _torchs(theirs, *terms)
    found.backward()
    expected.backward()

    assert found.dtype is torch.float32
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    assert ours.grad is not None
    assert theirs.grad is not None
    assert ours.grad.dtype is torch.bfloat16
    assert torch.allclose(ours.grad.float(), theirs.grad.float(), rtol=2**-7, atol=1e-6)


def test_label_that_is_all_but_impossible_has_a_finite_loss() -> None:
    logits = torch.tensor([[200.0, 0.0]], requires_grad=True)

    loss = weighted_cross_entropy(logits, torch.tensor([0]), torch.tensor([1]), torch.tensor([2.0]))
    loss.backward()

    assert loss.item() == 400.0
    assert logits.grad is not None
    assert logits.grad.tolist() == [[2.0, -2.0]]


def test_without_gradients_none_is_made() -> None:
    logits, *terms = _terms(3, 20, 5, torch.float32, seed=0)

    assert not weighted_cross_entropy(logits, *terms).requires_grad
