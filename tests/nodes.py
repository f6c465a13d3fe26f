"""Clusters of several nodes on one machine: raylets that come and go, as hosts do."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from ray.cluster_utils import Cluster

from tests.conftest import RAY_SETTINGS, free_port

STORE = 100 << 20  # bytes of Ray's object store


@contextmanager
def running_nodes(head_cpus: int, **settings: str) -> Iterator[Cluster]:
    """A head with so many CPUs, and a dashboard; its nodes' environment, and this process's within the block, has these settings."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"RAY_AUTH_MODE": "disabled", **RAY_SETTINGS, **settings}.items():
            patch.setenv(name, value)
        ports = {name: free_port() for name in ("dashboard_port", "dashboard_agent_listen_port")}
        head = {"num_cpus": head_cpus, "include_dashboard": True, "object_store_memory": STORE, **ports}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            yield cluster
        finally:
            cluster.shutdown()
