"""An implementation that trains in a process of its own and waits there for its turns.

A training has a state that cannot be left and taken up again between epochs without changing what is measured, so it runs in one process
from beginning to end, and the line to it says when. The process is that of `kp.bench.measured`, which knows the most memory it has held.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from kp.bench.measured import Measured, measured
from kp.bench.train_trial import TrainEpoch, TrainStart
from kp.training.job import TrialJob

_LOOK_SECONDS = 0.1

End = TypeVar("End")


@dataclass(frozen=True)
class Line:
    """The implementation's end, handed to its process: it says `ready` once, and for every epoch waits for its turn and tells of it."""

    connection: Connection

    def ready(self, start: TrainStart) -> None:
        """Everything but the first epoch is done."""
        self.connection.send(start)

    def wait(self) -> None:
        """Until it is this implementation's turn; EOFError where the benchmark is cut short."""
        self.connection.recv()

    def report(self, epoch: TrainEpoch) -> None:
        """The turn is over."""
        self.connection.send(epoch)


class TrainingProcess(Generic[End]):
    """Work that is told over a Line when to train an epoch; a context, at the end of which its process is gone."""

    def __init__(self, work: Callable[[TrialJob, Line], End], job: TrialJob) -> None:
        """Start the process and wait until it is ready; an error of the work is raised here, as by the other methods."""
        self._line, self._theirs = Pipe()  # theirs is kept: it is handed over when the process has come up, and not before
        self._thread = ThreadPoolExecutor(1)
        self._work = self._thread.submit(lambda: measured(work, job, Line(self._theirs)))
        try:
            self.start: TrainStart = self._hear()
        except BaseException:
            self._hang_up()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._hang_up()

    def epoch(self) -> TrainEpoch:
        """Let it train its next epoch."""
        self._line.send(None)
        told: TrainEpoch = self._hear()
        return told

    def end(self) -> Measured[End]:
        """What its work returns when all epochs are trained."""
        return self._work.result()

    def _hear(self) -> Any:
        while not self._line.poll(_LOOK_SECONDS):
            if self._work.done() and not self._line.poll():
                raise RuntimeError(f"a training process ended early, with {self._work.result().result!r}")
        return self._line.recv()

    def _hang_up(self) -> None:
        self._line.close()
        self._thread.shutdown()
        self._theirs.close()
