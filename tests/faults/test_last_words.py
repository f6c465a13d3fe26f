"""The record of a trial whose workers died names the node and holds what they last wrote to stderr."""

import os
import signal
import socket
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import FIFOScheduler

from kp.cluster.sizing import Node, plan_cluster
from kp.config.resources import ResourcesConfig
from kp.config.study import StudyConfig
from kp.progress import Bar
from kp.search.tune import Listeners, run_trials
from kp.search.worker_groups import SearchFolders, WorkerGroups
from kp.store.steps import Store
from kp.study.building import build_graph
from kp.study.identities import Identities
from kp.study.profile import Profile
from kp.study.stages import search
from kp.training import checkpoints
from kp.vocabulary import TrialStatus
from tests.training_workers import tiny_job, tiny_spec

LAST = "the GPU fell off the bus"


def dying_engine() -> Any:
    """An engine whose worker says something and is gone; made in a function, so that it is pickled by value."""

    class Dying:
        @property
        def threads(self) -> int:
            print(LAST, file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError

    return Dying()


@pytest.mark.studies
@pytest.mark.usefixtures("local_ray")
def test_trial_whose_workers_are_killed_has_their_node_and_last_lines_in_its_failure_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kp.search.worker_groups.TOLD_SECONDS", 1.0)
    notes: list[str] = []
    config = StudyConfig.model_validate({"name": "s", "search": {"unknown": [10], "rank": [4]}, "training": {"lora_alpha": 16}})
    (trial,) = build_graph(config, Identities("model", "facts", "shots")).trials
    store, said = Store(tmp_path / "runs"), []
    session: Any = SimpleNamespace(store=store, display=SimpleNamespace(line=said.append), refusals=[], profile=Profile())
    trackers: Any = SimpleNamespace(ended=lambda *ended: None)
    failures: dict[str, dict[str, Any]] = {}
    follower = search._Follower(session, {trial.trial_id: trial}, Bar(1, "epochs"), trackers, failures)
    job = replace(tiny_job(tmp_path, tiny_spec(epochs=1), trial_id=trial.trial_id), engine=dying_engine())
    cluster = plan_cluster(ResourcesConfig(concurrent_trials=1), [Node(2, 0)])
    folders = SearchFolders({trial.trial_id: store.work(trial.step)}, tmp_path / "scratch")
    listeners = Listeners(follower.on_epoch, follower.on_end, notes.append)

    run_trials([job], folders, WorkerGroups(cluster, 1, None), FIFOScheduler(), listeners)

    found = checkpoints.failure(store.work(trial.step))
    assert found is not None
    assert found["status"] == TrialStatus.FAILED
    assert f"({socket.gethostname()})" in found["cause"]
    assert LAST in found["stderr"]
    assert f"    {LAST}" in said
    assert failures[trial.trial_id]["cause"] == found["cause"]
    assert len(found["cause"].splitlines()) == 1
    # While its group starts, the trial waits, and who looks is told what the cluster has.
    waiting = [line for line in notes if line.startswith("none of 1 worker groups trains; 1 trials wait")]
    assert any("; cluster: 1 node, no GPUs, " in line for line in waiting)
