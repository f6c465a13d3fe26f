"""What reserves a part of a GPU, and GPUs of one kind, is placed by a real Ray as the plan counts. Nothing computes on these GPUs."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray
from ray.cluster_utils import Cluster as Nodes
from ray.util.placement_group import placement_group

from kp import schema
from kp.cluster.connection import _gpus_there, _nodes
from kp.cluster.demand import cluster_state
from kp.cluster.sizing import Cluster, plan_cluster
from kp.cluster.tally import Tally
from kp.config.resources import ResourcesConfig
from kp.config.study import ModelConfig
from kp.errors import UserError
from kp.inference.base_answers import Categorisation, _OfBase
from kp.inference.chunk_files import ChunkFiles, unpacked
from kp.inference.pipeline import answer_chunks
from kp.prompts import builtin_prompts
from kp.vocabulary import ShotSet
from tests.conftest import RAY_SETTINGS
from tests.made_up_engine import NodeNamingEngine
from tests.made_up_study import facts

STORE = 100 << 20  # bytes of Ray's object store
SECONDS = 60.0
SHOT_SETS = {shot_set: builtin_prompts(shot_set) for shot_set in (ShotSet.S0, ShotSet.S1)}


@pytest.fixture(scope="module")
def wanted() -> Iterator[str]:
    """The id of the one node with the kind of GPU that is asked for: beside a head without GPUs, and a node with another kind."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"RAY_AUTH_MODE": "disabled", **RAY_SETTINGS}.items():
            patch.setenv(name, value)
        nodes = Nodes(
            initialize_head=True, head_node_args={"num_cpus": 4, "num_gpus": 0, "include_dashboard": False, "object_store_memory": STORE}
        )
        has = {"num_cpus": 2, "num_gpus": 1, "object_store_memory": STORE}
        nodes.add_node(**has, resources={"accelerator_type:A100": 1})
        node = nodes.add_node(**has, resources={"accelerator_type:H100": 1})
        nodes.wait_for_nodes()
        ray.init(address=nodes.address, log_to_driver=False)
        yield node.node_id
        ray.shutdown()
        nodes.shutdown()


@pytest.fixture
def cluster(wanted: str) -> Cluster:
    return plan_cluster(ResourcesConfig(accelerator_type="H100", per_gpu=2), _nodes(on_this_machine=False))


def test_kinds_of_gpus_are_read_off_the_nodes(wanted: str, cluster: Cluster) -> None:
    assert (cluster.gpus, cluster.generators, cluster.concurrent_trials) == (1, 2, 2)
    assert [_gpus_there(kind) for kind in (None, "H100", "L4")] == [2, 1, 0]
    with pytest.raises(UserError, match="no node has a GPU of kind 'L4'; the cluster has 1 of A100, 1 of H100"):
        plan_cluster(ResourcesConfig(accelerator_type="L4"), _nodes(on_this_machine=False))


def test_two_actors_share_the_gpu_of_the_kind_and_a_third_waits(wanted: str, cluster: Cluster) -> None:
    class There:  # here, because the processes of the nodes do not have this module
        def node(self) -> str:
            return str(ray.get_runtime_context().get_node_id())

    remote: Any = ray.remote(**cluster.actor_options())(There)
    actors = [remote.remote() for _ in range(2)]
    assert ray.get([actor.node.remote() for actor in actors], timeout=SECONDS) == [wanted] * 2
    third = remote.remote()
    answer, until = third.node.remote(), time.monotonic() + SECONDS
    while not (state := cluster_state()) or not any("accelerator_type:H100" in what for what, _ in state.pending):
        assert time.monotonic() < until, state
        time.sleep(0.1)
    ray.kill(actors[0])
    assert ray.get(answer, timeout=SECONDS) == wanted
    for actor in (actors[1], third):
        ray.kill(actor)


def test_workers_of_two_trials_have_places_on_one_gpu_at_once(cluster: Cluster) -> None:
    """Ray Train places a group's workers by a placement group of what each reserves."""
    groups = [placement_group([cluster.worker_resources()]) for _ in range(2)]
    assert all(group.wait(SECONDS) for group in groups)
    for group in groups:
        ray.util.remove_placement_group(group)


def test_two_generators_on_one_gpu_answer_all_chunks(wanted: str, cluster: Cluster, tmp_path: Path) -> None:
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    engine = NodeNamingEngine(ModelConfig(), 4, stop_at_newline=True, batch_size=4, threads=1, use_gpu=True, meeting=str(meeting))
    job = Categorisation(facts().head(16).to_arrow().cast(schema.FACTS), SHOT_SETS, list(SHOT_SETS), engine)
    files, chunks = ChunkFiles(tmp_path / "work"), job.chunks()
    done = set().union(*answer_chunks(_OfBase(job), chunks, files, cluster, Tally("s", "categorise")))
    assert done == set(chunks["chunk_id"].to_pylist())
    answered = files.read(sorted(done))
    tables = [unpacked(data) for data in answered["answers"].to_pylist()]
    assert set(pa.concat_tables(tables)["answer"].to_pylist()) == {wanted}
    assert len(set(answered["load_began"].to_pylist())) == 2  # by two actors
