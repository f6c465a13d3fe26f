"""What a study asks for is compared with what the cluster has before anything waits for it."""

import subprocess
import sys

import pytest

from kp.cluster.sizing import Node, plan_cluster
from kp.config.resources import ResourcesConfig
from kp.config.study import StudyConfig
from kp.errors import UserError
from kp.search.tune import AHEAD
from kp.search.worker_groups import DRIVER_CPUS


def test_plan_cluster_two_cores_give_two_generators_and_two_trials_of_one_thread() -> None:
    cluster = plan_cluster(ResourcesConfig(), [Node(2, 0)])
    assert (cluster.generators, cluster.generator_threads) == (2, 1)
    assert (cluster.concurrent_trials, cluster.worker_threads) == (2, 1)
    assert not cluster.use_gpu


def test_workers_on_every_core_leave_room_for_the_drivers_of_trials_and_groups() -> None:
    cluster = plan_cluster(ResourcesConfig(), [Node(1, 0)] * 3)
    drivers = 2 * cluster.concurrent_trials + AHEAD
    assert cluster.concurrent_trials == 3
    assert cluster.worker_resources()["CPU"] + drivers * DRIVER_CPUS <= 1  # all drivers may come to one node


def test_plan_cluster_many_cores_give_few_generators_of_many_threads() -> None:
    cluster = plan_cluster(ResourcesConfig(), [Node(32, 0)])
    assert (cluster.generators, cluster.generator_threads) == (4, 8)


def test_plan_cluster_eight_gpus_give_one_actor_and_one_trial_each() -> None:
    cluster = plan_cluster(ResourcesConfig(), [Node(32, 4)] * 2)
    assert (cluster.generators, cluster.concurrent_trials, cluster.use_gpu) == (8, 8, True)
    assert cluster.actor_gpus == 1


def test_plan_cluster_two_workers_a_trial_halve_the_trials_at_once() -> None:
    assert plan_cluster(ResourcesConfig(workers_per_trial=2), [Node(32, 4)] * 2).concurrent_trials == 4


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"gpu": True}, "resources.gpu"),
        ({"workers_per_trial": 3}, "resources.workers_per_trial"),
        ({"concurrent_trials": 3}, "resources.concurrent_trials"),
    ],
)
def test_plan_cluster_more_than_there_is_names_the_field(asked: dict[str, int], field: str) -> None:
    with pytest.raises(UserError, match=field):
        plan_cluster(ResourcesConfig.model_validate(asked), [Node(2, 0)])


def test_plan_cluster_more_generators_than_gpus_names_the_field() -> None:
    with pytest.raises(UserError, match=r"resources.generators: 9 .* 8 GPUs"):
        plan_cluster(ResourcesConfig(generators=9), [Node(64, 8)])


@pytest.mark.parametrize(("asked", "gpus", "most"), [(None, 0, 4), (2, 0, 2), (None, 8, None), (6, 8, 6)])
def test_plan_cluster_generators_grow_with_the_gpus_unless_their_number_is_set(asked: int | None, gpus: int, most: int | None) -> None:
    assert plan_cluster(ResourcesConfig(generators=asked), [Node(32, gpus)]).most_generators == most


def test_plan_cluster_threads_are_those_that_the_smallest_node_with_actors_has() -> None:
    cluster = plan_cluster(ResourcesConfig(), [Node(4, 0), Node(96, 8), Node(16, 4)])
    assert (cluster.generator_threads, cluster.worker_threads) == (4, 4)  # 16 cores for 4 GPUs; the head has none
    cores = plan_cluster(ResourcesConfig(concurrent_trials=4), [Node(16, 0), Node(8, 0)])
    assert (cores.generators, cores.generator_threads) == (8, 2)  # 4 on each
    assert cores.worker_threads == 4  # 2 trials on each


def test_task_cpus_are_no_more_than_one_node_has() -> None:
    cluster = plan_cluster(ResourcesConfig(), [Node(8, 0), Node(16, 4), Node(16, 4), Node(16, 4), Node(16, 4)])
    assert [cluster.task_cpus(tasks) for tasks in (1, 4, 8, 100)] == [16, 16, 9, 1]


def test_plan_cluster_that_may_grow_divides_the_gpus_that_there_may_be() -> None:
    cluster = plan_cluster(ResourcesConfig(max_gpus=8, workers_per_trial=2, stalled_after=45), [Node(4, 0)])
    assert (cluster.use_gpu, cluster.generators, cluster.most_generators, cluster.concurrent_trials) == (True, 1, 8, 4)
    assert cluster.patience == 2700
    assert plan_cluster(ResourcesConfig(max_gpus=8), [Node(64, 16)]).concurrent_trials == 16


def test_plan_cluster_without_the_gpu_that_is_asked_for_tells_of_clusters_that_grow() -> None:
    with pytest.raises(UserError, match=r"resources.gpu: a GPU is asked for and the cluster has none; .* set resources.max_gpus"):
        plan_cluster(ResourcesConfig(gpu=True), [Node(2, 0)])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"gpu": False, "max_gpus": 2}, "resources.max_gpus: resources.gpu is false, so the study uses none"),
        ({"min_gpus": 3, "max_gpus": 2}, "resources.min_gpus: 3 is more than resources.max_gpus, 2"),
    ],
)
def test_gpus_that_cannot_be_had_are_refused_with_the_config(asked: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StudyConfig.model_validate({"name": "x", "training": {"lora_alpha": 16}, "resources": asked})


def test_what_tune_imports_in_the_middle_of_a_search_is_imported_before_there_are_threads() -> None:
    program = "import sys; from kp.cluster.connection import _import_before_threads as early; early(); print('wandb.sdk' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()[-1] == "True"
