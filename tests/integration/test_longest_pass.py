"""Before its first step a trial finds out how many rows fit in a pass, with its longest ones; its steps stay the same."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

from kp.training.encoding import EncodedRow
from kp.training.engine import Place
from kp.training.job import TrialJob
from kp.training.longest_pass import STATE_BYTES, fitting_rows, room_for_states
from tests.training_workers import Outcome, Workers, tiny_job, tiny_spec, train_part, training_workers

ALONE = Place(0, 1)


def row(tokens: int) -> EncodedRow:
    return EncodedRow(tuple(range(tokens)), tuple(range(tokens)), False)


def out_of_memory() -> Exception:
    return torch.OutOfMemoryError("CUDA out of memory")


def test_rows_are_halved_until_a_pass_of_the_longest_fits() -> None:
    tried: list[list[int]] = []

    def try_pass(rows: Sequence[EncodedRow]) -> None:
        tried.append([len(one.ids) for one in rows])
        if sum(tried[-1]) > 20:
            raise out_of_memory()

    assert fitting_rows(try_pass, [row(tokens) for tokens in (3, 9, 5, 7, 1, 8)], 5, ALONE) == 2
    assert tried == [[9, 8, 7, 5, 3], [9, 8, 7], [9, 8]]


def test_row_that_does_not_fit_alone_raises_what_it_ran_out_with() -> None:
    def try_pass(rows: Sequence[EncodedRow]) -> None:
        raise out_of_memory()

    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        fitting_rows(try_pass, [row(3)] * 4, 4, ALONE)


def test_other_error_of_a_pass_is_not_one_of_memory() -> None:
    def try_pass(rows: Sequence[EncodedRow]) -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    with pytest.raises(RuntimeError, match="device-side assert"):
        fitting_rows(try_pass, [row(3)] * 4, 4, ALONE)


def test_worker_whose_pass_fits_takes_as_few_rows_as_the_others() -> None:
    class Two(Place):
        def gathered(self, value: Any) -> list[Any]:
            return [value, len(tried[-1]) > 2]  # the other one has room for 2

    tried: list[Sequence[EncodedRow]] = []
    assert fitting_rows(tried.append, [row(3)] * 8, 8, Two(0, 2)) == 2
    assert list(map(len, tried)) == [8, 4, 2]


def test_pass_is_tried_in_training_mode_next_to_the_states_and_leaves_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 2)).eval()
    model[0].requires_grad_(False)
    taken: list[int] = []
    real = torch.empty
    monkeypatch.setattr(torch, "empty", lambda size, **options: (taken.append(size), real(size, **options))[1])
    with room_for_states(model, "cpu"):
        assert model.training
        model(torch.ones(1, 4)).sum().backward()
        assert model[1].weight.grad is not None
    assert taken == [STATE_BYTES * (4 * 2 + 2)]
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    "training", [{"packing": "padded"}, {"packing": "prefix_tree", "lora_dropout": 0.1}, {"packing": "padded", "init": "olora"}]
)
def test_tried_pass_changes_no_step(one: Workers, model: Path, tmp_path: Path, training: dict[str, Any]) -> None:
    job = tiny_job(model, tiny_spec(epochs=2, **training))
    plain = one.train(job, tmp_path / "plain")
    (tried,) = one.call(_measured, job, tmp_path / "tried", None)
    assert tried[1].losses == plain.losses
    for name, weights in plain.adapter.items():
        np.testing.assert_array_equal(tried[1].adapter[name], weights, err_msg=name)


def test_trial_without_room_for_its_longest_rows_takes_the_same_steps_in_smaller_passes(one: Workers, model: Path, tmp_path: Path) -> None:
    job = tiny_job(model, tiny_spec(epochs=2, packing="padded"))
    whole = one.train(job, tmp_path / "whole")
    (found,) = one.call(_measured, job, tmp_path / "parts", 2)
    passes, parts = found
    assert passes[0] == len(job.rows)
    assert max(passes[3:]) == 2  # once they are known, no pass is larger, and none ran out of memory
    np.testing.assert_allclose(parts.losses, whole.losses, rtol=2e-6)
    for name, weights in whole.adapter.items():
        np.testing.assert_allclose(parts.adapter[name], weights, rtol=0, atol=2e-3 * np.abs(weights).max(), err_msg=name)


def test_stage_3_is_not_tried_because_its_model_may_fit_only_once_it_is_split(model: Path, tmp_path: Path) -> None:
    job = tiny_job(model, tiny_spec(epochs=1, packing="padded", zero_stage=3))
    with training_workers(1) as worker:  # a new one, because DeepSpeed keeps such a model
        passes, outcome = worker.call(_measured, job, tmp_path / "three", None)[0]
    assert outcome.status == "completed"
    assert len(passes) == outcome.epochs[0]["steps"]


def _measured(job: TrialJob, folder: Path, room: int | None) -> tuple[list[int], Outcome]:
    """Train as on a GPU that has room for so many rows in a pass; the rows of every pass, and the outcome."""
    from kp.training import trial

    passes: list[int] = []
    real = trial.batch_loss

    def batch_loss(forward: Any, base: Any, batch: Any, *rest: Any) -> Any:
        passes.append(len(batch.input_ids))
        if room is not None and len(batch.input_ids) > room:
            raise out_of_memory()
        return real(forward, base, batch, *rest)

    with ExitStack() as patches:
        patches.enter_context(mock.patch.object(trial, "MEASURED_ON", ("cpu", "cuda")))
        patches.enter_context(mock.patch.object(trial, "batch_loss", batch_loss))
        return passes, train_part(job, folder, None, None)
