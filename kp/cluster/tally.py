"""A counter in the cluster, by which the driver's progress bar follows what actors do."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from kp.cluster.connection import on_this_node
from kp.cluster.demand import WaitingLine
from kp.cluster.metrics import Metric, record
from kp.progress import Bar

POLL_SECONDS = 1.0
QUIET_SECONDS = 60.0  # without an answer, after which a line tells what the cluster does


class _Count:
    def __init__(self) -> None:
        self.parts: dict[str, int] = {}

    def set(self, part: str, amount: int) -> None:
        self.parts[part] = amount

    def get(self) -> dict[str, int]:
        return self.parts


class Tally:
    """A counter in the cluster to which actors add and which the driver's bar follows; the cluster must have been joined."""

    def __init__(self, study: str, stage: str) -> None:
        import ray

        self._tags = {"study": study, "stage": stage}  # of the metric that tells how much is done
        assert ray.is_initialized(), "Ray would start a cluster by itself for the counter"
        options: dict[str, Any] = {"num_cpus": 0, "max_restarts": -1, "scheduling_strategy": on_this_node()}
        self._actor: Any = ray.remote(**options)(_Count).remote()
        self._known: dict[str, int] = {}  # kept here, too: an actor that died and was started again has forgotten its parts

    @contextmanager
    def counting(self, part: str) -> Iterator[Callable[[int], None]]:
        """Yields a function to call with each amount of work done; the sum is passed on once a second and at the end of the block.

        Work is counted by the name of its part: a part that is restarted because its actor died does not count twice.
        """
        done, said, reported = 0, 0, time.monotonic()

        def report() -> None:
            nonlocal said
            self._actor.set.remote(part, done)
            record(Metric.PROMPTS, done - said, **self._tags)
            said = done

        def count(amount: int) -> None:
            nonlocal done, reported
            done += amount
            if time.monotonic() - reported >= POLL_SECONDS:
                reported = time.monotonic()
                report()

        yield count
        report()

    def get(self) -> int:
        """The sum of all parts so far; what it was, while nobody can tell: a counter must not end what it counts."""
        import ray

        with suppress(ray.exceptions.RayError):
            self._known |= ray.get(self._actor.get.remote())
        return sum(self._known.values())

    @contextmanager
    def shown_on(self, bar: Bar, already: int, note: Callable[[str], None]) -> Iterator[None]:
        """Update `bar` about once a second with the count, on top of what was done `already` by an earlier run.

        While nothing is counted, `note` gets a line a minute on what the cluster does.
        """
        stop, line = threading.Event(), WaitingLine(note)

        def follow() -> None:
            done, changed, told = -1, time.monotonic(), time.monotonic()
            while not stop.wait(POLL_SECONDS):
                now, count = time.monotonic(), self.get()
                bar.update(already + count)
                if count != done:
                    done, changed, told = count, now, now
                elif now - told >= QUIET_SECONDS:
                    told = now
                    line.say(f"nothing was answered for {now - changed:.0f} s")

        bar.resume(already)
        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            bar.update(already + self.get())
