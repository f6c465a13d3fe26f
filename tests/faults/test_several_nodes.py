"""Studies on clusters of several nodes: a trial whose workers sit on two of them, and a node that is announced to go, and goes.

The nodes are raylets on this machine. A trial that is charged with a failure fails at once here (tests.charging_kp).
"""

import subprocess
from pathlib import Path

import polars as pl
import pytest
from ray.cluster_utils import Cluster

from tests.faults.test_killed_training import WORKER, is_training
from tests.killing import running_kp
from tests.nodes import STORE, running_nodes
from tests.ray_head import RAY
from tests.tiny_study import NAME

NODE = {"num_cpus": 4, "object_store_memory": STORE}
NOTICE_SECONDS = 5
ONE_ARM = "search.arms=[{}]"
EPOCHS = 200  # enough to last until the node is lost
CHARGING = "tests.charging_kp"


@pytest.mark.studies
def test_study_trains_a_trial_whose_two_workers_sit_on_two_nodes(tiny_study: Path, tmp_path: Path) -> None:
    one = (ONE_ARM, "resources.workers_per_trial=2", "resources.concurrent_trials=1", "resources.generators=1")
    with running_nodes(head_cpus=1) as nodes:
        for _ in range(2):
            nodes.add_node(num_cpus=1, object_store_memory=STORE)
        nodes.wait_for_nodes()
        with running_kp(tmp_path, "study", tiny_study, *one, ray=nodes.address, program=CHARGING) as run:
            run.wait_until(lambda: is_training(tmp_path, 0))
            assert len(run.processes(WORKER)) == 2
            assert len(run.nodes_of(WORKER)) == 2
            assert run.wait() == 0, run.output()
    trials = pl.read_parquet(tmp_path / NAME / "report" / "tables" / "trials.parquet")
    assert trials["status"].to_list() == ["completed"]
    assert (tmp_path / NAME / "report" / "report.html").is_file()


@pytest.mark.slow
def test_search_whose_node_is_reclaimed_goes_on_elsewhere_and_charges_nobody(untrained: Path, tiny_study: Path) -> None:
    watching = {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "1"}  # as on a cluster
    one = (ONE_ARM, "resources.concurrent_trials=1", f"training.epochs={EPOCHS}")
    with running_nodes(head_cpus=0, **watching) as nodes:
        reclaimed = nodes.add_node(**NODE)
        nodes.wait_for_nodes()
        with running_kp(untrained, "search", tiny_study, *one, ray=nodes.address, program=CHARGING, settings=watching) as run:
            run.wait_until(lambda: is_training(untrained, 0))
            nodes.add_node(**NODE)
            nodes.wait_for_nodes()
            before = run.nodes_of(WORKER)
            announce_loss(nodes, reclaimed.node_id)
            run.wait_until(lambda: bool(run.nodes_of(WORKER) - before))
            nodes.remove_node(reclaimed, allow_graceful=False)
            assert run.wait() == 0, run.output()
    (trial,) = (pl.read_parquet(path).row(0, named=True) for path in untrained.glob("store/trial/*/trial.parquet"))
    assert (trial["status"], trial["epochs"]) == ("completed", EPOCHS)


def announce_loss(nodes: Cluster, node_id: str) -> None:
    """Tell the cluster, as a cloud does, that a node will be reclaimed in NOTICE_SECONDS."""
    reason = ("--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot", "--deadline-remaining-seconds", str(NOTICE_SECONDS))
    command = [str(RAY), "drain-node", "--address", nodes.address, "--node-id", node_id, *reason]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
