"""An engine without a model, in a module that Ray's processes load: its answers say where they were made."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ray

from kp.generation.protocol import FinishReason, Generation
from kp.inference.answering import EngineSpec
from kp.prompts import Messages

CHUNK_SECONDS = 2.0
MOST_WAITING_SECONDS = 120.0  # for a process to start on a busy machine


class NodeNamer:
    """Answers every question with the id of the node that it is asked on, a chunk in CHUNK_SECONDS.

    From its second chunk on it first waits until another actor has come to `meeting`, a folder that all nodes see.
    """

    on_answered: Any = None

    def __init__(self, meeting: Path) -> None:
        self._meeting, self._waits = meeting, False
        self._node = ray.get_runtime_context().get_node_id()
        (meeting / f"{self._node}-{os.getpid()}").touch()

    def read(self, prompts: Any) -> Any:
        return prompts

    def generate(self, prompts: Sequence[Messages]) -> list[Generation]:
        until = time.monotonic() + MOST_WAITING_SECONDS
        while self._waits and len(list(self._meeting.iterdir())) < 2 and time.monotonic() < until:
            time.sleep(0.2)
        time.sleep(CHUNK_SECONDS)
        self._waits = True
        return [Generation(self._node, FinishReason.STOP, 1) for _ in prompts]


@dataclass(frozen=True)
class NodeNamingEngine(EngineSpec):
    """Loads no model."""

    meeting: str = ""

    def load(self) -> Any:
        return SimpleNamespace(revision="rev"), NodeNamer(Path(self.meeting))
