"""One live driver holds a lease; one that lost it publishes nothing more."""

import errno
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kp.errors import UserError
from kp.store import leases
from kp.store.leases import LEASE, lease
from kp.store.steps import Step, Store

ELSEWHERE = {"host": "elsewhere", "pid": 1, "started": 0.0, "token": "t"}


def test_lease_held_by_this_process_keeps_a_second_holder_out(tmp_path: Path) -> None:
    refused = pytest.raises(UserError, match="step x is being worked on by process")
    with lease(tmp_path, "step x"), refused, lease(tmp_path, "step x"):
        pass


def test_lease_released_can_be_taken_again(tmp_path: Path) -> None:
    for _ in range(2):
        with lease(tmp_path, "step x"):
            assert (tmp_path / "lease.json").exists()
    assert not (tmp_path / "lease.json").exists()


def test_lease_that_a_full_disk_does_not_take_keeps_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(value: object, file: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr(leases.json, "dump", refuse)
        with pytest.raises(OSError, match="No space left"), lease(tmp_path, "step x"):
            pass
    with lease(tmp_path, "step x"):
        pass


def test_lease_of_a_process_that_was_killed_is_taken_over(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, sys; from kp.store import leases\n"
        "held = leases.lease(pathlib.Path(sys.argv[1]), 'x'); held.__enter__(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert (tmp_path / "lease.json").exists()
    with lease(tmp_path, "step x"):
        assert json.loads((tmp_path / "lease.json").read_text())["host"] == socket.gethostname()


def test_lease_of_another_host_with_a_fresh_heartbeat_is_respected(tmp_path: Path) -> None:
    (tmp_path / "lease.json").write_text(json.dumps({"host": "elsewhere", "pid": 1, "started": 0.0, "token": "t"}))
    with pytest.raises(UserError, match="process 1 on elsewhere"), lease(tmp_path, "step x"):
        pass


def test_lease_of_another_host_without_a_heartbeat_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "started": 0.0, "token": "t"}))
    long_ago = time.time() - 10 * leases.STALE_SECONDS
    os.utime(path, (long_ago, long_ago))
    with lease(tmp_path, "step x"):
        assert json.loads(path.read_text())["host"] == socket.gethostname()


def test_lease_of_another_host_is_respected_by_one_whose_clock_is_an_hour_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / LEASE).write_text(json.dumps(ELSEWHERE))
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 3600)
    with pytest.raises(UserError, match="process 1 on elsewhere"), lease(tmp_path, "step x"):
        pass


def take_over(folder: Path) -> None:
    """As another driver does that found the lease stale."""
    (folder / LEASE).write_text(json.dumps(ELSEWHERE))


def test_lease_that_was_taken_over_is_neither_renewed_nor_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "HEARTBEAT_SECONDS", 0.02)
    with lease(tmp_path, "step x") as held:
        held.check()
        take_over(tmp_path)
        os.utime(tmp_path / LEASE, (1000.0, 1000.0))
        time.sleep(0.2)
        assert (tmp_path / LEASE).stat().st_mtime == 1000.0
        with pytest.raises(UserError, match="step x was taken over by process 1 on elsewhere while this one did not respond"):
            held.check()
    assert json.loads((tmp_path / LEASE).read_text()) == ELSEWHERE


def test_lease_is_renewed_while_it_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "HEARTBEAT_SECONDS", 0.02)
    with lease(tmp_path, "step x"):
        os.utime(tmp_path / LEASE, (1000.0, 1000.0))
        time.sleep(0.2)
        assert (tmp_path / LEASE).stat().st_mtime > 1000.0


def test_step_whose_lease_was_lost_is_not_published(tmp_path: Path) -> None:
    store, step = Store(tmp_path), Step("facts", {})
    with store.working(step) as work:
        take_over(work)
        with pytest.raises(UserError, match="was taken over by process 1 on elsewhere"):
            store.commit(step, lambda folder: (folder / "data.txt").write_text("late"), seconds=1.0)
    assert not Store(tmp_path).is_done(step)
    assert (work / LEASE).exists()


def test_common_work_whose_lease_was_lost_is_left_to_its_new_holder(tmp_path: Path) -> None:
    chunk = tmp_path / "work" / "evaluate" / "mine" / "chunk"

    def work() -> None:
        with Store(tmp_path).working_on("evaluate", "mine") as folder:
            chunk.write_text("theirs")
            take_over(folder)

    with pytest.raises(UserError, match="evaluate of mine was taken over"):
        work()
    assert chunk.exists()


def test_holder_is_told_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: object) -> None:
        raise PermissionError(errno.EROFS, os.strerror(errno.EROFS))

    (tmp_path / LEASE).write_text(json.dumps(ELSEWHERE))
    monkeypatch.setattr(Path, "touch", refuse)
    assert leases.lease_holder(tmp_path) == ELSEWHERE
