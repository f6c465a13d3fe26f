"""An implementation that trains in its own process and waits there for its turns.

Training cannot be interrupted and resumed between epochs without changing what is measured. So it runs in one process from start to end,
and a pipe signals when to continue. The process is started by `kp.bench.measured`, which records its peak memory.
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
    """The process's end of the pipe: it reports `ready` once, and for every epoch waits for its turn and reports the epoch."""

    connection: Connection

    def ready(self, start: TrainStart) -> None:
        """Everything but the first epoch is done."""
        self.connection.send(start)

    def wait(self) -> None:
        """Wait for this implementation's turn; raises EOFError if the benchmark is cut short."""
        self.connection.recv()

    def report(self, epoch: TrainEpoch) -> None:
        """The turn is over."""
        self.connection.send(epoch)

    def finish(self) -> None:
        """Wait until the others have had their last turn, too: what a process does at its end takes seconds, which would be theirs."""
        self.wait()


class TrainingProcess(Generic[End]):
    """Work that trains an epoch whenever its Line says so; a context manager that ends its process."""

    def __init__(self, work: Callable[[TrialJob, Line], End], job: TrialJob) -> None:
        """Start the process and wait until it is ready; an error of the work is raised here, as by the other methods."""
        self._line, self._theirs = Pipe()  # keep a reference: it is only sent once the process has started
        self._thread = ThreadPoolExecutor(1)
        self._work = self._thread.submit(lambda: measured(work, job, Line(self._theirs)))
        try:
            self.start: TrainStart = self._receive()
        except BaseException:
            self._close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()

    def epoch(self) -> TrainEpoch:
        """Let it train its next epoch."""
        self._line.send(None)
        epoch: TrainEpoch = self._receive()
        return epoch

    def end(self) -> Measured[End]:
        """Let it end, and return what its work returns; only after the last turn of all implementations."""
        if not self._work.done():
            self._line.send(None)
        return self._work.result()

    def _receive(self) -> Any:
        while not self._line.poll(_LOOK_SECONDS):
            if self._work.done() and not self._line.poll():
                raise RuntimeError(f"a training process ended early, with {self._work.result().result!r}")
        return self._line.recv()

    def _close(self) -> None:
        self._line.close()
        self._thread.shutdown()
        self._theirs.close()
