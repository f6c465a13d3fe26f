"""A contestant that trains in a process of its own and waits there for its turns.

A training has a state that cannot be left and taken up again between epochs without changing what is measured, so it runs in one process
from beginning to end, and the line to it says when. The process is that of `kp.bench.measured`, which knows the most memory it has held.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Generic, Self, TypeVar

from kp.bench.measured import Measured, measured

_LOOK_SECONDS = 0.1

Start = TypeVar("Start")
Epoch = TypeVar("Epoch")
End = TypeVar("End")
Task = TypeVar("Task")


@dataclass(frozen=True)
class Line(Generic[Start, Epoch]):
    """The contestant's end, handed to its process: it says `ready` once, and for every epoch waits for its turn and tells of it."""

    connection: Connection

    def ready(self, start: Start) -> None:
        """Everything but the first epoch is done."""
        self.connection.send(start)

    def wait(self) -> None:
        """Until it is this contestant's turn; EOFError where the race is off."""
        self.connection.recv()

    def tell(self, epoch: Epoch) -> None:
        """The turn is over."""
        self.connection.send(epoch)


class Contestant(Generic[Start, Epoch, End]):
    """Work that is told over a Line when to train an epoch; a context, at the end of which its process is gone."""

    def __init__(self, work: Callable[[Task, "Line[Start, Epoch]"], End], task: Task) -> None:
        """Start the process and wait until it is ready; an error of the work is raised here, as by the other methods."""
        self._line, self._theirs = Pipe()  # theirs is kept: it is handed over when the process has come up, and not before
        self._thread = ThreadPoolExecutor(1)
        line: Line[Start, Epoch] = Line(self._theirs)
        self._work = self._thread.submit(measured, work, task, line)
        try:
            self.start: Start = self._hear()
        except BaseException:
            self._hang_up()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._hang_up()

    def epoch(self) -> Epoch:
        """Let it train its next epoch."""
        self._line.send(None)
        told: Epoch = self._hear()
        return told

    def end(self) -> Measured[End]:
        """What its work returns when all epochs are trained."""
        return self._work.result()

    def _hear(self) -> object:
        while not self._line.poll(_LOOK_SECONDS):
            if self._work.done() and not self._line.poll():
                raise RuntimeError(f"a contestant ended early, with {self._work.result().result!r}")
        return self._line.recv()

    def _hang_up(self) -> None:
        self._line.close()
        self._thread.shutdown()
        self._theirs.close()
