"""kp bench train as a whole on a tiny model: kp and the released way, each in its process, take the same steps."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

from kp.bench.options import Device, Shape, TrainOptions
from kp.bench.train import benchmark
from kp.bench.train_implementations import kp_trains
from kp.bench.train_line import TrainingProcess
from kp.bench.train_trial import trial_job
from kp.errors import UserError
from kp.vocabulary import LossTokens, Packing
from tests.tiny_model import save_tiny_model

# Steps of float32 that add up in another order; the first losses agree to 1e-7, and Adam carries differences on.
LOSS_TOLERANCE = 1e-4
_OPTIONS = (
    TrainOptions(facts=11, paraphrases=1, epochs=2, rank=4, threads=1, device=Device.CPU),
    TrainOptions(
        facts=12, epochs=3, rank=2, learning_rate=1e-2, loss=LossTokens.ANSWER, packing=Packing.PADDED, threads=1, device=Device.CPU
    ),
)


@pytest.fixture(scope="module", params=_OPTIONS, ids=["full text, prefix tree", "answer, padded"])
def result(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    model = save_tiny_model(tmp_path_factory.mktemp("model"))
    return benchmark(dataclasses.replace(request.param, model=str(model)))


def test_benchmark_implementations_take_the_same_steps(result: dict[str, Any]) -> None:
    agreement, rows = result["agreement"], result["rows"]
    epochs = result["settings"]["epochs"]

    assert agreement["same_start"]
    assert agreement["steps"] == epochs * rows["steps"] == epochs * math.ceil(rows["rows"] / 8)
    assert agreement["largest_step_difference"] < LOSS_TOLERANCE
    assert agreement["equal"] is True
    for entry in result["implementations"].values():
        losses = [loss for epoch in entry["epochs"] for loss in epoch["step_losses"]]
        assert len(set(losses)) == len(losses)  # they move: what is compared is a training


def test_benchmark_counts_what_each_reads(result: dict[str, Any]) -> None:
    kp, released = (result["implementations"][name] for name in ("kp", "released"))
    tokens = result["rows"]["tokens"] * result["settings"]["epochs"]

    assert kp["rows"] == released["rows"] == result["rows"]["rows"] * result["settings"]["epochs"]
    assert released["read_tokens"] > tokens
    if result["settings"]["packing"] is Packing.PADDED:
        assert kp["read_tokens"] == released["read_tokens"]
    else:
        assert kp["read_tokens"] < tokens
    grouped = result["implementations"]["grouped"]
    assert grouped["rows"] == released["rows"]
    assert tokens < grouped["read_tokens"] < 1.1 * released["read_tokens"]  # of so few rows, grouping may pad one batch more
    assert result["padding"] == {"released": 1 - tokens / released["read_tokens"], "grouped": 1 - tokens / grouped["read_tokens"]}
    assert min(kp["peak_memory"], released["peak_memory"]) > 2**27
    assert kp["peak_device_memory"] is released["peak_device_memory"] is None


def test_benchmark_parts_of_the_trial_make_up_its_wall_time(result: dict[str, Any]) -> None:
    trial = result["trial"]

    assert sum(trial["parts"].values()) == pytest.approx(trial["wall_seconds"])
    assert trial["parts"]["training"] == pytest.approx(result["implementations"]["kp"]["seconds"])
    assert all(seconds > 0 for seconds in trial["parts"].values())
    assert trial["share_of_training"] == trial["parts"]["training"] / trial["wall_seconds"]


def test_benchmark_parts_of_a_step_make_up_its_time_and_limits_are_measured(result: dict[str, Any]) -> None:
    step, limit = result["step"], result["limit"]
    steps = result["rows"]["steps"] * result["settings"]["epochs"]

    assert all(seconds > 0 for seconds in step.values())
    assert sum(step.values()) * steps == pytest.approx(result["implementations"]["kp"]["seconds"])
    for way in ("same_passes", "same_size", "best_size"):
        assert limit[way]["share"] == 2 * limit["read_tokens_per_s"] / limit[way]["tokens_per_s"]
    assert limit["best_size"]["tokens_per_s"] >= limit["same_size"]["tokens_per_s"] > 0


def test_adapter_of_the_last_layer_takes_the_released_steps_from_what_is_kept(tmp_path: Path) -> None:
    result = benchmark(dataclasses.replace(_OPTIONS[0], model=str(save_tiny_model(tmp_path)), layers="upper:1"))
    implementations, kept = result["implementations"], result["kept"]

    assert list(implementations) == ["kp", "released", "grouped", "all layers"]
    assert result["agreement"]["equal"] is True
    assert result["agreement"]["largest_step_difference"] < LOSS_TOLERANCE
    assert implementations["all layers"]["epochs"][-1]["loss"] != implementations["released"]["epochs"][-1]["loss"]
    assert (kept["first_layer"], kept["bytes"]) == (1, kept["tokens"] * kept["token_bytes"])
    assert 0 < kept["tokens"] < result["rows"]["tokens"]
    assert kept["seconds"] == pytest.approx(implementations["kp"]["seconds"] - result["trial"]["parts"]["training"])


def test_base_of_a_shape_is_the_same_for_all_and_takes_the_same_steps(tmp_path: Path) -> None:
    result = benchmark(dataclasses.replace(_OPTIONS[0], model=str(save_tiny_model(tmp_path)), shape=Shape.TINY, epochs=1))

    assert result["model"]["name"] == "random weights of the shape tiny"
    assert result["model"]["parameters"] > 10**6  # not the tiny model, whose tokenizer it has
    assert result["agreement"]["equal"] is True
    assert result["agreement"]["largest_step_difference"] < LOSS_TOLERANCE


def test_kp_that_diverges_names_the_learning_rate(tmp_path: Path) -> None:
    options = dataclasses.replace(_OPTIONS[0], model=str(save_tiny_model(tmp_path)), learning_rate=1e30)

    with TrainingProcess(kp_trains, trial_job(options, use_gpu=False)) as kp:
        kp.epoch()
        with pytest.raises(UserError, match="learning_rate: kp's training diverged"):
            kp.end()
