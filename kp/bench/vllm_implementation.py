"""vLLM as an implementation: its pins conflict with kp's, so it answers from a separate process in its own environment.

While it waits for requests, that process computes nothing, so only one implementation computes at a time.
"""

import dataclasses
import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import kp
from kp.bench.implementations import Peer, Turn
from kp.bench.options import CategoriseOptions
from kp.bench.subject import Subject
from kp.errors import UserError
from kp.generation.prompt_tokens import prompt_tokens
from kp.prompts import Messages


class VLLMImplementation:
    """kp.generation.vllm in another interpreter; a context manager that ends the process."""

    peer = Peer.VLLM

    def __init__(self, python: Path, subject: Subject, options: CategoriseOptions, chats: Sequence[Messages]) -> None:
        """Raises UserError if there is no such interpreter, if its vLLM rejects the model or the device, or if it reads `chats` as other
        tokens."""
        engine = {
            "model_path": subject.path,
            "dtype": options.dtype.value,
            "device": subject.device.type,
            "max_new_tokens": options.max_new_tokens,
            "batch_size": options.batch_size,
        }
        self._process = _start(python, options.cpu_threads)
        made = self._ask({"engine": engine, "prompt_tokens": dataclasses.asdict(prompt_tokens(subject.tokenizer, chats))})
        settings = "block_size 32, enforce_eager, " if subject.device.type == "cpu" else ""
        settings += f"{made['threads']} threads, {made['processes']} process{'es' if made['processes'] > 1 else ''}"
        self.way = f"vLLM {made['version']}: prefix caching, {settings}, an answer ends at its first line"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()

    def warm_up(self, chats: Sequence[Messages]) -> None:
        """Answer a few chats, untimed."""
        self._ask({"warm_up": chats})

    def answer(self, chats: Sequence[Messages]) -> Turn:
        """Answer these chats with an empty prefix cache."""
        made = self._ask({"answer": chats})
        return Turn(made["texts"], made["seconds"], None)

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise RuntimeError(f"the vLLM process ended with {self._process.wait()}; what it said stands above")
        reply: dict[str, Any] = json.loads(line)
        if "refused" in reply:
            self._end()
            raise UserError(**reply["refused"])
        return reply

    def _end(self) -> None:
        """Close the requests, upon which the process ends."""
        if self._process.poll() is None:
            self._process.communicate()


def _start(python: Path, threads: int) -> "subprocess.Popen[str]":
    search = [str(Path(kp.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": os.pathsep.join(search)}
    command = [str(python), "-m", "kp.bench.vllm_worker"]
    try:
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True, encoding="utf-8")
    except OSError as error:
        raise UserError(f"'{python}' cannot be run: {error.strerror}", field="vllm_python") from error
