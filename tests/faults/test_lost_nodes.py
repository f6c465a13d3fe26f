"""A study whose nodes are lost one after the other, in search and evaluation, ends on those that came, as if nothing had happened.

The nodes are raylets on this machine. The head has no CPU, so everything but the study's driver, the queue and the tally is on the others.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from tests.conftest import RAY_SETTINGS, free_port
from tests.faults.test_killed_training import assert_as_uninterrupted, is_training
from tests.killing import running_kp

STORE = 100 << 20  # bytes of Ray's object store
NODE = {"num_cpus": 4, "object_store_memory": STORE}

pytestmark = pytest.mark.studies


@pytest.fixture
def nodes() -> Iterator[Cluster]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"RAY_AUTH_MODE": "disabled", **RAY_SETTINGS}.items():
            patch.setenv(name, value)
        ports = {name: free_port() for name in ("dashboard_port", "dashboard_agent_listen_port")}
        head = {"num_cpus": 0, "include_dashboard": True, "object_store_memory": STORE, **ports}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        yield cluster
        cluster.shutdown()


def replace(nodes: Cluster, old: object) -> object:
    """Let a node come, and then lose this one without a word."""
    new = nodes.add_node(**NODE)
    nodes.wait_for_nodes()
    nodes.remove_node(old, allow_graceful=False)
    return new


def test_study_goes_on_where_nodes_came_after_those_of_its_search_and_of_its_evaluation_were_lost(
    nodes: Cluster, finished_tiny: Path, tiny_study: Path, untrained: Path
) -> None:
    root = untrained
    node = nodes.add_node(**NODE)
    nodes.wait_for_nodes()
    one_each = ("resources.generators=1", "resources.concurrent_trials=1")
    with running_kp(root, "study", tiny_study, *one_each, ray=nodes.address) as run:
        run.wait_until(lambda: is_training(root, 1))
        node = replace(nodes, node)
        run.wait_until(lambda: len(list(root.glob("store/trial/*/record.json"))) == 3)
        run.wait_until(lambda: bool(run.generators()))
        replace(nodes, node)
        assert run.wait() == 0, run.output()
    assert_as_uninterrupted(root, finished_tiny)
