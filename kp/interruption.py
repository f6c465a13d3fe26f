"""SIGINT and SIGTERM, answered within seconds whatever the process is doing.

Python runs a signal's handler only between two steps of its main thread, and whatever it raises there may be caught, or be followed by a
long farewell: Ray waits for its workers. So a thread learns of the signal, through the file descriptor that Python writes it to, gives the
main thread some time to leave properly, and then ends the process and its children. That is always safe, since a study that is killed at
any moment resumes; leaving properly is only tidier, as it removes leases and temporary files.
"""

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

GRACE_SECONDS = 2.5
ANSWERED = {signal.SIGINT: "interrupted", signal.SIGTERM: "ended by SIGTERM"}

ExitCode = int | str | None


class Signals:
    """The signals that this process has received, and what follows from them."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._children: list[Any] = []
        self._terminal = os.dup(2)  # as it is now: a study redirects what libraries print
        self._said = False

    def code_of(self, work: Callable[[], ExitCode]) -> ExitCode:
        """The exit code of some work: its own, or 128 and the number of the signal that ended it."""
        try:
            code = work()
        except KeyboardInterrupt:
            self.received = self.received or signal.SIGINT
        else:
            # Work that returns after an interrupt has answered it by itself, as `kp trials --watch` does.
            if self.received is None or (self.received is signal.SIGINT and code == 0):
                return code
        self._kill_children()
        self._say()
        return 128 + self.received

    def follow(self, pipe: int) -> None:
        """Wait for signals until a zero byte comes; run by a thread."""
        while number := os.read(pipe, 1)[0]:
            if number in ANSWERED:
                self.received = signal.Signals(number)
                self._children = _children()
                select.select([pipe], [], [], GRACE_SECONDS)  # a second signal ends the waiting
                self._kill_children()
                self._say()
                os._exit(128 + number)

    def close(self) -> None:
        """Forget the terminal."""
        os.close(self._terminal)

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """Raise KeyboardInterrupt; the handler of SIGINT in the main thread, which knows at once why whatever follows breaks."""
        self.received = signal.Signals(number)
        raise KeyboardInterrupt

    def leave(self, number: int, frame: FrameType | None) -> None:
        """Raise SystemExit; the handler of SIGTERM in the main thread."""
        self.received = signal.Signals(number)
        sys.exit(128 + number)

    def _say(self) -> None:
        assert self.received is not None
        if self._said:
            return
        self._said = True
        with contextlib.suppress(OSError):
            os.write(self._terminal, f"kp: {ANSWERED[self.received]}; the same command continues from here\n".encode())

    def _kill_children(self) -> None:
        import psutil

        for child in {*self._children, *_children()}:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()


@contextlib.contextmanager
def answering_signals() -> Iterator[Signals]:
    """Answer SIGINT and SIGTERM within the block; outside the main thread, which gets no signals, nothing is changed.

    Once a signal has come, the process ends within GRACE_SECONDS, whatever follows the block.
    """
    signals = Signals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        signals.close()
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    terminate, interrupt = signal.signal(signal.SIGTERM, signals.leave), signal.getsignal(signal.SIGINT)
    if interrupt is signal.default_int_handler:  # a process in the background may be told to ignore it
        signal.signal(signal.SIGINT, signals.interrupt)
    follower = threading.Thread(target=signals.follow, args=(reading,), daemon=True)
    follower.start()
    try:
        yield signals
    finally:
        if signals.received is None:
            signal.signal(signal.SIGTERM, terminate)
            signal.signal(signal.SIGINT, interrupt)
            signal.set_wakeup_fd(wakeup)
            os.write(writing, b"\0")
            follower.join()
            signals.close()
            os.close(reading)
            os.close(writing)


def _children() -> list[Any]:
    """All living descendants of this process."""
    import psutil

    return psutil.Process().children(recursive=True)
