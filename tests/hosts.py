"""Hosts on this machine, each a network namespace with an address of its own, between which nothing but a bridge passes."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.conftest import clean_environment
from tests.ray_head import RAY, START_SECONDS, STORE, kill_all

PORT = 6379  # free on every host, as it is new
NOTICING_SOON = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "4",
    "RAY_grpc_client_keepalive_time_ms": "10000",
    "RAY_grpc_client_keepalive_timeout_ms": "10000",
}
"""Of Ray: with its defaults, a host that goes without a word counts as lost after a minute, and what was handed to it after seven."""

STARTED = "Ray runtime started"


@dataclass
class Host:
    """A network namespace, and the folder of what a host has for itself: HOME and Ray's files."""

    name: str
    address: str
    folder: Path
    processes: list[psutil.Popen] = field(default_factory=list)

    @property
    def prefix(self) -> tuple[str, ...]:
        """What a command begins with that runs there."""
        return "ip", "netns", "exec", self.name

    def start_ray(self, *options: str) -> None:
        """Run `ray start` there until the host is cut off, or the network ends; returns once it has started."""
        environment = clean_environment() | NOTICING_SOON | {"RAY_AUTH_MODE": "disabled", "HOME": str(self.folder)}
        command = [*self.prefix, str(RAY), "start", "--block", "--disable-usage-stats", f"--node-ip-address={self.address}"]
        command += [f"--object-store-memory={STORE}", f"--temp-dir={self.folder / 'ray'}", *options]
        log = self.folder / "ray.txt"
        with log.open("w", encoding="utf-8") as out:
            process = psutil.Popen(command, stdout=out, stderr=out, env=environment, cwd=self.folder)
        self.processes.append(process)
        deadline = time.monotonic() + START_SECONDS
        while STARTED not in log.read_text(encoding="utf-8"):
            text = log.read_text(encoding="utf-8")
            assert process.poll() is None, text
            assert time.monotonic() < deadline, text
            time.sleep(0.2)

    def below(self) -> list[psutil.Process]:
        """The processes that run there below `ray start`."""
        found: list[psutil.Process] = []
        for process in self.processes:
            with suppress(psutil.NoSuchProcess):
                found += process.children(recursive=True)
        return found

    def cut_off(self) -> None:
        """Take the link down, so that nobody hears of the end, and then end everything there."""
        ip("-n", self.name, "link", "set", "eth0", "down")
        self.end()

    def end(self) -> None:
        """End everything there."""
        kill_all([*self.processes, *self.below()])


def ip(*arguments: str) -> None:
    """Run `ip`; raises CalledProcessError if it fails."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


def why_no_hosts() -> str | None:
    """Why hosts cannot be made here; None if they can."""
    if sys.platform != "linux" or shutil.which("ip") is None:
        return "network namespaces need Linux and iproute2"
    name = f"kp{os.getpid()}"
    try:
        ip("netns", "add", name)
        ip("netns", "del", name)
    except subprocess.CalledProcessError as error:
        return f"network namespaces cannot be made here: {error.stderr.strip()}"
    return None


@contextmanager
def hosts(count: int) -> Iterator[list[Host]]:
    """So many hosts on one bridge."""
    bridge = f"kp{os.getpid()}"
    with ExitStack() as stack:
        ip("link", "add", bridge, "type", "bridge")
        stack.callback(ip, "link", "del", bridge)
        ip("link", "set", bridge, "up")
        made = [_added(stack, bridge, number) for number in range(1, count + 1)]
        yield made


def _added(stack: ExitStack, bridge: str, number: int) -> Host:
    folder = Path(tempfile.mkdtemp(prefix="kp-host-"))  # not in pytest's folder: a socket's path may have 107 characters
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    host = Host(f"{bridge}-{number}", f"10.77.0.{number}", folder)
    ip("netns", "add", host.name)
    stack.callback(ip, "netns", "del", host.name)
    ip("link", "add", f"{bridge}v{number}", "type", "veth", "peer", "name", "eth0", "netns", host.name)
    stack.callback(ip, "link", "del", f"{bridge}v{number}")  # a namespace lasts as long as connections that nobody answers
    ip("link", "set", f"{bridge}v{number}", "master", bridge)
    ip("link", "set", f"{bridge}v{number}", "up")
    ip("-n", host.name, "addr", "add", f"{host.address}/24", "dev", "eth0")
    for device in ("lo", "eth0"):
        ip("-n", host.name, "link", "set", device, "up")
    ip("-n", host.name, "route", "add", "default", "dev", "eth0")  # by the way to outside, processes learn their own address
    stack.callback(host.end)
    return host
