"""Files appear whole or not at all; one live driver holds a lease."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from kp.errors import UserError
from kp.store import files


def test_digest_json_same_value_in_another_key_order_is_the_same() -> None:
    assert files.digest_json({"a": 1, "b": [1, 2]}) == files.digest_json({"b": [1, 2], "a": 1})


def test_digest_json_a_value_that_json_cannot_say_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        files.digest_json(float("nan"))


def test_read_json_half_a_file_is_none(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text('{"fingerprint": "ab')
    assert files.read_json(path) is None


def test_staging_an_error_on_the_way_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with files.staging(tmp_path / "final") as staged:
            (staged / "half").write_text("1")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_link_replaces_an_older_link(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        files.link(tmp_path / "latest", tmp_path / name)
    assert (tmp_path / "latest").resolve() == tmp_path / "new"


def test_results_root_an_object_store_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="--results: s3:/"):
        files.results_root(Path("s3://bucket/kp"))


def test_results_root_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be made"):
        files.results_root(tmp_path / "file" / "runs")


def test_lease_held_by_this_process_keeps_a_second_holder_out(tmp_path: Path) -> None:
    refused = pytest.raises(UserError, match="step x is being worked on by process")
    with files.lease(tmp_path, "step x"), refused, files.lease(tmp_path, "step x"):
        pass


def test_lease_released_can_be_taken_again(tmp_path: Path) -> None:
    for _ in range(2):
        with files.lease(tmp_path, "step x"):
            assert (tmp_path / "lease.json").exists()
    assert not (tmp_path / "lease.json").exists()


def test_lease_of_a_process_that_was_killed_is_taken_over(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, sys; from kp.store import files\n"
        "held = files.lease(pathlib.Path(sys.argv[1]), 'x'); held.__enter__(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert (tmp_path / "lease.json").exists()
    with files.lease(tmp_path, "step x"):
        assert json.loads((tmp_path / "lease.json").read_text())["host"] == socket.gethostname()


def test_lease_of_another_host_with_a_fresh_heartbeat_is_respected(tmp_path: Path) -> None:
    (tmp_path / "lease.json").write_text(json.dumps({"host": "elsewhere", "pid": 1, "started": 0.0, "token": "t"}))
    with pytest.raises(UserError, match="process 1 on elsewhere"), files.lease(tmp_path, "step x"):
        pass


def test_lease_of_another_host_without_a_heartbeat_is_taken_over(tmp_path: Path) -> None:
    import os
    import time

    path = tmp_path / "lease.json"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "started": 0.0, "token": "t"}))
    long_ago = time.time() - 10 * files.STALE_SECONDS
    os.utime(path, (long_ago, long_ago))
    with files.lease(tmp_path, "step x"):
        assert json.loads(path.read_text())["host"] == socket.gethostname()
