"""The engine and its benchmark on a CUDA GPU: exact answers, real want of memory, the larger shape."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peft
import pytest
import torch

from kp.bench.categorise import run_categorise
from kp.bench.implementations import plain_answer
from kp.bench.options import CategoriseOptions, DType, Shape
from kp.bench.questions import Question, chats
from kp.bench.subject import Subject, load_subject
from kp.generation.hf import HFGenerator
from kp.generation.memory import release_memory
from kp.generation.protocol import Generation
from tests.tiny_model import save_tiny_model, tiny_llama, tiny_tokenizer

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA GPU")]

NEW_TOKENS = 12
MIB = 1 << 20


@pytest.fixture
def subject() -> Subject:
    model: Any = tiny_llama().to("cuda")
    return Subject("tiny", None, None, model, tiny_tokenizer())


@pytest.fixture
def little_memory() -> Iterator[Any]:
    """A function that leaves this process so many bytes beyond what it holds; undone at the end."""

    def leave(spare: int) -> None:
        release_memory()
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + spare) / total)

    yield leave
    torch.cuda.set_per_process_memory_fraction(1.0)


def _asked(questions: int) -> list[Any]:
    return chats([Question(f"What is {'y' * (number % 23)} {number}?", ()) for number in range(questions)])


def _answers(subject: Subject, asked: list[Any], batch_size: int) -> list[Generation]:
    return HFGenerator(subject.model, subject.tokenizer, NEW_TOKENS, batch_size=batch_size).generate(asked)


def test_generate_on_cuda_in_float32_equals_plain_one_at_a_time_generation(subject: Subject) -> None:
    asked = _asked(12)

    answers = _answers(subject, asked, batch_size=64)

    assert [answer.text for answer in answers] == [plain_answer(subject, chat, NEW_TOKENS) for chat in asked]


def test_generate_on_cuda_out_of_memory_goes_on_with_less_and_gives_the_same_answers(
    subject: Subject, little_memory: Any, caplog: pytest.LogCaptureFixture
) -> None:
    asked = _asked(400)
    expected = _answers(subject, asked, batch_size=32)
    wide = HFGenerator(subject.model, subject.tokenizer, NEW_TOKENS, batch_size=len(asked))
    wide.generate(asked[::40])  # measures the memory while there is plenty, and reads what is shared
    little_memory(64 * MIB)  # the rows' keys and values take as much, and a full pass more

    with caplog.at_level(logging.WARNING):
        answers = wide.generate(asked)

    assert "out of memory" in caplog.text
    assert [answer.text for answer in answers] == [answer.text for answer in expected]


@pytest.mark.parametrize("batch_size", [5, 64])
def test_generate_by_recorded_passes_gives_the_same_answers_and_replays_most_of_them(subject: Subject, batch_size: int) -> None:
    asked = _asked(60)
    expected = _answers(subject, asked, batch_size)

    recording = HFGenerator(subject.model, subject.tokenizer, NEW_TOKENS, batch_size=batch_size, cuda_graphs=True)
    answers = [recording.generate(asked) for _ in range(2)]

    assert recording._passes is not None
    recorder: Any = recording._passes._recorder
    assert [[answer.text for answer in made] for made in answers] == [[answer.text for answer in expected]] * 2
    assert recorder.replayed > NEW_TOKENS
    assert not recorder._refused


def test_recorded_passes_are_those_of_the_active_adapter(subject: Subject, tmp_path: Path) -> None:
    asked, found = _asked(30), {}
    for number in range(2):
        torch.manual_seed(number)
        config = peft.LoraConfig(r=4, target_modules=["q_proj", "up_proj"], init_lora_weights=False)
        peft.get_peft_model(tiny_llama(), config).save_pretrained(str(tmp_path / str(number)))  # type: ignore[arg-type]
    usual = HFGenerator(tiny_llama().to("cuda"), subject.tokenizer, NEW_TOKENS, batch_size=64)
    recording = HFGenerator(subject.model, subject.tokenizer, NEW_TOKENS, batch_size=64, cuda_graphs=True)

    for folder in (None, str(tmp_path / "0"), str(tmp_path / "1"), None):
        for generator in (usual, recording):
            generator.load_adapter(folder)
        found[folder] = [answer.text for answer in recording.generate(asked)]
        assert found[folder] == [answer.text for answer in usual.generate(asked)]

    assert len({tuple(texts) for texts in found.values()}) == 3


def test_generate_by_recorded_passes_out_of_memory_goes_on_with_less(subject: Subject, little_memory: Any) -> None:
    asked = _asked(400)
    expected = _answers(subject, asked, batch_size=32)
    wide = HFGenerator(subject.model, subject.tokenizer, NEW_TOKENS, batch_size=len(asked), cuda_graphs=True)
    wide.generate(asked[::40])
    little_memory(64 * MIB)

    assert [answer.text for answer in wide.generate(asked)] == [answer.text for answer in expected]


def test_bench_categorise_on_cuda_names_the_gpu_and_agrees(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model")
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(json.dumps({"question": f"What is {number}?", "answer": "e"}) + "\n" for number in range(20)))

    settings: dict[str, Any] = {"facts": 20, "rounds": 1, "dtype": DType.FLOAT32, "vllm_python": None}
    run_categorise(CategoriseOptions(**settings, questions=questions, model=str(folder), json=tmp_path / "result.json"))

    result = json.loads((tmp_path / "result.json").read_text())
    assert result["machine"]["device"] == torch.cuda.get_device_name()
    assert result["agreement"]["kp/released"]["equal_answers"] > 0.95
    assert result["kp"]["share_of_matmul"]["square"] > 0


@pytest.mark.skipif(
    torch.cuda.is_available() and torch.cuda.get_device_properties(0).total_memory < 24 << 30, reason="the GPU has less than 24 GiB"
)
def test_llama_3_1_8b_shape_is_made_on_the_gpu_and_answers() -> None:
    subject = load_subject(CategoriseOptions(shape=Shape.LLAMA_3_1_8B, device="cuda"), DType.BFLOAT16)

    answers = HFGenerator(subject.model, subject.tokenizer, NEW_TOKENS).generate(_asked(2))

    assert (subject.device.type, subject.model.dtype, len(answers)) == ("cuda", torch.bfloat16, 20)
