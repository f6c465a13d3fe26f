"""A generator that several threads share: who has the model, with which adapter, and what goes on meanwhile."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from kp.errors import UserError
from kp.generation.protocol import FinishReason, Generation, ReadPrompt
from kp.inference.shared_generator import CHUNKS_AT_ONCE, SharedGenerator

PATIENCE = 30.0


class Recorder:
    """Answers with its active adapter; every answer is told to whoever listens."""

    def __init__(self) -> None:
        self.on_answered: Any = None
        self.activated: list[str | None] = []
        self.inside = 0
        self.most_inside = 0
        self.during: Callable[[], None] = lambda: None

    def read(self, prompts: Sequence[Any]) -> list[ReadPrompt]:
        return [prompt if isinstance(prompt, ReadPrompt) else ReadPrompt((), [len(prompt)]) for prompt in prompts]

    def generate(self, prompts: Sequence[Any]) -> list[Generation]:
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        assert all(isinstance(prompt, ReadPrompt) for prompt in prompts)
        self.during()
        adapter = str(self.activated[-1] if self.activated else None)
        for _ in prompts:
            self.on_answered(1)
        self.inside -= 1
        return [Generation(f"{adapter} {prompt.ids[0]}", FinishReason.STOP, 1) for prompt in prompts]

    def sample(self, prompts: Sequence[Any], count: int, temperature: float, seeds: Sequence[int]) -> list[list[Generation]]:
        return [[made] * count for made in self.generate(prompts)]

    def load_adapter(self, path: str | None) -> None:
        if path == "broken":
            raise UserError("adapter broken: has no adapter_config.json")
        self.activated.append(path)


def _asked(length: int) -> list[Any]:
    return [[{"role": "user", "content": "q"}] * length]


def test_next_chunk_is_read_while_the_model_answers_another_and_answered_after_it() -> None:
    recorder, read_ahead = Recorder(), threading.Event()
    shared = SharedGenerator(recorder)
    first, second = shared.share(), shared.share()

    def ahead() -> list[Generation]:
        asked = second.read(_asked(2))
        read_ahead.set()
        return second.generate(asked)

    with ThreadPoolExecutor(1) as pool:
        started: list[Any] = []

        def during() -> None:
            recorder.during = lambda: None
            started.append(pool.submit(ahead))
            assert read_ahead.wait(PATIENCE)

        recorder.during = during
        answers = first.generate(_asked(1))
        later = started[0].result(PATIENCE)

    assert [made.text for made in [*answers, *later]] == ["None 1", "None 2"]
    assert recorder.most_inside == 1
    assert first.took_turn is not None
    assert second.took_turn is not None
    assert first.took_turn <= second.took_turn


def test_shares_of_many_threads_keep_their_adapters_their_listeners_and_the_order_of_their_answers() -> None:
    recorder = Recorder()
    recorder.during = lambda: time.sleep(0.001)
    shared = SharedGenerator(recorder)

    def work(number: int) -> tuple[list[str], int]:
        share, heard = shared.share(), [0]
        share.on_answered = lambda answers: heard.__setitem__(0, heard[0] + answers)
        share.load_adapter(None if number % 3 == 0 else f"adapter {number % 3}")
        made = share.generate([*_asked(number), *_asked(number + 1)])
        (sampled,) = share.sample(_asked(number), 2, 0.5, [0])
        return [one.text for one in [*made, *sampled]], heard[0]

    with ThreadPoolExecutor(CHUNKS_AT_ONCE) as pool:
        found = list(pool.map(work, range(1, 25)))

    for number, (texts, heard) in enumerate(found, 1):
        adapter = f"adapter {number % 3}" if number % 3 else "None"
        assert texts == [f"{adapter} {number}", f"{adapter} {number + 1}", f"{adapter} {number}", f"{adapter} {number}"]
        assert heard == 3
    assert recorder.most_inside == 1
    assert all(one != other for one, other in zip(recorder.activated, recorder.activated[1:], strict=False))  # none is exchanged for itself


def test_error_in_a_turn_reaches_its_thread_alone_with_its_traceback_and_frees_the_model() -> None:
    recorder = Recorder()
    shared = SharedGenerator(recorder)

    def fail() -> None:
        raise ZeroDivisionError("in the model")

    recorder.during = fail
    with pytest.raises(ZeroDivisionError, match="in the model") as caught:
        shared.share().generate(_asked(1))
    assert any(entry.name == "fail" for entry in caught.traceback)

    recorder.during = lambda: None
    recorder.inside = 0
    other = shared.share()
    other.on_answered = lambda answers: None
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(other.generate, _asked(3)).result(PATIENCE)[0].text == "None 3"


def test_adapter_after_one_that_cannot_be_loaded_is_loaded_anew() -> None:
    recorder = Recorder()
    shared = SharedGenerator(recorder)

    def answer(adapter: str | None) -> str:
        share = shared.share()
        share.on_answered = lambda answers: None
        share.load_adapter(adapter)
        return share.generate(_asked(1))[0].text

    assert answer("good") == "good 1"
    with pytest.raises(UserError, match="adapter broken"):
        answer("broken")
    assert answer("good") == "good 1"
    assert answer(None) == "None 1"
    assert recorder.activated == ["good", "good", None]


def test_thread_that_leaves_a_turn_early_frees_the_model() -> None:
    shared = SharedGenerator(Recorder())
    with shared.share().turn():
        pass
    with pytest.raises(KeyboardInterrupt), shared.share().turn():
        raise KeyboardInterrupt
    with shared.share().turn() as generator:
        assert generator.read(_asked(2)) == [ReadPrompt((), [2])]
