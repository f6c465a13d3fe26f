"""A random process of a study is killed every few seconds until it ends, and its tables are compared with those of an undisturbed run.

    python -m tests.chaos --seed 1 --kills 20

Any process may be hit: the driver, which is then started again as a user would, Ray's own, a generator, a worker, the queue. A study that
ends before there were enough kills is followed by another in a new folder. The seed decides what is killed and when, as far as the machine
allows. Exits with 1 if a study does not end by itself, or ends with other tables.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.killing import RunningKp, process_title, running_kp
from tests.tables import report_tables
from tests.tiny_study import NAME, save_tiny_study

SEEDS = "search.seeds=[0,1,2]"  # nine trials, so that there is something to disturb
PAUSE = (2.0, 9.0)  # seconds between two kills
START = 20.0  # seconds that a study is left alone after its driver was started
MOST_SECONDS = 1800.0  # without an end
KILLED_DRIVER = "driver"


@dataclass
class Chaos:
    """What was killed so far."""

    dice: random.Random
    kills: Counter[str] = field(default_factory=Counter)
    starts: int = 0

    def disturb(self, run: RunningKp) -> None:
        """Kill processes of a running study until its driver ends."""
        self.starts += 1
        if _ends(run, START + self.dice.uniform(*PAUSE)):
            return
        while run.driver.poll() is None:
            victim = self.dice.choice([run.driver, *run.root.children(recursive=True)])
            title = KILLED_DRIVER if victim.pid == run.driver.pid else process_title(victim)
            try:
                victim.kill()
            except psutil.NoSuchProcess:
                continue
            self.kills[_short(title)] += 1
            if _ends(run, self.dice.uniform(*PAUSE)):
                return


def _ends(run: RunningKp, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if run.driver.poll() is not None:
            return True
        time.sleep(0.05)
    return False


def _short(title: str) -> str:
    """`ray::NAME` or the program of a command line."""
    words = title.split()
    return next((word for word in words if word.startswith("ray::")), Path(words[0]).name if words else "gone")


def run_to_the_end(chaos: Chaos, study: Path, root: Path) -> int:
    """Start the study again until it ends by itself; returns the last exit code."""
    root.mkdir()
    began = time.monotonic()
    while time.monotonic() - began < MOST_SECONDS:
        with running_kp(root, "study", study, SEEDS) as run:
            chaos.disturb(run)
            code = run.wait()
        if code in (0, 2, 3):  # 1 and signals are what a lost cluster or a killed driver leave
            return code
    print((root / "output.txt").read_text(encoding="utf-8")[-3000:])
    return 1


def differing(expected: Path, found: Path) -> list[str]:
    """The tables of two roots that are not equal."""
    ours, theirs = report_tables(found, NAME), report_tables(expected, NAME)
    return sorted({*ours.keys() ^ theirs.keys(), *(name for name in ours.keys() & theirs.keys() if not ours[name].equals(theirs[name]))})


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=20)
    asked = parser.parse_args(arguments)
    chaos = Chaos(random.Random(asked.seed))
    with tempfile.TemporaryDirectory(prefix="kp-chaos-") as folder:
        study = save_tiny_study(Path(folder))
        undisturbed = Path(folder) / "undisturbed"
        undisturbed.mkdir()
        began = time.monotonic()
        with running_kp(undisturbed, "study", study, SEEDS) as run:
            assert run.wait() == 0, run.output()
        print(f"undisturbed: {time.monotonic() - began:.0f} s")
        while chaos.kills.total() < asked.kills:
            root = Path(folder) / f"disturbed-{chaos.starts}"
            began, before, starts = time.monotonic(), chaos.kills.total(), chaos.starts
            code = run_to_the_end(chaos, study, root)
            wrong = differing(undisturbed, root) if code == 0 else []
            print(
                f"disturbed: {chaos.kills.total() - before} kills, {chaos.starts - starts} starts, {time.monotonic() - began:.0f} s, "
                f"exit code {code}, {len(wrong)} tables differ {wrong or ''}"
            )
            if code or wrong:
                print((root / "output.txt").read_text(encoding="utf-8")[-3000:])
                return 1
    print(f"{chaos.kills.total()} kills: {', '.join(f'{name} {count}' for name, count in chaos.kills.most_common())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
