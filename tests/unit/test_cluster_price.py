"""What a study takes on a cluster that is not there, by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kp.cli import main
from kp.cluster.stated import GPU_KINDS, StatedCluster, stated_cluster
from kp.config.study import StudyConfig
from kp.errors import UserError
from kp.models.shapes import ModelShape
from kp.store.steps import Store
from kp.study.building import build_graph
from kp.study.cluster_price import Assumptions, ClusterPrice, cluster_lines, duration_text, layer_weights, makespan, price_on_cluster
from kp.study.identities import Identities
from kp.study.pricing import DiskPrice, Prompts, RowTokens, planned_trials
from kp.study.stage import Planning
from kp.training.spec import grid

SHAPE = ModelShape(hidden=1000, intermediate=2000, layers=10, heads=10, kv_heads=10, head_dim=100, origin="config.json")
WEIGHTS = 10 * (4 * 1000 * 1000 + 3 * 1000 * 2000)
NOTHING_ELSE = Assumptions(
    process_seconds=0.0, trial_seconds=0.0, epoch_seconds=0.0, storage_gb_per_second=1e30, slow_share=0.0, slow_factor=1.0
)
DISK = DiskPrice(adapters=4_000, largest_adapter=1_000, largest_checkpoint=5_000)


def planning(tmp_path: Path, facts: int = 100, **resources: Any) -> Planning:
    """Four trials of 100 rows in two epochs, without evaluation after epochs as far as that can be."""
    document = {
        "name": "s",
        "search": {"unknown": (100,), "seeds": (0, 1, 2, 3), "eval_prompts": 1, "eval_facts": 1},
        "training": {"lora_alpha": 1, "epochs": 2},
        "resources": {"training_tokens_per_second": 10.0, "prompts_per_second": 5.0, **resources},
    }
    config = StudyConfig.model_validate(document)
    graph = build_graph(config, Identities("model", "facts", "shots"))
    return Planning(config, graph, Store(tmp_path), facts=facts, replayed=0, trials=planned_trials(config, grid(config)))


def price(plan: Planning, cluster: str = "4xH100", assumed: Assumptions = NOTHING_ELSE) -> ClusterPrice:
    by_stage = {"categorise": Prompts(base=3_000), "search": Prompts(), "evaluate": Prompts(adapters=8_000)}
    return price_on_cluster(plan, by_stage, RowTokens(50, 50, ""), SHAPE, DISK, stated_cluster(cluster), assumed)


@pytest.mark.parametrize(
    ("text", "gpus"),
    [("64xH100", [8] * 8), ("12xh100", [8, 4]), ("1xL4", [1]), ("3x2xA100-40GB", [2, 2, 2])],
)
def test_stated_cluster_has_nodes_of_eight_gpus_unless_it_says_otherwise(text: str, gpus: list[int]) -> None:
    assert [node.gpus for node in stated_cluster(text).nodes] == gpus


@pytest.mark.parametrize("text", ["H100", "0xH100", "8x8x8xH100", "64 x H100", "-1xH100", ""])
def test_stated_cluster_that_cannot_be_read_names_both_forms(text: str) -> None:
    with pytest.raises(UserError, match=r"--cluster: .*expected GPUSxKIND, such as 64xH100, or NODESxGPUSxKIND"):
        stated_cluster(text)


def test_stated_cluster_of_an_unknown_kind_names_those_that_are_known() -> None:
    with pytest.raises(UserError, match=r"no rates are known for 'TPU'; known are A10, A100, A100-40GB, H100, H200, L4, L40S"):
        stated_cluster("8xTPU")


def test_price_of_stages_is_their_work_divided_among_the_gpus(tmp_path: Path) -> None:
    found = price(planning(tmp_path))
    categorise, search, evaluate = found.stages
    assert categorise.gpu_hours == pytest.approx(3_000 / 5 / 3600)
    assert evaluate.gpu_hours == pytest.approx(8_000 / 5 / 3600)
    a_trial = 2 * 100 * 50 / 10 + 2 / 5  # tokens of two epochs, and two prompts
    assert search.gpu_hours == pytest.approx(4 * a_trial / 3600)
    assert search.wall_seconds == pytest.approx(a_trial)  # each of the four on a GPU of its own
    assert found.wall_seconds == pytest.approx(sum(stage.wall_seconds for stage in found.stages))
    assert found.held_gpu_hours == pytest.approx(4 * found.wall_seconds / 3600)


def test_price_of_a_pipeline_waits_for_one_chunk_at_its_end_and_none_on_one_gpu(tmp_path: Path) -> None:
    chunk = 25 * 10  # a quarter of the facts under ten prompts
    assert price(planning(tmp_path)).stages[0].wall_seconds == pytest.approx(3_000 / 5 / 4 + chunk / 5)
    assert price(planning(tmp_path), "1xH100").stages[0].wall_seconds == pytest.approx(3_000 / 5)


def test_price_counts_start_up_and_storage_on_top(tmp_path: Path) -> None:
    bare, assumed = price(planning(tmp_path)), replace(NOTHING_ELSE, process_seconds=60.0, trial_seconds=5.0, epoch_seconds=2.0)
    found = price(planning(tmp_path), assumed=assumed)
    assert found.stages[0].wall_seconds - bare.stages[0].wall_seconds == pytest.approx(60)
    assert found.stages[1].wall_seconds - bare.stages[1].wall_seconds == pytest.approx(60 + 5 + 2 * 2)
    assert found.gpu_hours == pytest.approx(bare.gpu_hours)
    model = 2 * WEIGHTS
    stored = price(planning(tmp_path), assumed=replace(NOTHING_ELSE, storage_gb_per_second=model / 1e9))
    assert stored.stages[0].wall_seconds - bare.stages[0].wall_seconds == pytest.approx(1.0, abs=0.01)  # the model, read in one second


def test_price_of_storage_is_the_model_once_a_node_and_all_that_is_written(tmp_path: Path) -> None:
    categorise, search, evaluate = price(planning(tmp_path), "2x2xH100").stages
    model = 2 * WEIGHTS
    assert layer_weights(SHAPE) == WEIGHTS
    assert (categorise.read_bytes, categorise.written_bytes) == (2 * model, 3_000 * NOTHING_ELSE.answer_bytes)
    assert (search.read_bytes, search.written_bytes) == (2 * model, 4 * 2 * 5_000 + 4_000)
    assert evaluate.read_bytes == 2 * model + 4 * 4 * 1_000  # every actor reads every adapter


def test_makespan_lays_the_longest_first_and_slow_groups_take_longer() -> None:
    assert makespan([1, 2, 3], 1, NOTHING_ELSE) == 6
    assert makespan([3, 1, 1, 1], 2, NOTHING_ELSE) == 3
    assert makespan([2.0] * 4, 4, replace(NOTHING_ELSE, slow_share=0.25, slow_factor=1.5)) == 3


def test_rates_that_a_study_does_not_name_are_a_share_of_the_data_sheet(tmp_path: Path) -> None:
    plan = planning(tmp_path, training_tokens_per_second=None, prompts_per_second=None)
    rates = price(plan, assumed=replace(NOTHING_ELSE, training_share=0.5, answering_share=0.1, prompt_tokens=50)).rates
    assert rates.training_tokens == pytest.approx(0.5 * 989e12 / (4 * WEIGHTS))
    assert rates.prompts == pytest.approx(0.1 * 989e12 / (2 * WEIGHTS * 50))
    assert rates.origin == "989 TFLOP/s of bfloat16"
    named = price(planning(tmp_path)).rates
    assert (named.training_tokens, named.prompts) == (10.0, 5.0)
    assert named.origin == "resources.training_tokens_per_second and resources.prompts_per_second"


def test_everything_that_is_assumed_is_printed(tmp_path: Path) -> None:
    odd = Assumptions(0.111, 0.222, 33, 44.0, 55.0, 66.0, 7.7, 0.08, 9.9, 40)
    text = "\n".join(cluster_lines(price(planning(tmp_path), assumed=odd)))
    for figure in ("11% of the peak", "22% in answering", "33 tokens a prompt", "44 s", "55 s", "66 s", "7.7 GB/s", "8% of", "9.9 times"):
        assert figure in text


def test_price_refuses_what_the_cluster_has_no_room_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"resources.workers_per_trial: 8 are asked for and the cluster has 4 GPUs"):
        price(planning(tmp_path, workers_per_trial=8))
    small = StatedCluster(replace(GPU_KINDS["L4"], memory_gb=0.1), stated_cluster("1xL4").nodes)
    with pytest.raises(UserError, match=r"--cluster: the study needs 213 MB of one GPU and room for a pass, and L4 has 0.1 GB"):
        price_on_cluster(planning(tmp_path), {}, RowTokens(50, 50, ""), SHAPE, DISK, small)


def test_duration_is_rounded_up_to_minutes() -> None:
    assert [duration_text(seconds) for seconds in (1, 60, 3599, 3661)] == ["1 min", "1 min", "1 h 00 min", "1 h 02 min"]


def test_dry_run_with_a_cluster_prints_its_price_and_what_is_assumed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    smoke = str(Path(__file__).parents[2] / "ray_jobs" / "studies" / "smoke.toml")
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["study", smoke, "resources.attention=sdpa", "--results", str(tmp_path), "--dry-run", "--cluster", "8xH100"])
    shown = capfd.readouterr().out
    for words in ("on 8 H100 on 1 node, which is not there", "categorise", "evaluate", "GPU-hours", "assumed: 25% of the peak rate"):
        assert words in shown
    assert not list((tmp_path / "store").glob("*"))


def test_cluster_without_a_dry_run_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        main(["study", "missing.toml", "--cluster", "8xH100"])
    assert "--cluster: prices a study for a cluster that is not there: give it together with --dry-run" in capfd.readouterr().err
