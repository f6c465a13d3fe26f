"""An engine without a model, in a module that Ray's processes load: its answers say where they were made."""

import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import ray

from kp.generation.protocol import FinishReason, Generation
from kp.inference.answering import EngineSpec
from kp.prompts import Messages

CHUNK_SECONDS = 2.0


class NodeNamer:
    """Answers every question with the id of the node that it is asked on, a chunk in CHUNK_SECONDS."""

    on_answered: Any = None

    def generate(self, prompts: Sequence[Messages]) -> list[Generation]:
        time.sleep(CHUNK_SECONDS)
        node = ray.get_runtime_context().get_node_id()
        return [Generation(node, FinishReason.STOP, 1) for _ in prompts]


class NodeNamingEngine(EngineSpec):
    """Loads no model."""

    def load(self) -> Any:
        return SimpleNamespace(revision="rev"), NodeNamer()
