"""A study on a cluster that has no GPU node until it is asked for one, and that takes nodes back when nothing uses them.

The autoscaler is Ray's own, with the provider whose nodes are raylets on this machine.
"""

import time
from pathlib import Path

import psutil
import pytest
import yaml

from tests.conftest import free_port
from tests.faults.test_killed_training import WORKER, assert_as_uninterrupted
from tests.killing import running_kp
from tests.named_gpus_kp import SLOT
from tests.ray_head import STORE, RunningHead, running_head

MOST = 2
HEAD_CPUS = 4
GENERATOR = "_ChunkAnswerer"
IDLE_MINUTES = 0.2
GONE_SECONDS = 120.0
WITHOUT_CLOUD = ("file_mounts_sync_continuously", "cluster_synced_files", "rsync_exclude", "rsync_filter", "initialization_commands")
COMMANDS = ("setup_commands", "head_setup_commands", "worker_setup_commands", "head_start_ray_commands", "worker_start_ray_commands")

pytestmark = pytest.mark.studies


def save_cluster_file(path: Path, port: int) -> Path:
    """A cluster file of no GPU node at first and MOST at most."""
    node = {"CPU": 2, "GPU": 1, SLOT: 1, "object_store_memory": STORE}
    provider = {"type": "fake_multinode", "use_node_id_as_ip": True, "disable_node_updaters": True, "disable_launch_config_check": True}
    types = {
        "ray.head.default": {"resources": {"CPU": HEAD_CPUS}, "node_config": {}, "max_workers": 0},
        "gpu": {"resources": node, "node_config": {}, "min_workers": 0, "max_workers": MOST},
    }
    content = {
        "cluster_name": "autoscaled",
        "max_workers": MOST,
        "idle_timeout_minutes": IDLE_MINUTES,
        "provider": provider | {"gcs_address": f"127.0.0.1:{port}"},
        "available_node_types": types,
        "head_node_type": "ray.head.default",
        "auth": {},
        "file_mounts": {},
        **{name: [] for name in (*WITHOUT_CLOUD, *COMMANDS)},
    }
    path.write_text(yaml.safe_dump(content | {"file_mounts_sync_continuously": False}), encoding="utf-8")
    return path


def raylets(head: RunningHead) -> set[int]:
    """The process ids of the cluster's nodes."""
    return {process.pid for process in head.process.children(recursive=True) if is_raylet(process)}


def is_raylet(process: psutil.Process) -> bool:
    try:
        return bool(process.name() == "raylet")
    except psutil.NoSuchProcess:
        return False


def test_study_brings_up_nodes_uses_them_and_leaves_them_to_go(finished_tiny: Path, tiny_study: Path, tmp_path: Path) -> None:
    port = free_port()
    settings = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_AUTH_MODE": "disabled"}
    cluster_file = save_cluster_file(tmp_path / "cluster.yaml", port)
    root = tmp_path / "runs"
    root.mkdir()
    asked = ("min_gpus=1", "wait_for=3", f"max_gpus={MOST}", f"generators={MOST}", f"concurrent_trials={MOST}")
    overrides = [f"resources.{one}" for one in asked]
    with running_head(f"--autoscaling-config={cluster_file}", "--num-gpus=0", port=port, cpus=HEAD_CPUS, **settings) as head:
        of_head = raylets(head)
        assert len(of_head) == 1
        with running_kp(root, "study", tiny_study, *overrides, ray=head.address, program="tests.named_gpus_kp") as run:
            used: dict[str, set[int]] = {GENERATOR: set(), WORKER: set()}
            while run.driver.poll() is None:
                for title, nodes in used.items():
                    nodes |= run.nodes_of(title)
                time.sleep(0.2)
            assert run.wait() == 0, run.output()
        assert not used[WORKER] & of_head
        assert len(used[WORKER]) == MOST
        assert used[GENERATOR]
        assert not used[GENERATOR] & of_head
        until = time.monotonic() + GONE_SECONDS
        while raylets(head) != of_head:
            assert time.monotonic() < until, "nodes that nothing uses stay"
            time.sleep(0.5)
    assert_as_uninterrupted(root, finished_tiny)
