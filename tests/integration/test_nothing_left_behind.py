"""What a worker has in memory after trials of each kind, and which of its processes go on: counted with Python's collector.

The workers are those of a search, with its queue in their own process in place of Ray's actor; errors are raised inside a forward pass.
"""

import asyncio
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest

from kp.search.trial_queue import MOST_ATTEMPTS, TrialQueue, WorkerDeath
from kp.training import checkpoints
from kp.training.job import TrialJob
from kp.vocabulary import TrialStatus
from tests.training_workers import Outcome, Workers, tiny_job, tiny_spec, training_workers

TRIALS = 5
GROUP = "one"


@dataclass(frozen=True)
class Left:
    """After a trial: base models and engines in memory, whether the process must end, and how the trial ended."""

    models: int
    engines: int
    ends: bool
    status: str | None
    cause: str | None


def job(model: Path, trial_id: str = "trial", **training: Any) -> TrialJob:
    return tiny_job(model, tiny_spec(**({"packing": "padded", "epochs": 1} | training)), trial_id=trial_id)


def test_closed_trials_leave_one_base_model_and_no_engine(one: Workers, model: Path, tmp_path: Path) -> None:
    found = one.call(_five_trials, model, tmp_path, {}, None)[0]
    assert [(left.models, left.engines, left.ends, left.status) for left in found] == [(1, 0, False, "completed")] * TRIALS


def test_closed_trials_that_change_their_base_leave_nothing(one: Workers, model: Path, tmp_path: Path) -> None:
    found = one.call(_five_trials, model, tmp_path, {"init": "olora"}, None)[0]
    assert [(left.models, left.engines, left.ends, left.status) for left in found] == [(0, 0, False, "completed")] * TRIALS


@pytest.mark.parametrize(
    ("error", "status"), [("ValueError: a fault of the trial", "failed"), ("torch.OutOfMemoryError: CUDA out of memory", "oom")]
)
def test_failed_trials_leave_nothing_and_their_process_goes_on(one: Workers, model: Path, tmp_path: Path, error: str, status: str) -> None:
    found = one.call(_five_trials, model, tmp_path, {}, error)[0]
    assert [(left.models, left.engines, left.ends, left.status) for left in found] == [(0, 0, False, status)] * TRIALS
    assert error.partition(": ")[2] in str(found[0].cause)


def test_process_after_zero_stage_3_ends_before_another_trial_and_nobody_is_charged(model: Path, tmp_path: Path) -> None:
    with training_workers(1) as spent:
        raised, alive, waiting, failures, retired = spent.call(_spent, model, tmp_path)[0]
    assert raised == "ProcessSpentError"
    assert alive <= 1
    assert waiting == [f"trial {number}" for number in range(1, TRIALS)]
    assert (failures, retired) == (0, False)


def test_process_after_a_cuda_error_ends_and_its_trial_goes_to_another_group_counted(model: Path, tmp_path: Path) -> None:
    with training_workers(1) as broken:
        ended, assigned, failures = broken.call(_broken, model, tmp_path)[0]
    assert ended == "AcceleratorError"
    assert assigned == ("trial", 2)
    assert 0 < failures < MOST_ATTEMPTS


def test_trial_out_of_memory_goes_on_with_half_its_rows_in_a_pass_and_takes_the_same_steps(
    one: Workers, model: Path, tmp_path: Path
) -> None:
    """There is room for 2 rows in a pass, and that is found out in the second epoch: all 7 rows and then 4 run out of memory."""
    whole = one.train(job(model, epochs=3), tmp_path / "whole")
    tried, status, parts = one.call(_halved, model, tmp_path / "parts")[0]
    assert (tried, status) == ([7, 4], "completed")
    np.testing.assert_allclose([epoch["train_loss"] for epoch in parts.epochs], [epoch["train_loss"] for epoch in whole.epochs], rtol=2e-6)
    for name, weights in whole.adapter.items():
        np.testing.assert_allclose(parts.adapter[name], weights, rtol=0, atol=2e-3 * np.abs(weights).max(), err_msg=name)


def test_process_without_memory_for_an_engine_ends_and_its_trial_is_not_tried_again(one: Workers, model: Path, tmp_path: Path) -> None:
    """Nobody could destroy what DeepSpeed had made by then."""
    assert one.call(_without_engine, model, tmp_path) == [("OutOfMemoryError", "oom", [])]


class _Here:
    """The queue in this process, called like Ray's handle of an actor."""

    def __init__(self) -> None:
        self.queue, self._loop = TrialQueue(), asyncio.new_event_loop()

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=lambda *arguments: self._loop.run_until_complete(getattr(self.queue, name)(*arguments)))


@contextmanager
def _search(jobs: dict[str, TrialJob], folder: Path) -> Iterator[tuple[Any, Any]]:
    """A worker and its queue, which lets all trials go on; what would need Ray is replaced in this process."""
    import ray
    import ray.train

    from kp.search import worker as module
    from kp.training.engine import Place

    here = _Here()
    for trial_id, one_job in jobs.items():
        here.submit.remote(trial_id)
        for epoch in range(1, one_job.spec.max_epochs + 1):
            here.let_continue.remote(trial_id, epoch)
    group = module.WorkerGroupJob(GROUP, here, jobs, {trial_id: folder / trial_id for trial_id in jobs}, None)
    context = SimpleNamespace(get_world_rank=lambda: 0, get_world_size=lambda: 1)
    with (
        mock.patch.object(ray, "get", lambda value: value),
        mock.patch.object(ray.train, "report", return_value=None),
        mock.patch.object(ray.train, "get_context", return_value=context),
        mock.patch.object(module, "place_here", return_value="here"),
    ):
        yield module.Worker(group, Place(0, 1)), here


