"""Two ways to evaluate adapters: kp's actors, and one process per adapter.

Both run kp's engine, as many processes at once as a study has actors, and both begin with nothing: what is timed begins with the start of
the processes. kp's actors are those of the pipeline, in the order of the pipeline; only Ray, which passes chunks to them, is left out. They
load the base once and exchange adapters. In the other way each process loads the base and one adapter, answers everything, and ends.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import Any

import pyarrow as pa
import torch

from kp.bench.evaluate_work import Line
from kp.bench.implementations import difference
from kp.bench.options import EvaluateOptions
from kp.bench.pool import Worker
from kp.bench.rates import Prefill
from kp.bench.subject import Subject, load_subject
from kp.bench.timing import wait_for
from kp.generation.decoding import Work
from kp.generation.hf import HFGenerator
from kp.inference.evaluation import Evaluation
from kp.inference.shared_generator import SharedGenerator

KP = "actors of the pipeline: each loads the base once and exchanges adapters"
PEER = "one process per adapter, each of which loads the base, with kp's engine"


@dataclass(frozen=True)
class Answered:
    """A chunk's ANSWERS, the adapter that gave them, the seconds that it took an actor, and what the model read."""

    adapter: str
    answers: pa.Table
    seconds: float
    work: Work


@dataclass(frozen=True)
class Turn:
    """One evaluation of a line: the chunks, the seconds from the first start of a process to the last chunk, and those until the first
    processes were ready. `busy` are the seconds of all processes without their start, `kept_bytes` what an actor kept of lower layers."""

    chunks: Sequence[Answered]
    seconds: float
    start_seconds: float
    kept_bytes: int

    @property
    def busy(self) -> float:
        """Seconds of all actors together in which they answered."""
        return sum(chunk.seconds for chunk in self.chunks)


def kp_evaluates(options: EvaluateOptions, line: Line, processes: int, token_ids: Sequence[list[int]]) -> tuple[Turn, float]:
    """A turn of kp, and the tokens per second of the model's own prefill in these processes at once, measured before (0 if there are no
    prompts for that)."""
    chunks = line.evaluation.chunks(processes)
    waiting = list(reversed(chunks))
    answered: list[Answered] = []
    began = time.monotonic()
    with ExitStack() as stack:
        actors = [stack.enter_context(Worker(_serve, options, _threads(options, processes), line.evaluation)) for _ in range(processes)]
        for actor in actors:
            actor.reply()
        ready = time.monotonic()
        prefill = _prefill(actors, token_ids)
        resumed = time.monotonic()
        busy = {actor.connection: actor for actor in actors}
        for actor in actors[: len(waiting)]:
            actor.connection.send(("answer", waiting.pop()))
        while len(answered) < len(chunks):
            for actor in _replying(busy):
                answered.append(actor.reply())
                if waiting:
                    actor.connection.send(("answer", waiting.pop()))
                else:
                    del busy[actor.connection]
        ended = time.monotonic()
        kept = max(_asked(actor, "kept") for actor in actors)
    return Turn(answered, ended - resumed + ready - began, ready - began, kept), prefill


def peer_evaluates(options: EvaluateOptions, line: Line, processes: int) -> Turn:
    """A turn of the other way."""
    waiting = [line.alone(measuring) for measuring in reversed(line.evaluation.measurings)]
    answered: list[Answered] = []
    began = time.monotonic()
    starts: list[float] = []
    running: dict[Connection, tuple[Worker, list[dict[str, Any]], float]] = {}
    with ExitStack() as stack:

        def start() -> None:
            evaluation = waiting.pop()
            worker = stack.enter_context(Worker(_serve, options, _threads(options, processes), evaluation))
            running[worker.connection] = worker, list(reversed(evaluation.chunks(actors=1))), time.monotonic()

        for _ in range(min(processes, len(waiting))):
            start()
        while running:
            for worker in _replying({connection: worker for connection, (worker, _, _) in running.items()}):
                _, left, since = running[worker.connection]
                if isinstance(reply := worker.reply(), Answered):
                    answered.append(reply)
                else:
                    starts.append(time.monotonic() - since)
                if left:
                    worker.connection.send(("answer", left.pop()))
                    continue
                del running[worker.connection]
                worker.__exit__(None, None, None)
                if waiting:
                    start()
        ended = time.monotonic()
    return Turn(answered, ended - began, sum(starts) / len(starts), 0)


def _replying(workers: Mapping[Connection, Worker]) -> list[Worker]:
    """Wait until some of these processes have something to say; these."""
    ready = wait(list(workers))
    return [worker for connection, worker in workers.items() if connection in ready]


def _threads(options: EvaluateOptions, processes: int) -> int:
    return max(1, options.cpu_threads // processes)


def _asked(worker: Worker, verb: str, content: Any = None) -> Any:
    worker.connection.send((verb, content))
    return worker.reply()


def _prefill(actors: Sequence[Worker], token_ids: Sequence[list[int]]) -> float:
    if not token_ids:
        return 0.0
    for verb in ("prepare", "prefill"):  # all at once, each time
        for actor in actors:
            actor.connection.send((verb, token_ids))
        measured = [actor.reply() for actor in actors]
    return float(sum(measured))


def _serve(connection: Connection, options: EvaluateOptions, threads: int, evaluation: Evaluation) -> None:
    """A process of either way: says that it has loaded the base, then answers what it is asked."""
    torch.set_num_threads(threads)
    actor = _Actor(options, evaluation)
    connection.send("ready")
    while True:
        try:
            verb, content = connection.recv()
        except EOFError:
            return
        connection.send(getattr(actor, verb)(content))


class _Actor:
    """The pipeline's actor around a base model."""

    def __init__(self, options: EvaluateOptions, evaluation: Evaluation) -> None:
        self._subject: Subject = load_subject(options, options.dtype)
        self._generator = HFGenerator(
            self._subject.model, self._subject.tokenizer, options.max_new_tokens, stop_at_newline=True, batch_size=options.batch_size
        )
        base: Any = self._subject
        self._shared, self._answer = SharedGenerator(self._generator), evaluation.answerer(base)
        self._prefill: Prefill | None = None

    def answer(self, chunk: dict[str, Any]) -> Answered:
        before, began = replace(self._generator.work), time.perf_counter()
        answers = self._answer(self._shared.share(), chunk)
        wait_for(self._subject.device)
        seconds = time.perf_counter() - began
        return Answered(chunk["identity"], answers, seconds, difference(self._generator.work, before))

    def prepare(self, token_ids: Sequence[list[int]]) -> float:
        self._prefill = Prefill(self._subject, token_ids)
        return 0.0

    def prefill(self, _: object) -> float:
        assert self._prefill is not None, "prepared"
        return self._prefill.measure()

    def kept(self, _: object) -> int:
        return self._generator.activations.bytes_held
