"""Passes fit into memory for the longest questions, though shorter ones are asked before them."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from kp.generation import decoding, memory
from kp.generation.decoding import Limits, Work, read_prefixes
from kp.generation.forward import Forward
from kp.generation.hf import HFGenerator
from kp.generation.memory import LEAST_TOKENS, measured_room
from tests.unit.test_generation import NEW_TOKENS, _model, _tokenizer

ROWS = 24
TOKEN_BYTES = 2 * 3 * 2 * 8 * 4  # keys and values of 3 layers, 2 heads of 8 numbers, 4 bytes each
SHORT, LONG = 10, 60  # characters of a question, each a token


@dataclass
class Made:
    """Slots that were made: how many, and their columns."""

    slots: int
    columns: int


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Made]:
    """What decoders allocate for their rows."""
    found: list[Made] = []
    real = decoding.Slots

    def slots(layers: Any, count: int, columns: int, prefixes: Any) -> Any:
        found.append(Made(count, columns))
        return real(layers, count, columns, prefixes)

    monkeypatch.setattr(decoding, "Slots", slots)
    return found


def prompts(characters: int) -> list[list[dict[str, str]]]:
    """Chats behind the same shot, whose questions begin differently and have so many characters."""
    shots = [{"role": "user", "content": "Question: 1?"}, {"role": "assistant", "content": "Answer: x"}]
    return [[*shots, {"role": "user", "content": f"Question: {chr(97 + number) * characters}"}] for number in range(ROWS)]


def generator() -> HFGenerator:
    return HFGenerator(_model(), _tokenizer(), NEW_TOKENS, batch_size=ROWS)


def test_longer_questions_after_shorter_ones_have_fewer_rows_in_the_same_memory(monkeypatch: pytest.MonkeyPatch, made: list[Made]) -> None:
    expected = [generator().generate(prompts(characters)) for characters in (SHORT, LONG)]
    room = 16 * (SHORT + 30)  # tokens of rows: 16 rows of short questions
    monkeypatch.setattr(memory, "_free_bytes", lambda device: int(room * TOKEN_BYTES / memory._SHARE) + 1)
    made.clear()
    limited = generator()
    assert [limited.generate(prompts(characters)) for characters in (SHORT, LONG)] == expected
    most = [max((one.slots for one in made if one.columns < LONG), default=0), max(one.slots for one in made if one.columns >= LONG)]
    assert most[0] > 2 * most[1] > 2
    assert all(one.slots * one.columns <= room for one in made)


def test_shorter_questions_after_longer_ones_have_their_rows_again(monkeypatch: pytest.MonkeyPatch, made: list[Made]) -> None:
    monkeypatch.setattr(memory, "_free_bytes", lambda device: int(ROWS * (SHORT + 40) * TOKEN_BYTES / memory._SHARE))
    limited = generator()
    limited.generate(prompts(LONG))
    made.clear()
    limited.generate(prompts(SHORT))
    assert max(one.slots for one in made) == ROWS


def test_rows_that_ran_out_of_memory_stay_fewer_for_all_later_questions(made: list[Made]) -> None:
    limited = generator()
    limited.generate(prompts(SHORT)[:1])
    limited._most = Limits(5, 100)
    made.clear()
    limited.generate(prompts(SHORT))
    assert max(one.slots for one in made) == 5


def test_pass_of_a_gpu_is_measured_with_the_longest_row_and_again_only_for_a_longer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The peak of a pass over a row grows faster than its tokens, as that of attention without a fused kernel does."""
    probed: list[int] = []

    def token_bytes(forward: Forward, tokens: int) -> float:
        probed.append(tokens)
        return float(tokens)

    class OnGpu(Forward):
        device = torch.device("cuda", 0)  # type: ignore[assignment]

    forward = Forward(_model())
    prefix = read_prefixes_of(forward)
    monkeypatch.setattr(memory, "_free_bytes", lambda device: 10_000_000)
    monkeypatch.setattr(memory, "_cuda_token_bytes", token_bytes)
    on_gpu = OnGpu(_model())
    short, long = measured_room(on_gpu, prefix, 100), measured_room(on_gpu, prefix, 4000)
    assert probed == [1024, 4000]
    assert (short.longest, long.longest) == (1024, 4000)
    assert (short.tokens, long.tokens) == (int(0.4 * 10_000_000 / 1024), int(0.4 * 10_000_000 / 4000))
    assert long.columns == int(0.4 * 10_000_000 / TOKEN_BYTES)
    assert short.limits(100, 10_000).rows == short.columns // 100  # type: ignore[operator]
    assert short.limits(10**9, 7) == Limits(1, short.tokens)


def read_prefixes_of(forward: Forward) -> Any:
    with torch.no_grad(), forward.exchanged():
        return read_prefixes(forward, [[5, 6, 7]], 8, Work())[0]


def test_room_of_a_system_that_does_not_report_its_memory_limits_no_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = Forward(_model())
    monkeypatch.setattr(memory, "_free_bytes", lambda device: None)
    assert measured_room(forward, read_prefixes_of(forward), 50).limits(1000, 7) == Limits(7, LEAST_TOKENS)
