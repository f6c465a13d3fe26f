"""The pipeline's pool follows the cluster: a node that joins is used, and one that is lost costs time only.

The nodes are raylets on this machine. Each has one slot for an actor, which Ray knows as a GPU; nothing computes on it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray
from ray.cluster_utils import Cluster

from kp import schema
from kp.cluster.sizing import Node, plan_cluster
from kp.cluster.tally import Tally
from kp.config.resources import ResourcesConfig
from kp.config.study import ModelConfig
from kp.inference.base_answers import Categorisation, _OfBase
from kp.inference.chunk_files import ChunkFiles, unpacked
from kp.inference.pipeline import answer_chunks
from kp.prompts import builtin_prompts
from kp.vocabulary import ShotSet
from tests.conftest import RAY_SETTINGS
from tests.made_up_engine import NodeNamingEngine
from tests.made_up_study import facts

STORE = 100 << 20  # bytes of Ray's object store
SHOT_SETS = {shot_set: builtin_prompts(shot_set) for shot_set in (ShotSet.S0, ShotSet.S1, ShotSet.S2)}

pytestmark = pytest.mark.studies


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Cluster]:
    """A head without a slot, joined by this process."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"RAY_AUTH_MODE": "disabled", **RAY_SETTINGS}.items():
            patch.setenv(name, value)
        cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 4, "num_gpus": 0, "include_dashboard": False, "object_store_memory": STORE}
        )
        ray.init(address=cluster.address, log_to_driver=False)
        yield cluster
        ray.shutdown()
        cluster.shutdown()


def test_pipeline_uses_a_node_that_joins_and_ends_without_one_that_is_lost(nodes: Cluster, tmp_path: Path) -> None:
    slot = {"num_cpus": 1, "num_gpus": 1, "object_store_memory": STORE}
    lost = nodes.add_node(**slot)
    nodes.wait_for_nodes()
    asked = facts().head(24).to_arrow().cast(schema.FACTS)
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    engine = NodeNamingEngine(ModelConfig(), 4, stop_at_newline=True, batch_size=4, threads=1, use_gpu=True, meeting=str(meeting))
    job = Categorisation(asked, SHOT_SETS, list(SHOT_SETS), engine)
    cluster = plan_cluster(ResourcesConfig(gpu=True), [Node(4, 0), Node(1, 1)])
    files, chunks = ChunkFiles(tmp_path / "work"), job.chunks()

    joined: Any = None
    done: set[str] = set()
    for committed in answer_chunks(_OfBase(job), chunks, files, cluster, Tally("s", "categorise")):
        done |= committed
        if joined is None:
            joined = nodes.add_node(**slot)
        elif lost and joined.node_id in made_on(files, done):
            nodes.remove_node(lost, allow_graceful=False)
            lost = None

    assert joined is not None
    assert lost is None
    assert done == set(chunks["chunk_id"].to_pylist())
    assert len(made_on(files, done)) == 2


def made_on(files: ChunkFiles, chunk_ids: set[str]) -> set[str]:
    """The nodes on which these chunks were answered."""
    tables = [unpacked(data) for data in files.read(sorted(chunk_ids))["answers"].to_pylist()]
    return set(pa.concat_tables(tables)["answer"].to_pylist())
