"""Decode passes from tensors that stay where they are against passes in the usual way, on a CPU and without recordings."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch import Tensor

from kp.errors import UserError
from kp.generation import cuda_graphs
from kp.generation.cuda_graphs import MOST_GRAPHS, SEEN_BEFORE, GraphRecorder
from kp.generation.decoding import Live, make_line
from kp.generation.forward import Forward
from kp.generation.hf import HFGenerator
from kp.generation.static_passes import PassShape, StaticPasses, padded
from tests.unit.test_generation import CONFIGS, NEW_TOKENS, _model, _plain, _prompts, _save_adapter, _texts, _tokenizer


class Eager:
    """Records nothing: makes every pass anew."""

    def __init__(self) -> None:
        self.made: Counter[PassShape] = Counter()
        self.forgotten = 0

    def takes(self, shape: PassShape) -> bool:
        return True

    def run(self, shape: PassShape, work: Callable[[], None]) -> None:
        self.made[shape] += 1
        work()

    def forget(self) -> None:
        self.forgotten += 1


class Compared(StaticPasses):
    """Also makes each pass in the usual way, and keeps how far the logits differ, and where all tensors are."""

    def __init__(self, forward: Forward, recorder: Any) -> None:
        super().__init__(forward, recorder)
        self.largest = 0.0
        self.passes = 0
        self.places: dict[PassShape, set[tuple[int, ...]]] = {}

    def logits(self, shape: PassShape, rows: Sequence[Live]) -> Tensor:
        assert self._slots is not None
        line = make_line(rows, [], self._slots.prefixes, self._forward.device)
        usual = self._forward.packed(line, self._slots).clone()
        logits = super().logits(shape, rows)
        self.largest = max(self.largest, float((logits - usual).abs().max() / usual.abs().max()))
        self.passes += 1
        return logits

    def _line(self, shape: PassShape, numbers: Tensor, slots: Any) -> Any:
        line = super()._line(shape, numbers, slots)
        tensors = [line.ids, line.positions, line.slot, line.column, *(slots.buffers or ())]
        tensors += [line.stack.keys, line.stack.values, line.stack.bias] if line.stack else []
        self.places.setdefault(shape, set()).add(tuple(tensor.data_ptr() for tensor in tensors))
        return line


def _with_passes(model: Any, batch_size: int = 16) -> tuple[HFGenerator, Compared, Eager]:
    generator = HFGenerator(model, _tokenizer(), max_new_tokens=NEW_TOKENS, stop_at_newline=False, batch_size=batch_size)
    recorder = Eager()
    passes = Compared(generator._forward, recorder)
    generator._passes = passes
    return generator, passes, recorder


@pytest.mark.parametrize("name", CONFIGS)  # two of them with windows that prompts exceed
def test_static_passes_of_each_architecture_have_the_logits_and_answers_of_usual_ones(name: str) -> None:
    model, prompts = _model(name), _prompts()
    generator, passes, recorder = _with_passes(model, batch_size=24)

    answers = generator.generate(prompts)

    assert _texts(answers) == _plain(model, _tokenizer(), prompts)
    assert passes.passes > NEW_TOKENS
    assert passes.largest < 1e-5
    assert {shape.prefixes for shape in recorder.made} >= {1, 2}
    assert any(shape.rows == 32 for shape in recorder.made)


def test_tensors_of_a_shape_stay_in_their_places_from_call_to_call() -> None:
    generator, passes, recorder = _with_passes(_model())
    prompts = _prompts()

    answers = [generator.generate(prompts), generator.generate(prompts[::2]), generator.generate(prompts[1::2])]

    assert answers[0][::2] == answers[1]
    assert answers[0][1::2] == answers[2]
    assert {shape: len(places) for shape, places in passes.places.items()} == dict.fromkeys(passes.places, 1)
    assert max(recorder.made.values()) > 3
    assert recorder.forgotten <= 2  # the first slots, and their buffers


def test_longer_prompts_and_more_rows_than_there_is_room_for_make_new_room_and_forget() -> None:
    model, prompts = _model(), _prompts()
    generator, passes, recorder = _with_passes(model, batch_size=64)
    generator.generate(prompts[:4])
    before = recorder.forgotten
    longer = [[*chat[:-1], {**chat[-1], "content": chat[-1]["content"] + " and more of it" * 4}] for chat in prompts]

    answers = generator.generate(longer)

    assert recorder.forgotten > before
    assert passes.largest < 1e-5
    assert _texts(answers) == _plain(model, _tokenizer(), longer)


def test_static_passes_with_adapters_of_all_and_of_upper_layers_are_those_of_the_active_one(tmp_path: Path) -> None:
    prompts = _prompts()
    folders = [_save_adapter(tmp_path / "a", ["q_proj", "up_proj"], 1), _save_upper(tmp_path / "b")]
    usual = HFGenerator(_model(), _tokenizer(), max_new_tokens=NEW_TOKENS, stop_at_newline=False, batch_size=16)
    generator, passes, recorder = _with_passes(_model())
    found = []
    for folder in [None, *folders, None]:
        usual.load_adapter(folder)
        generator.load_adapter(folder)
        before = recorder.forgotten
        found.append(generator.generate(prompts))
        assert found[-1] == usual.generate(prompts)
        assert recorder.forgotten > before or folder is None
    assert len({tuple(_texts(answers)) for answers in found}) == 3
    assert generator.work == usual.work
    assert generator.work.lower_tokens > 0
    assert passes.largest < 1e-5


def _save_upper(folder: Path) -> str:
    """An adapter of the last layer of three, below which prompts are computed once."""
    torch.manual_seed(2)
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "up_proj"], layers_to_transform=[2], init_lora_weights=False)
    peft.get_peft_model(_model(), config).save_pretrained(str(folder))
    return str(folder)


def test_sampled_answers_by_static_passes_are_those_of_usual_ones() -> None:
    prompts = _prompts(12)
    usual = HFGenerator(_model(), _tokenizer(), max_new_tokens=NEW_TOKENS, stop_at_newline=False, batch_size=16)
    generator, passes, _ = _with_passes(_model())
    assert generator.sample(prompts, 3, 0.8, range(12)) == usual.sample(prompts, 3, 0.8, range(12))
    assert passes.passes > 0


def test_prompts_that_share_nothing_are_decoded_by_static_passes_without_prefixes() -> None:
    model = _model()
    prompts = [[{"role": "user", "content": f"{chr(97 + number)} {number * 7}"}] for number in range(10)]
    generator, passes, recorder = _with_passes(model)
    assert _texts(generator.generate(prompts)) == _plain(model, _tokenizer(), prompts)
    assert passes.largest < 1e-5
    assert recorder.made


def test_pass_of_rows_with_and_without_prefix_is_made_in_the_usual_way() -> None:
    passes = StaticPasses(Forward(_model()), Eager())
    live = [Live(replace(_row(0), prefix=None), 3, [5]), Live(_row(1), 3, [5])]
    assert passes.shape_of(live) is None
    assert passes.shape_of(live[1:]) == PassShape(1, 1, 1)
    assert passes.shape_of([Live(_row(number), 3, [5]) for number in range(20)]) is None  # behind more prefixes than have room
    assert passes.shape_of([Live(_row(max(0, number - 60)), 3, [5]) for number in range(64)]) == PassShape(64, 4, 64)
    assert passes.shape_of([Live(_row(max(0, number - 57)), 3, [5]) for number in range(64)]) is None  # which padding would multiply
    assert passes.shape_of([Live(_row(number % 3), 3, [5]) for number in range(20)]) == PassShape(32, 4, 8)


def _row(prefix: int) -> Any:
    from kp.generation.decoding import Row

    return Row(0, prefix, [1, 2], [])


@pytest.mark.parametrize(("count", "expected"), [(1, 1), (2, 2), (3, 4), (64, 64), (65, 128), (1000, 1024)])
def test_rows_are_padded_to_the_next_power_of_two(count: int, expected: int) -> None:
    assert padded(count) == expected


def test_generator_on_a_cpu_refuses_graphs() -> None:
    with pytest.raises(UserError, match=r"resources\.cuda_graphs: the model is on 'cpu'"):
        HFGenerator(_model(), _tokenizer(), cuda_graphs=True)


class Graph:
    """Stands for a recording of CUDA: replays what it recorded."""

    def __init__(self, work: Callable[[], None]) -> None:
        self.replay = work


def test_recorder_records_a_shape_that_comes_up_again_and_drops_the_one_used_least_recently(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded: list[Callable[[], None]] = []

    def record(self: GraphRecorder, work: Callable[[], None]) -> Any:
        recorded.append(work)
        return Graph(work)

    monkeypatch.setattr(cuda_graphs.GraphRecorder, "_recorded", record)
    recorder, done = GraphRecorder(), Counter[PassShape]()
    shapes = [PassShape(1 << number, 1, 1 << number) for number in range(MOST_GRAPHS + 1)]

    def ask(shape: PassShape) -> bool:
        if recorder.takes(shape):
            recorder.run(shape, lambda: done.update([shape]))
            return True
        return False

    assert [ask(shapes[0]) for _ in range(SEEN_BEFORE + 2)] == [False] * SEEN_BEFORE + [True] * 2
    assert (len(recorded), done[shapes[0]]) == (1, 2)
    for shape in shapes[1:]:
        for _ in range(SEEN_BEFORE + 1):
            ask(shape)
    assert len(recorded) == MOST_GRAPHS + 1
    assert ask(shapes[-1])
    assert len(recorded) == MOST_GRAPHS + 1
    assert ask(shapes[0])  # the first one was dropped, and is recorded again
    assert len(recorded) == MOST_GRAPHS + 2
    recorder.forget()
    assert [ask(shapes[0]) for _ in range(SEEN_BEFORE + 1)] == [False] * SEEN_BEFORE + [True]
    assert len(recorded) == MOST_GRAPHS + 3


def test_model_that_cannot_be_recorded_is_answered_in_the_usual_way_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(self: GraphRecorder, work: Callable[[], None]) -> Any:
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    monkeypatch.setattr(cuda_graphs.GraphRecorder, "_recorded", refuse)
    recorder, shape, done = GraphRecorder(), PassShape(4, 1, 4), []
    for _ in range(SEEN_BEFORE):
        assert not recorder.takes(shape)
    assert recorder.takes(shape)
    recorder.run(shape, lambda: done.append(1))
    assert (done, recorder.replayed) == ([1], 0)
    assert "cannot be recorded: CUDA error: operation not permitted" in caplog.text
    assert not recorder.takes(shape)


def test_memory_that_runs_out_in_a_recording_is_left_to_the_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_out(self: GraphRecorder, work: Callable[[], None]) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(cuda_graphs.GraphRecorder, "_recorded", run_out)
    with pytest.raises(torch.OutOfMemoryError):
        GraphRecorder().run(PassShape(4, 1, 4), lambda: None)


def test_generator_out_of_memory_makes_its_slots_anew_and_gives_the_same_answers() -> None:
    prompts = _prompts()
    generator, passes, recorder = _with_passes(_model(), batch_size=32)
    expected = generator.generate(prompts)
    usual, before = passes.logits, recorder.forgotten

    def run_out(shape: PassShape, rows: Sequence[Live]) -> Tensor:
        if len(rows) > 10:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return usual(shape, rows)

    passes.logits = run_out  # type: ignore[method-assign]
    assert generator.generate(prompts) == expected
    assert recorder.forgotten > before
    assert passes._slots is not None
    assert passes._slots.shape[0] < 32
