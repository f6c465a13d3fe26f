"""kp's engine as a study runs it on a CPU: several processes, each with its own model and threads.

A pass of a small model is hundreds of small operations, and threads that share an operation wait for each other at every one. Processes
share nothing and do not wait, so a study has one generator per core or few cores; the benchmark measures what a study does. Prefill is also
measured in the same processes, so that kp is compared with what the machine can do in this arrangement.
"""

import dataclasses
import multiprocessing
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

import torch

from kp.bench.implementations import KpImplementation, Peer, Turn, total
from kp.bench.options import CategoriseOptions
from kp.bench.rates import Prefill
from kp.bench.subject import load_subject
from kp.bench.timing import timed
from kp.prompts import Messages

_STOP_SECONDS = 30


class PoolImplementation:
    """Several processes with an engine each; a context manager that ends them. Questions are distributed round-robin."""

    peer = Peer.KP

    def __init__(self, options: CategoriseOptions, count: int, token_ids: Sequence[list[int]]) -> None:
        """`count` processes; `token_ids` are the prompts on which they measure prefill."""
        threads = max(1, options.cpu_threads // count)
        self.way = f"{KpImplementation.way}; {count} processes of {threads} thread{'s' if threads > 1 else ''}"
        with ExitStack() as started:  # if one process fails to start, those already started are ended
            portions = (token_ids[place::count] for place in range(count))
            self._workers = [started.enter_context(Worker(_serve, options, threads, portion)) for portion in portions]
            self._all("ready", [[]] * count)
            self._running = started.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._running.close()

    def warm_up(self, chats: Sequence[Messages]) -> None:
        """Answer a few chats, untimed."""
        self._all("warm_up", self._dealt(chats))

    def answer(self, chats: Sequence[Messages]) -> Turn:
        """Answer these chats from scratch; the seconds include the transfer to the processes and back."""
        turns, seconds = timed(torch.device("cpu"), lambda: self._all("answer", self._dealt(chats)))
        texts = [""] * len(chats)
        for place, turn in enumerate(turns):
            texts[place :: len(turns)] = turn.texts
        return Turn(texts, seconds, total([turn.work for turn in turns]))

    def prefill(self) -> float:
        """Tokens per second of the model's own prefill, in all processes at once."""
        return sum(self._all("prefill", [[]] * len(self._workers)))

    def _dealt(self, chats: Sequence[Messages]) -> list[Sequence[Messages]]:
        return [chats[place :: len(self._workers)] for place in range(len(self._workers))]

    def _all(self, verb: str, portions: Sequence[Sequence[Messages]]) -> list[Any]:
        for worker, portion in zip(self._workers, portions, strict=True):
            worker.connection.send((verb, portion))
        return [worker.reply() for worker in self._workers]


class Worker:
    """A process that runs `serve` with its end of a pipe and these arguments; a context manager that ends it by closing the pipe."""

    def __init__(self, serve: Callable[..., None], *arguments: object) -> None:
        spawning = multiprocessing.get_context("spawn")  # a forked child would hang in the threads that torch has started
        self.connection, theirs = spawning.Pipe()
        self._process = spawning.Process(target=serve, args=(theirs, *arguments), daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.connection.close()
        self._process.join(_STOP_SECONDS)
        if self._process.is_alive():
            self._process.terminate()

    def reply(self) -> Any:
        """What the process sends next; raises RuntimeError if it has ended."""
        try:
            return self.connection.recv()
        except EOFError:
            self._process.join()
            raise RuntimeError(f"a process of kp's pool ended with {self._process.exitcode}; what it said stands above") from None


def _serve(connection: Connection, options: CategoriseOptions, threads: int, token_ids: Sequence[list[int]]) -> None:
    torch.set_num_threads(threads)
    subject = load_subject(dataclasses.replace(options, device="cpu"), options.dtype)
    engine = KpImplementation(subject, options.max_new_tokens, options.batch_size)
    reference = Prefill(subject, token_ids)
    verbs: dict[str, Callable[[Sequence[Messages]], Any]] = {
        "ready": lambda _: None,
        "warm_up": engine.warm_up,
        "answer": engine.answer,
        "prefill": lambda _: reference.measure(),
    }
    while True:
        try:
            verb, chats = connection.recv()
        except EOFError:
            return
        connection.send(verbs[verb](chats))
