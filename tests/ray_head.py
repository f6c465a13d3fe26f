"""A Ray cluster as its documentation starts it, by `ray start --head`, with ports, a folder and a token of its own."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.conftest import REPOSITORY, Done, clean_environment, free_port
from tests.killing import process_title

START_SECONDS = 120.0
END_SECONDS = 30.0
JOB_SECONDS = 600.0
STORE = 100 << 20  # bytes of Ray's object store
NODES_OWN = ("IDLE", "DashboardAgent", "RuntimeEnvAgent")  # processes that a node has without a job
RAY_DATAS = ("ActorLocationTracker", "_StatsActor", "_UsageCollectionActor", "_AutoscalingCoordinatorActor")
"""Actors that Ray Data starts once in a cluster, for all its jobs, and that outlive them."""
RAY = Path(sys.executable).with_name("ray")


@dataclass(frozen=True)
class RunningHead:
    """A head that `ray start --head --block` holds, and what its shells have in their environment."""

    process: psutil.Popen
    address: str  # of its GCS
    dashboard: str
    environment: Mapping[str, str]
    log: Path

    def ray(self, *arguments: str | Path, seconds: float = JOB_SECONDS) -> Done:
        """Run `ray` to its end, in the repository, as a user's shell does."""
        command = [str(RAY), *map(str, arguments)]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, check=False, env=dict(self.environment), cwd=REPOSITORY
        )

    def job(self, *arguments: str | Path) -> Done:
        """Run `ray job` with these arguments, at this head."""
        verb, *rest = arguments
        return self.ray("job", verb, "--address", self.dashboard, *rest)

    def working(self) -> list[str]:
        """The titles of the processes that do something for a job: its entry point, its tasks and its actors."""
        titles = [process_title(process).strip() for process in self.process.children(recursive=True)]
        of_ray = [f"ray::{name}" for name in (*NODES_OWN, *RAY_DATAS)]
        return [title for title in titles if "ray_jobs/" in title or (title.startswith("ray::") and title.split(".")[0] not in of_ray)]

    def actors(self) -> list[str]:
        """The classes of the living actors that belong to a job, and not to the cluster."""
        done = self.ray("list", "actors", "--address", self.dashboard, "--filter", "state=ALIVE", "--detail", "--format", "json")
        assert done.returncode == 0, done.stdout + done.stderr
        return [actor["class_name"] for actor in json.loads(done.stdout) if not actor["is_detached"]]

    def kill(self) -> None:
        """End all its processes with SIGKILL, as a machine does that goes."""
        if self.process.poll() is None:
            kill_all([self.process, *self.process.children(recursive=True)])


def kill_all(processes: Sequence[psutil.Process]) -> None:
    """End these with SIGKILL; those that have ended already are passed over."""
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(processes, timeout=END_SECONDS)


@contextmanager
def running_head(*options: str, cpus: int = 4, port: int | None = None, **settings: str) -> Iterator[RunningHead]:
    """Start a head, with these options of `ray start` and in an environment with these settings; ended by its process's id."""
    # Not in pytest's folder: the path of a socket in it may have no more than 107 characters.
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="kp-head-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        environment = clean_environment() | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(folder / "token")} | settings
        environment["PATH"] = f"{RAY.parent}{os.pathsep}{environment['PATH']}"
        (folder / "token").write_text("0123456789abcdef" * 4, encoding="utf-8")
        port, dashboard, agent = port or free_port(), free_port(), free_port()
        command = [str(RAY), "start", "--head", "--block", "--disable-usage-stats", f"--num-cpus={cpus}", "--node-ip-address=127.0.0.1"]
        command += [f"--port={port}", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"]
        command += [f"--ray-client-server-port={free_port()}", "--min-worker-port=0", "--max-worker-port=0"]
        command += [f"--object-store-memory={STORE}", f"--temp-dir={folder / 'ray'}", *options]
        log = folder / "head.txt"
        with log.open("w", encoding="utf-8") as out:
            process = psutil.Popen(command, stdout=out, stderr=out, env=environment, cwd=folder)
        head = RunningHead(process, f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}", environment, log)
        try:
            _wait_until_it_answers(head)
            yield head
        finally:
            head.kill()  # by SIGTERM it would drain its node for half a minute, because of Ray Data's own actors


def _wait_until_it_answers(head: RunningHead) -> None:
    deadline = time.monotonic() + START_SECONDS
    while head.ray("job", "list", "--address", head.dashboard, seconds=START_SECONDS).returncode:
        text = head.log.read_text(encoding="utf-8")
        assert head.process.poll() is None, text
        assert time.monotonic() < deadline, text
        time.sleep(0.5)
