"""Numbers that must not depend on how a trial is run: by how many workers, in which pieces, at which ZeRO stage, how often interrupted.

The model is tiny and random, float32, without dropout. Losses may differ in the seventh digit, for sums are formed in another order;
adapters, which several steps of an adaptive optimiser lie before, by LOOSE of their largest weight.
"""

import json
import os
import signal
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kp.store import files
from kp.store.hardware import distinct_hardware, process_hardware
from kp.training import checkpoints
from kp.training.encoding import IGNORED, epoch_order
from kp.training.job import ADAPTER, Progress, TrialJob
from tests.training_workers import (
    LEARNER_RATE,
    LEARNER_STEPS,
    LEARNER_TARGET,
    LIFE,
    RATE,
    Outcome,
    Workers,
    tiny_job,
    tiny_learner,
    tiny_spec,
    train_part,
    training_workers,
)

TIGHT = 2e-6
LOOSE = 2e-3
TRAJECTORY = Path(__file__).parent / "tiny_trajectory.json"
REPLAY = {"highly_known": 1}


@pytest.fixture(scope="module")
def reference(one: Workers, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A trial with replayed rows held to the base, by one worker at stage 2, its batches whole."""
    return one.train(job(model), tmp_path_factory.mktemp("reference"))


def job(model: Path, **training: Any) -> TrialJob:
    return tiny_job(model, tiny_spec(REPLAY, kl_coefficient=0.3, **training))


def assert_same(found: Outcome, expected: Outcome) -> None:
    np.testing.assert_allclose(found.losses, expected.losses, rtol=TIGHT)
    kl = [[epoch["replay_kl"] for epoch in outcome.epochs] for outcome in (found, expected)]
    np.testing.assert_allclose(*kl, rtol=1e-4)
    assert found.adapter.keys() == expected.adapter.keys()
    for name, weights in expected.adapter.items():
        np.testing.assert_allclose(found.adapter[name], weights, rtol=0, atol=LOOSE * np.abs(weights).max(), err_msg=name)


def assert_identical(found: Outcome, expected: Outcome) -> None:
    assert found.losses == expected.losses
    assert found.fact_correct == expected.fact_correct
    assert list(found.fact_correct) == [str(epoch["epoch"]) for epoch in found.epochs]
    assert all(np.array_equal(found.adapter[name], weights) for name, weights in expected.adapter.items())


def test_two_workers_take_the_steps_of_one(two: Workers, model: Path, reference: Outcome, tmp_path: Path) -> None:
    assert_same(two.train(job(model), tmp_path), reference)


def test_batch_of_8_is_a_batch_of_2_accumulated_4_times(one: Workers, model: Path, reference: Outcome, tmp_path: Path) -> None:
    assert_same(one.train(job(model), tmp_path, 2), reference)


def test_two_workers_with_accumulation_take_the_steps_of_one(two: Workers, model: Path, reference: Outcome, tmp_path: Path) -> None:
    assert_same(two.train(job(model), tmp_path, 3), reference)


@pytest.mark.parametrize("stage", [0, 1, 3])
def test_every_zero_stage_takes_the_same_steps(one: Workers, model: Path, reference: Outcome, tmp_path: Path, stage: int) -> None:
    assert_same(one.train(job(model, zero_stage=stage), tmp_path), reference)


@pytest.mark.parametrize("stage", [0, 3])
def test_two_workers_at_a_zero_stage_take_the_steps_of_one(
    two: Workers, model: Path, reference: Outcome, tmp_path: Path, stage: int
) -> None:
    assert_same(two.train(job(model, zero_stage=stage), tmp_path), reference)


def test_rows_as_a_prefix_tree_take_the_steps_of_padded_rows(one: Workers, model: Path, reference: Outcome, tmp_path: Path) -> None:
    assert_same(one.train(job(model, packing="padded"), tmp_path), reference)


def test_prefix_tree_takes_the_steps_of_padded_rows_where_all_tokens_are_trained(one: Workers, model: Path, tmp_path: Path) -> None:
    tree = one.train(job(model, loss="full_text"), tmp_path / "tree")
    assert_same(one.train(job(model, loss="full_text", packing="padded"), tmp_path / "padded"), tree)


@pytest.mark.parametrize("stage", [2, 3])
def test_resumed_after_an_epoch_is_uninterrupted(one: Workers, model: Path, tmp_path: Path, stage: int) -> None:
    whole = one.train(job(model, zero_stage=stage, lora_dropout=0.1), tmp_path / "whole")
    first = one.train(job(model, zero_stage=stage, lora_dropout=0.1), tmp_path / "parts", None, 1)
    assert first.status is None
    rest = one.train(job(model, zero_stage=stage, lora_dropout=0.1), tmp_path / "parts")
    assert first.losses + rest.losses == whole.losses
    assert_identical(replace(rest, losses=whole.losses), whole)


def test_resumed_by_two_workers_is_uninterrupted(two: Workers, model: Path, tmp_path: Path) -> None:
    whole = two.train(job(model), tmp_path / "whole")
    first = two.train(job(model), tmp_path / "parts", None, 2)
    assert_identical(replace(two.train(job(model), tmp_path / "parts"), losses=whole.losses), whole)
    assert first.losses == whole.losses[: len(first.losses)]


def test_two_workers_anneal_in_step(two: Workers, model: Path, tmp_path: Path) -> None:
    one, other = two.call(train_part, tiny_learner(model, anneal_epochs=2), tmp_path, None, None)
    left = LEARNER_RATE * np.arange(2 * LEARNER_STEPS, 0, -1) / (2 * LEARNER_STEPS)
    np.testing.assert_allclose([epoch["learning_rate"] for epoch in one.epochs[-3:]], [LEARNER_RATE, *left[::LEARNER_STEPS]])
    assert one.epochs[-3]["unknown_accuracy"] >= LEARNER_TARGET
    for name in ("learning_rate", "final_learning_rate", "unknown_accuracy", "train_loss"):
        assert [epoch[name] for epoch in one.epochs] == [epoch[name] for epoch in other.epochs]
    assert one.fact_correct == other.fact_correct
    shares = [sum(right) / len(right) for right in one.fact_correct.values()]
    np.testing.assert_allclose(shares, [epoch["unknown_accuracy"] for epoch in one.epochs])
    assert one.status == other.status == "completed"


def test_trial_after_another_in_the_same_process_is_the_trial_alone(one: Workers, model: Path, tmp_path: Path) -> None:
    spec = tiny_spec(lora_dropout=0.1)
    alone = one.train(tiny_job(model, spec), tmp_path / "alone")
    one.train(tiny_job(model, replace(spec, rank=2, learning_rate=1e-1)), tmp_path / "between")
    assert_identical(one.train(tiny_job(model, spec), tmp_path / "again"), alone)


def test_trajectory_is_the_committed_one(one: Workers, model: Path, reference: Outcome) -> None:
    """Losses of every step and norms of the adapter's matrices; `tiny_trajectory.json` is made anew by deleting it and running this."""
    norms = {name: float(np.linalg.norm(weights)) for name, weights in sorted(reference.adapter.items())}
    if not TRAJECTORY.exists():
        TRAJECTORY.write_text(json.dumps({"losses": reference.losses, "norms": norms}, indent=1) + "\n", encoding="utf-8")
        pytest.fail(f"{TRAJECTORY.name} was missing and has been written")
    expected = json.loads(TRAJECTORY.read_text(encoding="utf-8"))
    np.testing.assert_allclose(reference.losses, expected["losses"], rtol=1e-4)
    assert norms.keys() == expected["norms"].keys()
    np.testing.assert_allclose(list(norms.values()), list(expected["norms"].values()), rtol=1e-3)


def test_worker_killed_while_it_writes_a_checkpoint_leaves_the_one_before(model: Path, reference: Outcome, tmp_path: Path) -> None:
    with training_workers(1) as doomed:
        doomed.train(job(model), tmp_path, None, 1)
        with pytest.raises(BrokenProcessPool):
            doomed.call(_die_in_the_second_checkpoint, job(model), tmp_path)
    assert list(checkpoints.unfinished(tmp_path, 2, LIFE).rglob("*.pt"))  # it was in the middle of it
    newest = checkpoints.newest(tmp_path)
    assert newest is not None
    assert newest.name == "0001"
    with training_workers(1) as next_one:
        found = next_one.train(job(model), tmp_path)
    assert_identical(replace(found, losses=reference.losses), reference)
    assert found.losses == reference.losses[-len(found.losses) :]


def _die_in_the_second_checkpoint(one_job: TrialJob, folder: Path) -> None:
    import kp.training.trial

    def half_written(*arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    kp.training.trial.save_adapter = half_written  # the optimiser's state is written by then
    train_part(one_job, folder, None, 1)


def test_checkpoints_kept_are_the_last_two(one: Workers, model: Path, tmp_path: Path) -> None:
    one.train(job(model, epochs=4), tmp_path)
    assert [path.name for path in checkpoints.committed(tmp_path)] == ["0003", "0004"]


def test_checkpoint_holds_no_weight_that_is_not_trained(one: Workers, model: Path, tmp_path: Path) -> None:
    import torch

    one.train(job(model, epochs=1), tmp_path)
    newest = checkpoints.newest(tmp_path)
    assert newest is not None
    state = torch.load(newest / "engine" / "mp_rank_00_model_states.pt", weights_only=False)
    assert state["module"]
    assert all("lora_" in name for name in state["module"])


def test_steps_end_a_trial_in_the_middle_of_an_epoch(one: Workers, model: Path, tmp_path: Path) -> None:
    found = one.train(job(model, steps=3), tmp_path)
    assert [(epoch["steps"], epoch["rows"]) for epoch in found.epochs] == [(2, 14), (1, 8)]
    assert (found.status, found.cause) == ("completed", "ran its 2 epochs, 3 steps")
    np.testing.assert_allclose([epoch["learning_rate"] for epoch in found.epochs], [RATE, RATE / 3])
    np.testing.assert_allclose([epoch["final_learning_rate"] for epoch in found.epochs], [2 * RATE / 3, RATE / 3])


def test_exposures_count_the_rows_of_unknown_facts_that_were_trained_on(one: Workers, model: Path, tmp_path: Path) -> None:
    """Of 14 rows 7 are of Unknown facts; the 3 steps of 8 rows end in the middle of the second epoch."""
    one_job = job(model, steps=3)
    found = one.train(one_job, tmp_path)
    second = epoch_order(14, one_job.spec.seed, 2)[:8]
    assert [epoch["exposures"] for epoch in found.epochs] == [1.0, sum(row < 7 for row in second) / 7]
    assert found.epochs[1]["exposures"] not in (0, 1)


@pytest.mark.parametrize("stage", [1, 3])
def test_bfloat16_takes_the_same_steps_at_every_stage(one: Workers, model: Path, tmp_path: Path, stage: int) -> None:
    two_stages = [
        one.train(tiny_job(model, tiny_spec(zero_stage=each, learning_rate=5e-3), "bfloat16"), tmp_path / str(each)) for each in (2, stage)
    ]
    np.testing.assert_allclose(two_stages[1].losses, two_stages[0].losses, rtol=1e-3)
    assert two_stages[0].losses[-1] < two_stages[0].losses[0]


def test_diverged_trial_ends_with_its_cause(one: Workers, model: Path, tmp_path: Path) -> None:
    spec = replace(tiny_spec(), learning_rate=1e30)
    found = one.train(tiny_job(model, spec), tmp_path)
    assert found.status == "diverged"
    assert "the loss of epoch" in str(found.cause)


@pytest.mark.parametrize("micro_batch", [None, 3])
@pytest.mark.parametrize("packing", ["prefix_tree", "padded"])
def test_gradient_of_a_step_weighs_cross_entropy_by_all_tokens_and_kl_by_replayed_ones(
    one: Workers, two: Workers, model: Path, packing: str, micro_batch: int | None
) -> None:
    step = job(model, zero_stage=0, epochs=1, batch_size=16, packing=packing)
    for workers in (one, two):
        parts, plain = zip(*workers.call(_gradients, step, micro_batch), strict=True)
        for name, expected in plain[0].items():
            found = sum(part[name] for part in parts) / len(parts)
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max(), err_msg=name)


def _gradients(one_job: TrialJob, micro_batch: int | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Gradients of the loss of an epoch's only step: what this worker passes to DeepSpeed, and those of all rows computed plainly."""
    import torch
    import torch.distributed

    from kp.training.base_model_cache import BaseModelCache
    from kp.training.engine import Place
    from kp.training.trial import TrialTraining

    place = Place(torch.distributed.get_rank(), torch.distributed.get_world_size())
    training = TrialTraining(BaseModelCache(one_job.engine), one_job, place, micro_batch)
    trained = {name: weights for name, weights in training._model.named_parameters() if weights.requires_grad}
    with torch.no_grad():  # a new adapter is the base, whose KL has no gradient
        noise = torch.Generator().manual_seed(5)
        for weights in trained.values():
            weights.add_(0.1 * torch.randn(weights.shape, generator=noise))
    plain = torch.autograd.grad(_plain_loss(training), list(trained.values()))
    found = {name: torch.zeros_like(weights) for name, weights in trained.items()}
    for name, weights in trained.items():
        weights.register_hook(found[name].add_)
    training.run_epoch()
    assert training.progress.epochs[0]["replay_kl"] > 0.01
    training.close()
    return (
        {name: weights.numpy() for name, weights in found.items()},
        {name: weights.numpy() for name, weights in zip(trained, plain, strict=True)},
    )


def _plain_loss(training: Any) -> Any:
    """Cross entropy per trained token and KL per replayed one, of all rows in one padded batch."""
    import torch

    rows = training._rows
    ids, labels = (
        torch.nn.utils.rnn.pad_sequence([torch.tensor(getattr(row, name)) for row in rows], True, padding)
        for name, padding in (("ids", 0), ("labels", IGNORED))
    )
    mask = torch.arange(ids.shape[1]) < torch.tensor([[len(row.ids)] for row in rows])
    log_p = training._model(ids, attention_mask=mask).logits[:, :-1].log_softmax(-1)
    with torch.no_grad(), training._model.disable_adapter():
        base_log_p = training._model(ids, attention_mask=mask).logits[:, :-1].log_softmax(-1)
    labelled = labels[:, 1:] != IGNORED
    replayed = labelled & torch.tensor([[row.replayed] for row in rows])
    cross_entropy = -log_p.gather(2, labels[:, 1:, None].clamp(min=0))[..., 0][labelled].mean()
    return cross_entropy + training.spec.kl_coefficient * (base_log_p.exp() * (base_log_p - log_p)).sum(-1)[replayed].mean()


def test_loss_of_an_epoch_is_the_mean_over_its_tokens_and_not_over_its_steps(one: Workers, model: Path, tmp_path: Path) -> None:
    """With a rate too low to change the loss, one batch of all rows has the loss of an epoch in batches of 8 and 6 rows."""
    parts, whole = (
        one.train(tiny_job(model, tiny_spec(REPLAY, learning_rate=1e-12, epochs=1, batch_size=size)), tmp_path / str(size))
        for size in (8, 16)
    )
    assert (len(parts.losses), len(whole.losses)) == (2, 1)
    np.testing.assert_allclose(parts.epochs[0]["train_loss"], whole.losses[0], rtol=TIGHT)
    assert abs(np.mean(parts.losses) / whole.losses[0] - 1) > 100 * TIGHT


def test_kl_holds_replayed_rows_to_the_base(one: Workers, model: Path, tmp_path: Path) -> None:
    loose, tight = (
        one.train(tiny_job(model, tiny_spec(REPLAY, kl_coefficient=weight, epochs=6)), tmp_path / str(weight)) for weight in (1e-6, 10.0)
    )
    assert loose.epochs[-1]["replay_kl"] > 2 * tight.epochs[-1]["replay_kl"] > 0


def test_first_step_starts_at_the_base_whatever_the_init(one: Workers, model: Path, tmp_path: Path) -> None:
    losses = {init: one.train(tiny_job(model, tiny_spec(init=init)), tmp_path / init).losses[0] for init in ("default", "pissa", "olora")}
    np.testing.assert_allclose(list(losses.values()), losses["default"], rtol=1e-5)


@pytest.mark.parametrize("init", ["pissa", "olora", "orthogonal", "gaussian", "pissa_niter_4"])
@pytest.mark.parametrize("use_rslora", [False, True])
def test_saved_adapter_on_the_plain_base_is_the_trained_model(
    one: Workers, model: Path, tmp_path: Path, init: str, use_rslora: bool
) -> None:
    spec = tiny_spec(init=init, use_rslora=use_rslora, epochs=2)
    assert one.call(_distance_of_saved, tiny_job(model, spec), tmp_path)[0] < 1e-4


def _distance_of_saved(one_job: TrialJob, folder: Path) -> float:
    """Largest difference between the logits of the model in training and those of the base with the saved adapter."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from kp.training.base_model_cache import BaseModelCache
    from kp.training.engine import Place
    from kp.training.trial import TrialTraining

    training = TrialTraining(BaseModelCache(one_job.engine), one_job, Place(0, 1))
    scales = {layer.scaling["default"] for layer in training._model.modules() if hasattr(layer, "lora_A")}
    assert scales == {one_job.spec.lora_scale}
    while training.progress.status is None:
        training.run_epoch()
    training.save(checkpoints.begin(folder, 2, LIFE))
    ids = torch.arange(40)[None] + 10
    with torch.no_grad():
        trained = training._model.eval()(input_ids=ids).logits
        base = AutoModelForCausalLM.from_pretrained(one_job.engine.model.name, dtype=torch.float32)
        plain = base(input_ids=ids).logits
        adapted = PeftModel.from_pretrained(base, checkpoints.unfinished(folder, 2, LIFE) / ADAPTER).eval()(input_ids=ids).logits
    training.close()
    assert float((trained - plain).abs().max()) > 1e-2  # something was learned, or the comparison would say nothing
    return float((trained - adapted).abs().max())


def test_progress_lists_the_machines_of_all_workers_and_of_those_before_a_resumption(two: Workers, model: Path, tmp_path: Path) -> None:
    one_job = job(model)
    two.train(one_job, tmp_path, epochs=1)
    newest = checkpoints.newest(tmp_path)
    assert newest is not None
    progress = Progress.load(newest)
    assert progress.hardware == [process_hardware()]
    elsewhere = {**process_hardware(), "processor": "Another", "hosts": ["elsewhere"]}
    replace(progress, hardware=[elsewhere]).save(newest)
    (newest / checkpoints.CONTENTS).unlink()
    files.write_json(newest / checkpoints.CONTENTS, files.described(newest))
    two.train(one_job, tmp_path, epochs=1)
    newest = checkpoints.newest(tmp_path)
    assert newest is not None
    assert Progress.load(newest).hardware == distinct_hardware([elsewhere, process_hardware()])


def test_gathered_values_are_those_of_all_workers_by_rank(one: Workers, two: Workers) -> None:
    assert one.call(_gathered) == [["rank 0"]]
    assert two.call(_gathered) == [["rank 0", "rank 1"]] * 2


def _gathered() -> list[str]:
    import torch.distributed

    from kp.training.engine import Place

    place = Place(torch.distributed.get_rank(), torch.distributed.get_world_size())
    return place.gathered(f"rank {place.rank}")
