"""A random process of a study is killed every few seconds until it ends, and its tables are compared with those of an undisturbed run.

    python -m tests.chaos --seed 1 --kills 20
    python -m tests.chaos --seed 1 --kills 20 --nodes 2
    python -m tests.chaos --seed 1 --kills 20 --nodes 2 --bucket

Any process may be hit: the driver, which is then started again as a user would, a generator, a worker, the queue, and Ray's own. On one
machine the study starts its own Ray, whose loss ends it; it too is then started again. With `--nodes` it joins a cluster whose head is
spared, as an on-demand machine is, and whose other nodes are not: where a raylet is killed, another node comes. With `--bucket` results are
in an S3 of this machine, each node has a folder of its own for copies, and a node that comes has an empty one. A study that ends before
enough kills were made is followed by another in a new folder. The seed decides what is killed and when, as far as the machine allows.
Exits with 1 if a study does not end by itself, or ends with other tables.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import psutil

from kp.store.bucket import CACHE_VARIABLE
from tests.conftest import RAY_SETTINGS, free_port
from tests.killing import RunningKp, process_title, running_kp
from tests.object_storage import BUCKET, ObjectStorage, object_storage
from tests.tables import bucket_tables, report_tables
from tests.tiny_study import NAME, save_tiny_study

SEEDS = "search.seeds=[0,1,2]"  # nine trials, so that there is something to disturb
PAUSE = (2.0, 9.0)  # seconds between two kills; twice as long after each kill since the last commit
MOST_DOUBLINGS = 4
START = 20.0  # seconds that a study is left alone after its driver was started
MOST_SECONDS = 1800.0  # without an end
STORE = 100 << 20  # bytes of a node's object store
NODE = {"num_cpus": 4, "object_store_memory": STORE}
ENDS = (0, 2, 3)  # exit codes of a study that ended by itself; 1 and signals are what a lost cluster or a killed driver leave


class Nodes:
    """A cluster of a head without CPUs and other nodes, all on this machine."""

    def __init__(self, count: int, folder: Path) -> None:
        from ray.cluster_utils import Cluster

        self._folder = folder
        ports = {name: free_port() for name in ("dashboard_port", "dashboard_agent_listen_port")}
        head = {"num_cpus": 0, "include_dashboard": True, "object_store_memory": STORE, **ports}
        self._cluster: Any = Cluster(initialize_head=True, head_node_args=head)
        self._head = self._processes()
        self._nodes = [self._come() for _ in range(count)]

    @property
    def address(self) -> str:
        """Of the cluster."""
        return str(self._cluster.address)

    def victims(self) -> list[psutil.Process]:
        """All processes of the nodes but the head's."""
        return [process for process in self._processes() if process not in self._head]

    def _processes(self) -> list[psutil.Process]:
        return psutil.Process().children(recursive=True)

    def replace_lost(self) -> int:
        """Let a node come for each whose raylet is dead; returns how many."""
        lost = [node for node in self._nodes if not any(kind == "raylet" for kind, _ in node.live_processes())]
        for node in lost:
            self._cluster.remove_node(node, allow_graceful=False)
            self._nodes.remove(node)
            self._nodes.append(self._come())
        return len(lost)

    def _come(self) -> Any:
        cache = tempfile.mkdtemp(prefix="node-", dir=self._folder)
        return self._cluster.add_node(**NODE, env_vars={CACHE_VARIABLE: cache})

    def end(self) -> None:
        """Stop all nodes."""
        self._cluster.shutdown()


@contextmanager
def cluster(nodes: int, folder: Path) -> Iterator[Nodes | None]:
    """So many nodes and a head, with what each keeps for itself below `folder`; None if a study is to start a Ray of its own."""
    if not nodes:
        yield None
        return
    os.environ |= {"RAY_AUTH_MODE": "disabled", **RAY_SETTINGS}
    made = Nodes(nodes, folder)
    try:
        yield made
    finally:
        made.end()


@dataclass(frozen=True)
class Results:
    """Those of one run: in a folder, or below a key of a bucket; the folder has the log in either case."""

    folder: Path
    storage: ObjectStorage | None

    @property
    def url(self) -> str | None:
        """What `--results` names; None for the folder."""
        return f"s3://{BUCKET}/{self.folder.name}" if self.storage else None

    @property
    def tables(self) -> dict[str, pl.DataFrame]:
        """Those of the report."""
        return bucket_tables(self.storage, self.folder.name, NAME) if self.storage else report_tables(self.folder, NAME)

    @property
    def output(self) -> str:
        """The last of what was printed."""
        return (self.folder / "output.txt").read_text(encoding="utf-8")[-3000:]

    def committed(self) -> set[str]:
        """The files by which a study says that something is done: records, checkpoints, chunks."""
        if self.storage:
            keys = self.storage.stored(f"{self.folder.name}/")
            return {key for key in keys if key.endswith(("/record.json", ".parquet")) or key.split("/")[-2] == "epochs"}
        found = (path for name in ("record.json", "progress.json", "*.parquet") for path in self.folder.rglob(name))
        return {str(path) for path in found if "unfinished" not in path.parts}


