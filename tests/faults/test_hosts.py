"""Studies on hosts with addresses of their own: one trial on two of them, and one after the other cut off in each stage."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from tests.faults.test_killed_runs import committed_chunks
from tests.faults.test_killed_training import WORKER, assert_as_uninterrupted, is_training
from tests.hosts import NOTICING_SOON, PORT, Host, hosts, why_no_hosts
from tests.killing import RunningKp, running_kp
from tests.tiny_study import NAME

pytestmark = pytest.mark.slow

HEAD_CPUS = 1  # for Ray Data's own tasks: a worker needs a whole one, and drivers take a part of it


@pytest.fixture
def network() -> Iterator[list[Host]]:
    """The first has a head; the others have nothing yet."""
    if reason := why_no_hosts():
        pytest.skip(reason)
    with hosts(5) as made:
        made[0].start_ray("--head", f"--port={PORT}", f"--num-cpus={HEAD_CPUS}")
        yield made


def join(head: Host, host: Host, cpus: int = 4) -> None:
    """Let the host be a node of the head's cluster."""
    host.start_ray(f"--address={head.address}:{PORT}", f"--num-cpus={cpus}")


def where(run: RunningKp, title: str, network: list[Host]) -> list[Host]:
    """The hosts on which processes of this title run."""
    pids = {process.pid for process in run.processes(title)}
    return [host for host in network if pids & {process.pid for process in host.below()}]


def test_trial_whose_two_workers_sit_on_two_hosts_completes(network: list[Host], tiny_study: Path, tmp_path: Path) -> None:
    head, one, other, *_ = network
    for host in (one, other):
        join(head, host, cpus=1)
    overrides = ("search.arms=[{}]", "resources.workers_per_trial=2", "resources.concurrent_trials=1", "resources.generators=1")
    address = f"{head.address}:{PORT}"
    with running_kp(tmp_path, "study", tiny_study, *overrides, ray=address, prefix=head.prefix, settings=NOTICING_SOON) as run:
        run.wait_until(lambda: is_training(tmp_path, 0))
        assert len(where(run, WORKER, network)) == 2
        assert run.wait() == 0, run.output()
    trials = pl.read_parquet(tmp_path / NAME / "report" / "tables" / "trials.parquet")
    assert trials["status"].to_list() == ["completed"]


def test_study_goes_on_where_hosts_are_cut_off_in_each_stage(
    network: list[Host], tiny_study: Path, finished_tiny: Path, tmp_path: Path
) -> None:
    head, one, two, three, four = network
    join(head, one)
    join(head, two)
    two_each, address = ("resources.generators=2", "resources.concurrent_trials=2"), f"{head.address}:{PORT}"
    with running_kp(tmp_path, "study", tiny_study, *two_each, ray=address, prefix=head.prefix, settings=NOTICING_SOON) as run:
        run.wait_until(lambda: committed_chunks(tmp_path) >= 3)
        one.cut_off()
        run.wait_until(lambda: is_training(tmp_path, 0))
        join(head, three)
        two.cut_off()
        run.wait_until(lambda: bool(list(tmp_path.glob("store/answers/*/record.json"))))
        join(head, four)
        three.cut_off()
        assert run.wait() == 0, run.output()
    assert_as_uninterrupted(tmp_path, finished_tiny)
