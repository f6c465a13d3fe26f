"""One model in a process, and several threads that work on chunks: one has the model, while another reads what is asked next.

A GPU answers a prompt in about the time in which three or four are rendered and tokenised, and judging and storing answers takes time, too.
So a chunk's thread takes the model only while the model computes. Each chunk has a share of the generator, with its own adapter and its own
listener, so that no thread sees what another one has set.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from kp.generation.protocol import Generation, Generator, OnAnswered, Prompt, ReadPrompt, ignore_answers

CHUNKS_AT_ONCE = 2
"""Chunks of a process that are in work: one that the model answers, and one ahead."""


class SharedGenerator:
    """A generator of which every chunk gets a share; nobody else may use it meanwhile."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self._lock = threading.Lock()
        self._active: tuple[str | None] | None = (None,)  # the adapter; None after an error, when it is not known

    def share(self) -> "GeneratorShare":
        """A share without an adapter."""
        return GeneratorShare(self)

    def read(self, prompts: Sequence[Prompt]) -> list[ReadPrompt]:
        """See Generator; whoever has the model is not disturbed."""
        return self._generator.read(prompts)

    @contextmanager
    def turn(self, adapter: str | None, on_answered: OnAnswered) -> Iterator[Generator]:
        """The generator with this adapter active, once no other thread has it."""
        with self._lock:
            if self._active != (adapter,):
                self._active = None
                self._generator.load_adapter(adapter)
                self._active = (adapter,)
            self._generator.on_answered = on_answered
            yield self._generator


class GeneratorShare:
    """A generator for one chunk: other threads may use theirs at the same time, and whoever is first has the model first."""

    def __init__(self, shared: SharedGenerator) -> None:
        self.on_answered: OnAnswered = ignore_answers
        self.took_turn: float | None = None
        """When it first had the model, in seconds since 1970; None: not yet."""
        self._shared = shared
        self._adapter: str | None = None

    def read(self, prompts: Sequence[Prompt]) -> list[ReadPrompt]:
        """See Generator; it does not wait for the model."""
        return self._shared.read(prompts)

    def generate(self, prompts: Sequence[Prompt]) -> list[Generation]:
        """See Generator; with the model from the first to the last answer."""
        asked = self.read(prompts)
        with self.turn() as generator:
            return generator.generate(asked)

    def sample(self, prompts: Sequence[Prompt], count: int, temperature: float, seeds: Sequence[int]) -> list[list[Generation]]:
        """See Generator; with the model from the first to the last answer."""
        asked = self.read(prompts)
        with self.turn() as generator:
            return generator.sample(asked, count, temperature, seeds)

    def load_adapter(self, path: str | None) -> None:
        """The adapter of this share; it is activated when the share has the model next, which raises what `Generator.load_adapter` does."""
        self._adapter = path

    @contextmanager
    def turn(self) -> Iterator[Generator]:
        """The generator itself with the adapter of this share, for no other thread until the context ends."""
        with self._shared.turn(self._adapter, self.on_answered) as generator:
            if self.took_turn is None:
                self.took_turn = time.time()
            yield generator