@contextmanager
def _raising(fault: Callable[[Any], Exception | None]) -> Iterator[None]:
    """Every pass of training raises what `fault` makes of its input, in the middle of the model."""
    from transformers.models.llama.modeling_llama import LlamaMLP

    plain = LlamaMLP.forward

    def forward(self: Any, hidden: Any) -> Any:
        error = fault(hidden) if self.training else None
        if error is not None:
            raise error
        return plain(self, hidden)

    with mock.patch.object(LlamaMLP, "forward", forward):
        yield


def _error(text: str) -> Exception:
    import torch

    name, _, message = text.partition(": ")
    kinds: dict[str, type[Exception]] = {"ValueError": ValueError, "torch.OutOfMemoryError": torch.OutOfMemoryError}
    return kinds[name](message)


def _alive() -> tuple[int, int]:
    """Base models and engines that somebody holds, or that the collector has yet to find."""
    import deepspeed
    from transformers import LlamaForCausalLM

    kinds = [type(found) for found in gc.get_objects()]
    return sum(kind is LlamaForCausalLM for kind in kinds), sum(kind is deepspeed.DeepSpeedEngine for kind in kinds)


def _five_trials(model: Path, folder: Path, training: dict[str, Any], error: str | None) -> list[Left]:
    gc.collect()
    models, engines = _alive()  # of tests before this one
    jobs = {f"trial {number}": job(model, f"trial {number}", **training) for number in range(TRIALS)}
    found, turn = [], 0
    with _search(jobs, folder) as (worker, here), _raising(lambda hidden: None if error is None else _error(error)):
        for trial_id in jobs:
            ends, trial = False, here.queue._trials[trial_id]
            while trial.report is None and not ends:  # with fewer and fewer rows in a pass
                assignment = worker.ask("next_trial", GROUP, worker.life, turn)
                turn += 1
                try:
                    worker.train(assignment)
                except Exception:
                    ends = True
            status = trial.report and trial.report.status
            now = _alive()
            found.append(Left(now[0] - models, now[1] - engines, ends, status and status.value, trial.report and trial.report.cause))
    return found


def _spent(model: Path, folder: Path) -> tuple[str, int, list[str], int, bool]:
    from kp.search.worker import train_trials

    jobs = {f"trial {number}": job(model, f"trial {number}", zero_stage=3) for number in range(TRIALS)}
    raised = ""
    with _search(jobs, folder) as (worker, here):
        try:
            train_trials({"group": worker.job})
        except Exception as error:
            raised = type(error).__name__
            here.workers_died.remote(GROUP, [WorkerDeath(raised)])
    queue = here.queue
    gc.collect()
    trials = queue._trials.values()
    assert [trial.report.status for trial in trials if trial.report] == [TrialStatus.COMPLETED]
    return raised, _alive()[0], list(queue._waiting), sum(trial.failures for trial in trials), queue._groups[GROUP].is_retired


def _broken(model: Path, folder: Path) -> tuple[str, tuple[str, int], int]:
    import torch

    ended = ""
    sticky = "CUDA error: device-side assert triggered"
    with _search({"trial": job(model)}, folder) as (worker, here), _raising(lambda hidden: torch.AcceleratorError(sticky)):
        try:
            worker.train(worker.ask("next_trial", GROUP, worker.life, 0))
        except torch.AcceleratorError as error:
            ended = type(error).__name__
        other = here.next_trial.remote("another", "life", 0)
    return ended, (other.trial_id, other.attempt), here.queue._trials["trial"].failures


def _without_engine(model: Path, folder: Path) -> tuple[str, str, list[str]]:
    import torch

    import kp.training.trial

    full = mock.Mock(side_effect=torch.OutOfMemoryError("CUDA out of memory"))
    with _search({"trial": job(model)}, folder) as (worker, here), mock.patch.object(kp.training.trial, "deepspeed_engine", full):
        try:
            worker.train(worker.ask("next_trial", GROUP, worker.life, 0))
            ended = ""
        except torch.OutOfMemoryError as error:
            ended = type(error).__name__
    report = here.queue._trials["trial"].report
    return ended, report.status.value, list(here.queue._waiting)


def _halved(model: Path, folder: Path) -> tuple[list[int], str, Outcome]:
    import torch
    from safetensors.torch import load_file

    one_job, tried = job(model, epochs=3), list[int]()
    with _search({"trial": one_job}, folder) as (worker, here):
        queue, turn = here.queue, 0

        def fault(hidden: Any) -> Exception | None:
            if not queue._trials["trial"].epochs or len(hidden) <= 2:
                return None
            tried.append(len(hidden))
            return torch.OutOfMemoryError("CUDA out of memory")

        with _raising(fault):
            while queue._trials["trial"].report is None:
                worker.train(worker.ask("next_trial", GROUP, worker.life, turn))
                turn += 1
        report = queue._trials["trial"].report
    newest = checkpoints.newest(folder / "trial")
    assert newest is not None
    weights = load_file(newest / "adapter" / "adapter_model.safetensors")
    epochs = queue._trials["trial"].epochs
    outcome = Outcome([], epochs, {name: tensor.float().numpy() for name, tensor in weights.items()}, None, None, {})
    return tried, report.status.value, outcome
