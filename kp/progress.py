"""Progress for people: one bar per stage on a terminal, plain lines anywhere else.

Stages report how much is done; only this module decides how that looks, so the log file of a cluster job never has control characters.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column

from kp.errors import printable

PLAIN_LINE_SECONDS = 15.0


class Bar:
    """Progress of one stage; `resume` and `update` take the absolute amount done."""

    def __init__(self, total: int, unit: str) -> None:
        self.total = total
        self.unit = unit
        self.done = 0
        self._begun_with = 0
        self._first: tuple[float, int] | None = None  # when this run had done something, and how much

    def resume(self, done: int) -> None:
        """Start from what an earlier run has done, which does not count for the rate."""
        self._begun_with = done
        self.update(done)

    def update(self, done: int) -> None:
        """Set the amount done so far."""
        self.done = done
        if self._first is None and done > self._begun_with:
            self._first = time.monotonic(), done

    def rate(self) -> float:
        """Units per second since the first of this run were done: starting workers and loading models is no part of it; 0 until then."""
        if self._first is None:
            return 0.0
        began, done = self._first
        return (self.done - done) / max(time.monotonic() - began, 1e-9)

    def rate_text(self) -> str:
        """The rate as text."""
        rate = self.rate()
        return f"{rate:.1f} {self.unit}/s" if rate >= 1 or rate == 0 else f"{60 * rate:.1f} {self.unit}/min"

    def left_text(self) -> str:
        """The remaining time at this rate, as hours:minutes:seconds; empty while the rate is unknown."""
        rate = self.rate()
        return f"{timedelta(seconds=round((self.total - self.done) / rate))} left" if rate > 0 else ""


class _RichBar(Bar):
    def __init__(self, total: int, unit: str, progress: Progress, title: str) -> None:
        super().__init__(total, unit)
        self._progress = progress
        self._task = progress.add_task(title, total=total, rate="", left="")

    def update(self, done: int) -> None:
        super().update(done)
        self._progress.update(self._task, completed=done, rate=self.rate_text(), left=self.left_text())


class _PlainBar(Bar):
    def __init__(self, total: int, unit: str, console: Console, title: str) -> None:
        super().__init__(total, unit)
        self._console = console
        self._title = title
        self._said = time.monotonic()

    def resume(self, done: int) -> None:
        super().resume(done)
        if done:
            self._say(f"{done} of {self.total} {self.unit} already done, not redone")

    def update(self, done: int) -> None:
        super().update(done)
        if time.monotonic() - self._said >= PLAIN_LINE_SECONDS:
            self._said = time.monotonic()
            said = filter(None, [f"{self.done} of {self.total} {self.unit}", self.rate_text(), self.left_text()])
            self._say(", ".join(said))

    def _say(self, text: str) -> None:
        self._console.print(printable(f"{self._title}: {text}"), markup=False, soft_wrap=True)


class Display:
    """The console of one run; it keeps its own handle of the terminal, so that `quiet` can redirect everything else."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(file=os.fdopen(os.dup(1), "w", encoding="utf-8"), highlight=False, markup=False, emoji=False)

    @contextmanager
    def quiet(self, log_file: Path) -> Iterator[None]:
        """Within the block, redirect everything else that this process prints, C libraries included, to `log_file`."""
        sys.stdout.flush()
        sys.stderr.flush()
        kept = os.dup(1), os.dup(2)
        with log_file.open("a", encoding="utf-8") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for stream, own in enumerate(kept, start=1):
                os.dup2(own, stream)
                os.close(own)

    def line(self, text: str) -> None:
        """Print one line, above a running bar if there is one."""
        self.console.print(printable(text), markup=False, soft_wrap=True)

    @contextmanager
    def bar(self, title: str, total: int, unit: str) -> Iterator[Bar]:
        """A bar that exists within the block."""
        if not self.console.is_terminal:
            self.line(f"{title}: {total} {unit}")
            yield _PlainBar(total, unit, self.console, title)
            return
        columns = (
            TextColumn("{task.description:<10}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),  # on a narrow terminal only the bar shrinks
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
        )
        with Progress(*columns, console=self.console, refresh_per_second=2) as progress:
            yield _RichBar(total, unit, progress, title)
