"""Lines on what a study waits for name nodes, GPUs and demands, and repeat no warning."""

import pytest

from kp.cluster import demand
from kp.cluster.demand import MOST_CHARACTERS, ClusterState, WaitingLine, shape, troubles

INFEASIBLE = "Error: No available node types can fulfill resource request {'GPU': 4.0}. Add suitable node types to resolve this issue."


@pytest.mark.parametrize(
    ("state", "line"),
    [
        (ClusterState(1, 0, 0.0, 0.0, ()), "1 node, no GPUs, nothing pending"),
        (
            ClusterState(3, 2, 4.0, 1.0, (("CPU: 0.5, GPU: 1", 4),)),
            "3 nodes and 2 starting, 1 of 4 GPUs free, pending: 4 x {CPU: 0.5, GPU: 1}",
        ),
        (
            ClusterState(1, 0, 0.0, 0.0, tuple((f"GPU: {number}", 1) for number in range(1, 6))),
            "1 node, no GPUs, pending: 1 x {GPU: 1}, 1 x {GPU: 2}, 1 x {GPU: 3}, 2 more kinds",
        ),
    ],
)
def test_state_of_a_cluster_is_one_line(state: ClusterState, line: str) -> None:
    assert str(state) == line


def test_shape_of_a_demand_leaves_out_names_that_only_ray_gives() -> None:
    assert shape({"GPU": 1.0, "CPU": 0.5, "node:10.0.0.5": 0.001, "bundle_group_0123": 0.01}) == "CPU: 0.5, GPU: 1"
    assert shape({}) == "nothing"


def test_troubles_are_the_messages_of_what_cannot_be_done_each_once_and_printable() -> None:
    launch = "Failed to launch 2 node(s) of type gpu. (InsufficientInstanceCapacity)"
    found = troubles(["Resized to 2 CPUs.", INFEASIBLE, launch, INFEASIBLE, "\x1b[2Jfailed\nand again", "failed " + "x" * 999])
    assert found[:3] == [INFEASIBLE, launch, "\ufffd[2Jfailed and again"]
    assert len(found) == 4
    assert len(found[3]) == MOST_CHARACTERS


def test_waiting_line_tells_each_warning_of_the_autoscaler_once(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(demand, "cluster_state", lambda: ClusterState(1, 0, 0.0, 0.0, (("GPU: 4", 1),)))
    monkeypatch.setattr(demand, "autoscaler_warnings", lambda: [INFEASIBLE])
    line = WaitingLine(said.append)
    for _ in range(2):
        line.say("waiting for 4 GPUs")
    waits = "waiting for 4 GPUs; cluster: 1 node, no GPUs, pending: 1 x {GPU: 4}"
    assert said == [waits, f"the autoscaler says: {INFEASIBLE}", waits]


def test_waiting_line_without_a_cluster_that_answers_says_what_it_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(demand, "cluster_state", lambda: None)
    monkeypatch.setattr(demand, "autoscaler_warnings", list)
    WaitingLine(said.append).say("waiting")
    assert said == ["waiting"]
