"""The embedded model, converted and asked for real."""

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from kp.config import ModelConfig
from kp.generation import FinishReason
from kp.generation.hf import HFGenerator
from kp.models import EMBEDDED, ResolvedModel, describe_model, load_model, load_tokenizer, resolve_model

COUNTRIES = ("France", "Japan", "Italy", "Peru", "Kenya", "Norway")
TEMPLATES = (
    "What is the capital of {}?",
    "Which continent is {} in?",
    "What is the main language that people speak in {}?",
    "Who rules {}?",
)


@pytest.fixture(scope="module")
def resolved() -> ResolvedModel:
    return resolve_model(ModelConfig())


@pytest.fixture(scope="module")
def tokenizer(resolved: ResolvedModel) -> PreTrainedTokenizerBase:
    return load_tokenizer(resolved)


@pytest.fixture(scope="module")
def model(resolved: ResolvedModel) -> PreTrainedModel:
    return load_model(resolved, "float32", "cpu")


def _chat(question: str, shots: tuple[tuple[str, str], ...]) -> list[dict[str, str]]:
    chat = [{"role": "system", "content": "Answer the following question."}]
    for shot, answer in shots:
        chat += [{"role": "user", "content": f"Question: {shot}"}, {"role": "assistant", "content": f"Answer: {answer}"}]
    return [*chat, {"role": "user", "content": f"Question: {question}"}]


def _prompts() -> list[list[dict[str, str]]]:
    shot_prompts = (
        (("Who wrote Hamlet?", "William Shakespeare"), ("What is the capital of Spain?", "Madrid")),
        (("What is the largest planet?", "Jupiter"), ("Which river runs through London?", "The Thames")),
    )
    questions = [template.format(country) for country in COUNTRIES for template in TEMPLATES]
    return [_chat(question, shot_prompts[number % 2]) for number, question in enumerate(questions)]


def test_embedded_model_answers_equal_plain_one_at_a_time_generation(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    prompts = _prompts()

    answers = HFGenerator(model, tokenizer, max_new_tokens=16, stop_at_newline=True, batch_size=8).generate(prompts)

    plain = []
    for prompt in prompts:
        inputs = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        made = model.generate(**inputs, max_new_tokens=16, do_sample=False)
        plain.append(tokenizer.decode(made[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).split("\n")[0])
    assert [answer.text for answer in answers] == plain


def test_embedded_model_knows_the_capital_of_france_and_ends_its_answer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    (answer,) = HFGenerator(model, tokenizer).generate([_chat("What is the capital of France?", ())])

    assert "Paris" in answer.text
    assert answer.finish_reason is FinishReason.STOP


def test_embedded_tokenizer_writes_roles_and_honours_the_system_message(tokenizer: PreTrainedTokenizerBase) -> None:
    text = tokenizer.apply_chat_template(_chat("q", (("s", "a"),)), tokenize=False, add_generation_prompt=True)

    assert text == (
        "<|im_start|>system\nAnswer the following question.<|im_end|>\n"
        "<|im_start|>user\nQuestion: s<|im_end|>\n<|im_start|>assistant\nAnswer: a<|im_end|>\n"
        "<|im_start|>user\nQuestion: q<|im_end|>\n<|im_start|>assistant\n"
    )
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.decode(tokenizer.encode("<|im_end|>")) == "<|im_end|>"


def test_embedded_tokenizer_splits_digits_one_by_one_and_keeps_control_tokens_whole(tokenizer: PreTrainedTokenizerBase) -> None:
    tokens = tokenizer.convert_ids_to_tokens(tokenizer.encode("in  1984\n\n7 <repo_name>"))

    assert tokens == ["in", "ĠĠ", "1", "9", "8", "4", "ĊĊ", "7", "Ġ", "<repo_name>"]


def test_embedded_model_is_stored_once_as_a_plain_bfloat16_model(resolved: ResolvedModel, model: PreTrainedModel) -> None:
    assert describe_model(ModelConfig()) == resolved.revision
    assert resolve_model(ModelConfig()) == resolved
    assert load_model(resolved, "bfloat16", "cpu").dtype is torch.bfloat16
    assert model.generation_config.eos_token_id == 2
    assert not hasattr(model.config, "quantization_config")


def test_embedded_model_without_its_record_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resolved: ResolvedModel) -> None:
    monkeypatch.setenv("KP_CACHE", str(tmp_path))
    broken = tmp_path / "models" / Path(resolved.path).name
    broken.mkdir(parents=True)
    (broken / "config.json").write_text("{}")

    again = resolve_model(ModelConfig(name=EMBEDDED))

    assert again.path == str(broken)
    assert again.revision == resolved.revision
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (broken / name).read_bytes() == (Path(resolved.path) / name).read_bytes()
    assert [path.name for path in broken.parent.iterdir()] == [broken.name]
