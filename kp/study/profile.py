"""Where the wall time of a run of a study went.

Actors work at the same time, so their seconds cannot be added to a share of wall time. What is told of an activity is the *union* of the
times in which at least one process was at it: two generators that are busy for the same ten seconds count as ten. Computing is the union of
generation, training (with the evaluation after each epoch) and scoring; the overhead of orchestration is the wall time in which nothing
computed. The start of Ray and of processes, the loading of models, the set-up of trials, checkpoints, and what the driver does alone
(facts, tables, the report) are all overhead. Work that a fault made void was never committed, so it is overhead, too.

Times are those of the nodes' clocks, and only what lies within the run counts: what an earlier run has done costs this one nothing.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from kp.store.steps import covered_seconds
from kp.vocabulary import Activity

Span = tuple[float, float]  # began and ended, in seconds since 1970

COMPUTING = (Activity.GENERATION, Activity.TRAINING, Activity.SCORING)
"""What a study is there for; the evaluation of epochs lies within training."""
KNOWN_OVERHEAD = (Activity.STARTING_RAY, Activity.LOADING, Activity.SETUP)
START, LEAVING = "start", "leaving Ray"
LEAST_SHOWN = 0.5  # seconds of a part that the table shows


class Profile:
    """Notes what was done when; `enter` divides the run into parts, one after another."""

    def __init__(self, began: float | None = None) -> None:
        self._parts: list[tuple[str, float]] = [(START, time.time() if began is None else began)]
        self._spans: defaultdict[Activity, list[Span]] = defaultdict(list)

    def enter(self, part: str) -> None:
        """The part before ends and this one begins."""
        self._parts.append((part, time.time()))

    def add(self, activity: Activity, spans: Iterable[Sequence[float]]) -> None:
        """Times in which one process was at it; those of several may overlap, and some may lie before the run."""
        self._spans[activity] += [(began, ended) for began, ended in spans]

    @contextmanager
    def doing(self, activity: Activity) -> Iterator[None]:
        """This process is at it within the block."""
        began = time.time()
        yield
        self.add(activity, [(began, time.time())])

    def summary(self, ended: float | None = None) -> "Summary":
        """What is known if the run has ended then, or now."""
        ended = time.time() if ended is None else ended
        ends = [began for _, began in self._parts[1:]] + [ended]
        parts = [self._time(name, began, end) for (name, began), end in zip(self._parts, ends, strict=True)]
        return Summary(self._time("all", self._parts[0][1], ended), tuple(parts))

    def _time(self, name: str, began: float, ended: float) -> "PartTime":
        def covered(*activities: Activity) -> float:
            spans = [span for activity in activities for span in self._spans[activity]]
            return covered_seconds((max(began, start), min(ended, end)) for start, end in spans if start < ended and end > began)

        computing = covered(*COMPUTING)
        known = {activity: covered(*COMPUTING, activity) - computing for activity in KNOWN_OVERHEAD}
        return PartTime(name, ended - began, {activity: covered(activity) for activity in Activity}, computing, known)


@dataclass(frozen=True)
class PartTime:
    """A part of a run: wall seconds, those covered by each activity and by computing, and what is known of the rest."""

    name: str
    wall: float
    seconds: dict[Activity, float]
    computing: float
    known: dict[Activity, float]  # of the overhead, by what at least one process was at meanwhile

    @property
    def overhead(self) -> float:
        """Seconds in which nothing computed."""
        return max(0.0, self.wall - self.computing)

    @property
    def share(self) -> float:
        """The overhead as a share of wall time."""
        return self.overhead / self.wall if self.wall > 0 else 0.0

    def record(self) -> dict[str, Any]:
        """Plain JSON, in seconds."""
        rounded = {activity.value: round(seconds, 2) for activity, seconds in self.seconds.items() if activity not in KNOWN_OVERHEAD}
        known = {activity.value: round(seconds, 2) for activity, seconds in self.known.items()}
        measured = {"wall": round(self.wall, 2), **rounded, "computing": round(self.computing, 2), "overhead": round(self.overhead, 2)}
        return {"name": self.name, **measured, "overhead_share": round(self.share, 4), "of_overhead": known}


@dataclass(frozen=True)
class Summary:
    """Where the time of a run went, in all and by its parts in order."""

    all: PartTime
    parts: tuple[PartTime, ...]

    def record(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"all": self.all.record(), "parts": [part.record() for part in self.parts]}

    def table(self) -> Table:
        """Seconds by part; parts of no length are left out."""
        table = Table(title="where the time went (seconds)", title_justify="left")
        table.add_column("part")
        for title in ("wall", *(activity.value for activity in COMPUTING), "overhead"):
            table.add_column(title, justify="right", no_wrap=True)
        for part in (*(part for part in self.parts if part.wall >= LEAST_SHOWN), self.all):
            seconds = (part.wall, *(part.seconds[activity] for activity in COMPUTING), part.overhead)
            table.add_row(part.name, *(f"{one:,.1f}" for one in seconds))
        return table

    def lines(self) -> list[str]:
        """The overhead in words, and what is known of it."""
        if not self.all.computing:
            return [f"profile: {self.all.wall:.1f} s, in which nothing was generated, trained or scored"]
        lines = [
            f"profile: overhead {self.all.overhead:.1f} of {self.all.wall:.1f} s ({self.all.share:.1%}), in which nothing was generated, "
            "trained or scored"
        ]
        known = [f"{activity.value} {self.all.known[activity]:.1f} s" for activity in KNOWN_OVERHEAD if self.all.known[activity]]
        lines += [f"profile: of this {', '.join(known)}"] if known else []
        evaluation = self.all.seconds[Activity.EVALUATION]
        return [*lines, f"profile: training includes {evaluation:.1f} s of evaluation"] if evaluation else lines