@dataclass
class Chaos:
    """What was killed so far."""

    dice: random.Random
    nodes: Nodes | None
    storage: ObjectStorage | None
    caches: Path  # where a driver keeps copies of what is in a bucket
    kills: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    barren: int = 0  # kills in a row between which nothing was committed
    nodes_lost: int = 0

    @contextmanager
    def running(self, study: Path, results: Results) -> Iterator[RunningKp]:
        """A run of the study on its way."""
        address, settings = self.nodes.address if self.nodes else None, {CACHE_VARIABLE: str(self.caches)}
        with running_kp(results.folder, "study", study, SEEDS, ray=address, results=results.url, settings=settings) as run:
            yield run

    def disturb(self, run: RunningKp, results: Results) -> None:
        """Kill processes of a running study until its driver ends."""
        self.starts += 1
        committed = results.committed()
        if _ends(run, START + self._pause()):
            return
        while run.driver.poll() is None:
            before, committed = committed, results.committed()
            self.barren = 0 if committed - before else self.barren + 1
            victim = self.dice.choice(self._victims(run))
            title = "driver" if victim.pid == run.driver.pid else process_title(victim)
            try:
                victim.kill()
            except psutil.NoSuchProcess:
                continue
            self.kills[_short(title)] += 1
            ended = _ends(run, self._pause())
            self.nodes_lost += self.nodes.replace_lost() if self.nodes else 0
            if ended:
                return

    def _pause(self) -> float:
        """Seconds until the next kill: what is killed faster than it can start commits nothing, whoever wrote it."""
        return self.dice.uniform(*PAUSE) * 2 ** min(self.barren, MOST_DOUBLINGS)

    def _victims(self, run: RunningKp) -> list[psutil.Process]:
        if self.nodes is None:
            return [run.driver, *run.root.children(recursive=True)]
        return self.nodes.victims()  # the driver among them, as a child of this process


def _ends(run: RunningKp, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if run.driver.poll() is not None:
            return True
        time.sleep(0.05)
    return False


def _short(title: str) -> str:
    """`ray::NAME`, the module or the program of a command line."""
    words = title.split()
    named = (word for word in words if word.startswith("ray::"))
    module = (Path(word).name for word in words[1:] if word.endswith(".py"))
    return next(named, None) or next(module, None) or (Path(words[0]).name if words else "gone")


def run_to_the_end(chaos: Chaos, study: Path, results: Results) -> int:
    """Start the study again until it ends by itself; returns the last exit code."""
    results.folder.mkdir()
    began = time.monotonic()
    while time.monotonic() - began < MOST_SECONDS:
        with chaos.running(study, results) as run:
            chaos.disturb(run, results)
            code = run.wait()
        if code in ENDS:
            return code
    print(results.output)
    return 1


def differing(expected: Results, found: Results) -> list[str]:
    """The tables of two runs that are not equal."""
    ours, theirs = found.tables, expected.tables
    return sorted({*ours.keys() ^ theirs.keys(), *(name for name in ours.keys() & theirs.keys() if not ours[name].equals(theirs[name]))})


def compare(chaos: Chaos, most: int, folder: Path) -> bool:
    """Run the study in peace, and then disturbed until there were so many kills; whether all tables are equal."""
    study, undisturbed = save_tiny_study(folder), Results(folder / "undisturbed", chaos.storage)
    undisturbed.folder.mkdir()
    began = time.monotonic()
    with chaos.running(study, undisturbed) as run:
        assert run.wait() == 0, run.output()
    print(f"undisturbed: {time.monotonic() - began:.0f} s", flush=True)
    while chaos.kills.total() < most:
        results = Results(folder / f"disturbed-{chaos.starts}", chaos.storage)
        began, before, starts, lost = time.monotonic(), chaos.kills.total(), chaos.starts, chaos.nodes_lost
        code = run_to_the_end(chaos, study, results)
        wrong = differing(undisturbed, results) if code == 0 else []
        print(
            f"disturbed: {chaos.kills.total() - before} kills, {chaos.nodes_lost - lost} nodes lost, {chaos.starts - starts} starts, "
            f"{time.monotonic() - began:.0f} s, exit code {code}, {len(wrong)} of {len(undisturbed.tables)} tables differ {wrong or ''}",
            flush=True,
        )
        if code or wrong:
            print(results.output)
            return False
    print(f"{chaos.kills.total()} kills: {', '.join(f'{name} {count}' for name, count in chaos.kills.most_common())}")
    return True


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--nodes", type=int, default=0, help="nodes of a cluster that the study joins; 0: it starts its own Ray")
    parser.add_argument("--bucket", action="store_true", help="keep results in an S3 that this process serves")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="kp-chaos-") as made, object_storage() if asked.bucket else nullcontext() as storage:
        folder = Path(made)
        with cluster(asked.nodes, folder) as nodes:
            chaos = Chaos(random.Random(asked.seed), nodes, storage, folder / "driver")
            return 0 if compare(chaos, asked.kills, folder) else 1


if __name__ == "__main__":
    sys.exit(main())
