"""GPUs that several processes share, GPUs of one kind, and nodes that are not equal: counted, limited and priced."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from kp.cluster.demand import shape
from kp.cluster.preflight import check_on
from kp.cluster.sizing import Node, plan_cluster
from kp.cluster.stated import stated_cluster
from kp.config.resources import ResourcesConfig
from kp.config.study import ModelConfig, StudyConfig
from kp.errors import UserError
from kp.generation.memory import _free_bytes
from kp.inference.answering import EngineSpec
from kp.models import memory
from kp.models.memory import CONTEXT_BYTES, memory_part, share_gpu
from kp.search.trial_queue import QueueState
from kp.search.worker_groups import WorkerGroups, stalled
from kp.study.cluster_price import cluster_lines
from kp.study.memory_price import BESIDES, memory_text
from tests.unit.test_cluster_price import planning, price
from tests.unit.test_memory_price import LLAMA_8B
from tests.unit.test_memory_price import price as memory_of

GIB = 1 << 30
STUDY: dict[str, Any] = {"name": "s", "training": {"lora_alpha": 16}}
H100, A100 = ("H100",), ("A100",)


def test_processes_that_share_a_gpu_are_as_many_and_have_fewer_threads() -> None:
    cluster = plan_cluster(ResourcesConfig(per_gpu=4), [Node(32, 4)] * 2)
    assert (cluster.generators, cluster.concurrent_trials) == (32, 32)
    assert (cluster.generator_threads, cluster.worker_threads) == (2, 2)
    assert str(cluster) == "2 nodes, 8 GPUs with 4 processes each; generators: 32, trials at once: 32"


@pytest.mark.parametrize("per_gpu", range(1, 65))
def test_as_many_parts_fit_on_a_gpu_as_there_are_to_be_however_ray_rounds(per_gpu: int) -> None:
    cluster = plan_cluster(ResourcesConfig(per_gpu=per_gpu), [Node(8, 1)])
    steps = round(cluster.actor_gpus * 10_000)  # as Ray counts
    assert per_gpu * steps <= 10_000 < (per_gpu + 1) * steps
    assert cluster.worker_resources()["GPU"] == cluster.actor_options()["num_gpus"] == cluster.actor_gpus
    assert per_gpu * cluster.worker_resources()["CPU"] == pytest.approx(0.5)


def test_generators_and_trials_may_be_as_many_as_parts_and_not_more() -> None:
    assert plan_cluster(ResourcesConfig(per_gpu=2, generators=16, concurrent_trials=16), [Node(64, 8)]).generators == 16
    with pytest.raises(UserError, match=r"resources\.generators: 17 are asked for and the cluster has 8 GPUs for 2 processes each"):
        plan_cluster(ResourcesConfig(per_gpu=2, generators=17), [Node(64, 8)])
    with pytest.raises(UserError, match=r"resources\.concurrent_trials: 17 are asked for and the cluster has room for 16"):
        plan_cluster(ResourcesConfig(per_gpu=2, concurrent_trials=17), [Node(64, 8)])


def test_cluster_that_may_grow_has_parts_of_the_gpus_that_there_may_be() -> None:
    cluster = plan_cluster(ResourcesConfig(max_gpus=8, per_gpu=2), [Node(4, 0)])
    assert (cluster.generators, cluster.most_generators, cluster.concurrent_trials) == (1, 16, 16)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"per_gpu": 2, "workers_per_trial": 2}, r"resources\.per_gpu: not with resources\.workers_per_trial = 2: NCCL connects no two"),
        ({"per_gpu": 2, "gpu": False}, r"resources\.per_gpu: resources\.gpu is false, so the study uses none"),
        ({"accelerator_type": "H100", "gpu": False}, r"resources\.accelerator_type: resources\.gpu is false"),
        ({"accelerator_type": "one of mine"}, r"resources\.accelerator_type"),
        ({"per_gpu": 0}, r"resources\.per_gpu"),
    ],
)
def test_gpus_that_cannot_be_shared_are_refused_with_the_config(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StudyConfig.model_validate(STUDY | {"resources": asked})


def test_vllm_shares_no_gpu() -> None:
    vllm = {"categorise": {"engine": "vllm"}, "resources": {"vllm_python": "/opt/python", "per_gpu": 2}}
    with pytest.raises(ValueError, match=r"resources\.per_gpu: not with categorise\.engine 'vllm'"):
        StudyConfig.model_validate(STUDY | vllm)


def test_unequal_nodes_are_counted_one_by_one() -> None:
    nodes = [Node(64, 0), Node(16, 4, A100), Node(96, 8, H100), Node(1, 8, H100)]  # a head, and a node whose cores feed 2 of 8 GPUs
    cluster = plan_cluster(ResourcesConfig(), nodes)
    assert (cluster.generators, cluster.concurrent_trials) == (4 + 8 + 2, 14)
    assert cluster.generator_threads == 1  # a core for 2 GPUs
    assert plan_cluster(ResourcesConfig(workers_per_trial=5), nodes[:3]).concurrent_trials == 2  # of 12 GPUs, over nodes
    assert plan_cluster(ResourcesConfig(gpu=False), [Node(4, 0), Node(96, 8)]).generators == 8


def test_node_whose_gpus_have_no_core_is_named() -> None:
    with pytest.raises(UserError, match=r"resources\.gpu: no node with a GPU has a core"):
        plan_cluster(ResourcesConfig(), [Node(8, 0), Node(0, 4)])


def test_kind_of_gpu_leaves_out_nodes_with_others() -> None:
    nodes = [Node(64, 0), Node(16, 4, A100), Node(96, 8, H100), Node(24, 2, H100)]
    cluster = plan_cluster(ResourcesConfig(accelerator_type="H100", per_gpu=2), nodes)
    assert (cluster.gpus, cluster.generators, cluster.concurrent_trials, cluster.generator_threads) == (10, 20, 20, 6)
    assert str(cluster).startswith("4 nodes, 10 H100 GPUs with 2 processes each")
    kind = {"accelerator_type:H100": 0.001}
    assert cluster.worker_resources() == {"CPU": 0.25, "GPU": 0.5, **kind}
    assert cluster.actor_options() == {"num_cpus": 0.25, "num_gpus": 0.5, "resources": kind}


def test_study_without_gpus_asks_for_no_kind() -> None:
    assert plan_cluster(ResourcesConfig(), [Node(4, 0)]).actor_options() == {"num_cpus": 0.5, "num_gpus": 0.0}


@pytest.mark.parametrize(
    ("nodes", "has"),
    [
        ([Node(64, 8, A100), Node(8, 2, ("L4",)), Node(64, 8, A100), Node(4, 0)], "16 of A100, 2 of L4"),
        ([Node(8, 1)], "1 of a kind that Ray does not know"),
        ([Node(8, 0)], "no GPUs"),
    ],
)
def test_kind_of_gpu_that_no_node_has_is_refused_with_those_that_there_are(nodes: list[Node], has: str) -> None:
    message = rf"resources\.accelerator_type: no node has a GPU of kind 'H100'; the cluster has {has}\. .* set resources\.max_gpus"
    with pytest.raises(UserError, match=message):
        plan_cluster(ResourcesConfig(accelerator_type="H100"), nodes)
    assert plan_cluster(ResourcesConfig(accelerator_type="H100", max_gpus=4), nodes).concurrent_trials == 4  # they may come


def test_nodes_resources_are_read_with_their_kind_of_gpu() -> None:
    listed = {"CPU": 16.0, "GPU": 4.0, "accelerator_type:A100": 1.0, "accelerator_type:A100-40G": 1.0, "node:10.0.0.2": 1.0, "memory": 1e9}
    assert Node.of_resources(listed) == Node(16, 4, ("A100", "A100-40G"))
    assert Node.of_resources({"CPU": 4.0}) == Node(4, 0)


def test_only_nodes_on_which_the_model_will_be_are_asked_for_it() -> None:
    def check() -> str:
        return "has no room"

    has = {"GPU": 8.0, "accelerator_type:H100": 1.0}
    assert [check_on(has, check, kind)() for kind in (None, "H100", "A100")] == ["has no room", "has no room", None]


def test_kind_of_gpu_stands_in_what_waits_and_in_what_a_stalled_search_waits_for() -> None:
    cluster = plan_cluster(ResourcesConfig(accelerator_type="H100", per_gpu=2), [Node(8, 1, H100)])
    assert shape(cluster.worker_resources()) == "CPU: 0.25, GPU: 0.5, accelerator_type:H100: 0.001"
    waits = stalled(QueueState((), 4, 1830.0), WorkerGroups(cluster, 1, None), {"GPU": 8.0})
    assert "worker groups wait for 0.5 H100 GPU each, and the cluster has 8 GPUs in all" in waits


def test_stated_cluster_has_its_kind_by_the_names_that_ray_gives() -> None:
    for stated, kind in (("64xH100", "H100"), ("8xA100", "A100-80G"), ("8xA100-40GB", "A100"), ("4xA10", "A10G")):
        assert plan_cluster(ResourcesConfig(accelerator_type=kind), stated_cluster(stated).nodes).use_gpu
    with pytest.raises(UserError, match="no node has a GPU of kind 'H200'; the cluster has 64 of H100"):
        plan_cluster(ResourcesConfig(accelerator_type="H200"), stated_cluster("64xH100").nodes)


def test_price_on_a_stated_cluster_gains_nothing_from_sharing_and_says_so(tmp_path: Path) -> None:
    """Four trials on four GPUs are on one each; four on two GPUs with two places are at once, each at half the rate."""
    alone, shared = price(planning(tmp_path), "2xH100"), price(planning(tmp_path, per_gpu=2), "2xH100")
    assert shared.gpu_hours == pytest.approx(alone.gpu_hours)
    assert shared.stages[1].wall_seconds == pytest.approx(alone.stages[1].wall_seconds)
    assert "assumed: 2 processes on a GPU share its rate, and gain nothing by it" in cluster_lines(shared)
    assert not any("processes on a GPU" in line for line in cluster_lines(alone))


def test_each_process_on_a_gpu_must_have_the_model_of_its_own() -> None:
    one, four = memory_of(LLAMA_8B), memory_of(LLAMA_8B, per_gpu=4)
    assert one is not None
    assert four is not None
    assert four.least == one.least
    needed = 4 * (four.least / 1e9 + BESIDES)
    assert [four.fits(needed), four.fits(needed - 0.1)] == [True, False]
    assert memory_text(four, "bfloat16").endswith("; 4 such processes on each; fits A100, H100, H200")


def test_part_of_a_gpus_memory_leaves_room_for_the_contexts_of_all_processes() -> None:
    for processes in (2, 3, 8):
        held = memory_part(80 * GIB, processes) * 80 * GIB
        assert processes * (held + CONTEXT_BYTES) == pytest.approx(80 * GIB)
    assert memory_part(2 * GIB, 4) == 0


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """An H100 of which this process has 20 GiB reserved and 10 GiB in use, and others nothing yet; `limit` is what it was held to."""
    state: dict[str, Any] = {"limit": 1.0}
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=80 * GIB))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda part, device: state.update(limit=part, device=device))
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda device: state["limit"])
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (58 * GIB, 80 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 20 * GIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 10 * GIB)
    return state


def test_process_with_a_gpu_of_its_own_is_not_limited(gpu: dict[str, Any]) -> None:
    share_gpu(1)
    assert "device" not in gpu
    assert _free_bytes(torch.device("cuda", 1)) == (58 + 20 - 10) * GIB


def test_process_that_shares_a_gpu_counts_its_part_alone_as_free(gpu: dict[str, Any]) -> None:
    share_gpu(4)
    assert (gpu["device"], gpu["limit"] * 80 * GIB) == (1, pytest.approx(19 * GIB))
    assert _free_bytes(torch.device("cuda", 1)) == pytest.approx((19 - 10) * GIB, abs=1)


def test_generator_takes_its_part_of_the_gpu_before_it_loads_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[Any] = []
    monkeypatch.setattr("kp.inference.answering.share_gpu", done.append)
    monkeypatch.setattr("kp.inference.answering.use_expandable_segments", lambda: done.append("segments"))
    engine = EngineSpec(ModelConfig(), 4, True, 4, 1, use_gpu=True, per_gpu=3)
    with pytest.raises(UserError, match="torch sees no GPU"):
        engine.load()
    assert done == ["segments", 3]
    assert memory.share_gpu is share_gpu
