"""What a study asks for is compared with what the cluster has before anything waits for it."""

import pytest

from kp.cluster import plan_cluster
from kp.config.study import ResourcesConfig
from kp.errors import UserError


def test_plan_cluster_two_cores_give_two_generators_and_two_trials_of_one_thread() -> None:
    cluster = plan_cluster(ResourcesConfig(), cpus=2, gpus=0, nodes=1)
    assert (cluster.generators, cluster.generator_threads) == (2, 1)
    assert (cluster.concurrent_trials, cluster.worker_threads) == (2, 1)
    assert not cluster.use_gpu


def test_plan_cluster_many_cores_give_few_generators_of_many_threads() -> None:
    cluster = plan_cluster(ResourcesConfig(), cpus=32, gpus=0, nodes=1)
    assert (cluster.generators, cluster.generator_threads) == (4, 8)


def test_plan_cluster_eight_gpus_give_one_actor_and_one_trial_each() -> None:
    cluster = plan_cluster(ResourcesConfig(), cpus=64, gpus=8, nodes=2)
    assert (cluster.generators, cluster.concurrent_trials, cluster.use_gpu) == (8, 8, True)
    assert cluster.actor_gpus == 1


def test_plan_cluster_two_workers_a_trial_halve_the_trials_at_once() -> None:
    assert plan_cluster(ResourcesConfig(workers_per_trial=2), cpus=64, gpus=8, nodes=2).concurrent_trials == 4


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
        plan_cluster(ResourcesConfig.model_validate(asked), cpus=2, gpus=0, nodes=1)


def test_plan_cluster_more_generators_than_gpus_names_the_field() -> None:
    with pytest.raises(UserError, match=r"resources.generators: 9 .* 8 GPUs"):
        plan_cluster(ResourcesConfig(generators=9), cpus=64, gpus=8, nodes=1)


@pytest.mark.parametrize(("asked", "gpus", "most"), [(None, 0, 4), (2, 0, 2), (None, 8, None), (6, 8, 6)])
def test_plan_cluster_generators_grow_with_the_gpus_unless_their_number_is_set(asked: int | None, gpus: int, most: int | None) -> None:
    assert plan_cluster(ResourcesConfig(generators=asked), cpus=32, gpus=gpus, nodes=1).most_generators == most
