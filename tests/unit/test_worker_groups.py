"""Worker groups that end are started again where that may help, and what a search does or waits for is told in a line."""

from dataclasses import replace
from typing import Any
from unittest import mock

import pytest

from kp.cluster.sizing import Node, plan_cluster
from kp.config.resources import ResourcesConfig
from kp.models.memory import use_expandable_segments
from kp.search.trial_queue import GroupEnd, QueueState, Training
from kp.search.worker_groups import MOST_FRUITLESS, WorkerGroups, _process_group, may_restart, stalled, told_of

NODE_LOST = "ActorDiedError: The actor died because its node has died."
NO_NODE = "ControllerError: WorkerGroupStartupTimeoutError: The worker group startup timed out after 60 seconds"


def ended(idle: float = 0.0) -> GroupEnd:
    return GroupEnd(is_retired=False, cause="", is_over=False, epochs=0, idle_seconds=idle)


@pytest.mark.parametrize("error", [NODE_LOST, NO_NODE])
def test_group_without_a_node_starts_again_as_long_as_the_study_may_wait(error: str) -> None:
    assert may_restart(error, 100, ended(idle=899), patience=900)
    assert not may_restart(error, 1, ended(idle=900), patience=900)


def test_group_that_ends_by_itself_starts_again_a_few_times() -> None:
    starts = [may_restart("ModuleNotFoundError: no module", fruitless, ended(), patience=900) for fruitless in range(1, 5)]
    assert starts == [fruitless < MOST_FRUITLESS for fruitless in range(1, 5)]


@pytest.mark.parametrize(
    ("state", "line"),
    [
        (
            QueueState((Training("0123456789", 120, 3.4),), 4, 3.4),
            "1 of 3 worker groups train: 01234567 at step 120 (3 s ago); 4 trials wait; 2 groups have no worker yet, or start",
        ),
        (QueueState((Training("0123456789", 1, 0.0),), 0, 0.0), "1 of 3 worker groups train: 01234567 at step 1 (0 s ago)"),
        (QueueState((), 4, 60.0), "none of 3 worker groups trains; 4 trials wait; 3 groups have no worker yet, or start"),
    ],
)
def test_line_on_a_search_tells_what_trains_and_what_waits(state: QueueState, line: str) -> None:
    assert told_of(state, 3) == line
    halved = replace(state, halved=2)
    assert told_of(halved, 3) == f"{line}; 2 trials read fewer rows in a pass, because memory ran out"
    assert told_of(state, 3, restarts=2) == f"{line}; 2 times a group was started again"


def test_search_that_stalls_names_what_it_waits_for() -> None:
    groups = WorkerGroups(plan_cluster(ResourcesConfig(max_gpus=4, workers_per_trial=2), [Node(8, 0)]), 2, None)
    waits = stalled(QueueState((), 4, 1830.0), groups, {"CPU": 8.0})
    assert waits.startswith("nothing was trained for 30 minutes: worker groups wait for 2 GPUs each, and the cluster has 0 GPUs in all")
    hangs = stalled(QueueState((Training("0123456789", 1, 1830.0),), 0, 1830.0), groups, {"GPU": 2.0})
    assert "though workers have trials (01234567)" in hangs


def test_workers_have_expandable_segments_before_their_process_group_uses_the_gpu() -> None:
    done: list[Any] = []
    backend = _process_group("nccl", 1800.0).backend_cls
    workers = mock.Mock(execute=done.append)
    with mock.patch.object(backend.__mro__[1], "on_start", side_effect=lambda *arguments: done.append("process group")):
        backend().on_start(workers, None)
    assert done.index(use_expandable_segments) < done.index("process group")


def test_workers_wait_for_each_other_as_long_as_the_study_waits() -> None:
    assert [_process_group("gloo", patience).timeout_s for patience in (60.0, 2700.5)] == [1800, 2701]
