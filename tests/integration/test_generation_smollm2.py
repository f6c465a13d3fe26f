"""The embedded model, converted and asked for real."""

import copy
from pathlib import Path

import peft
import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from kp.config.study import ModelConfig
from kp.facts.builtin import load_builtin
from kp.generation.hf import HFGenerator
from kp.generation.protocol import FinishReason
from kp.models.loading import describe_model, load_model, load_tokenizer, resolve_model
from kp.models.names import EMBEDDED, ResolvedModel
from kp.prompts import Messages, builtin_prompts, messages
from kp.vocabulary import ShotSet

NEW_TOKENS = 16


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


def _studied(count: int) -> list[Messages]:
    """Questions of the built-in facts, of every relation in turn, each under one of the ten prompts of S0: what a study asks."""
    facts = load_builtin()
    by_relation: dict[str, list[str]] = {}
    for relation, question in zip(facts["relation"].to_pylist(), facts["question"].to_pylist(), strict=True):
        by_relation.setdefault(relation, []).append(question)
    mixed = [questions[turn] for turn in range(-(-count // len(by_relation))) for questions in by_relation.values()]
    prompts = builtin_prompts(ShotSet.S0)
    return [messages(prompts[number % len(prompts)], question) for number, question in enumerate(mixed[:count])]


def _plain(model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, prompts: list[Messages]) -> list[str]:
    """One prompt at a time, whole, without a cache of another: first lines."""
    texts = []
    for prompt in prompts:
        inputs = tokenizer.apply_chat_template(list(prompt), add_generation_prompt=True, return_tensors="pt", return_dict=True)
        with torch.no_grad():
            made = model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)  # type: ignore[operator]
        texts.append(tokenizer.decode(made[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).split("\n")[0])
    return texts


@pytest.mark.parametrize("count", [40, pytest.param(300, marks=pytest.mark.slow)])
def test_embedded_model_answers_equal_plain_one_at_a_time_generation(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, count: int
) -> None:
    prompts = _studied(count)

    answers = HFGenerator(model, tokenizer, max_new_tokens=NEW_TOKENS).generate(prompts)

    assert [answer.text for answer in answers] == _plain(model, tokenizer, prompts)
    assert sum(answer.text.startswith("Answer:") for answer in answers) > 0.9 * count  # the draft is what is nearly always said
    assert len({answer.text for answer in answers}) > count / 3


def _adapted(model: PreTrainedModel, targets: list[str], layers: list[int] | None, strength: float, seed: int = 7) -> torch.nn.Module:
    """A copy of the model with a random adapter."""
    torch.manual_seed(seed)
    config = peft.LoraConfig(r=8, lora_alpha=16, target_modules=targets, layers_to_transform=layers)
    adapted = peft.get_peft_model(copy.deepcopy(model), config)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:  # made as zeros, which would change nothing
                weight.normal_(std=strength)
    return adapted.eval()


@pytest.mark.parametrize("count", [10, pytest.param(300, marks=pytest.mark.slow)])
def test_embedded_model_with_an_adapter_answers_as_plain_generation_with_it_does(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path, count: int
) -> None:
    adapted = _adapted(model, ["down_proj", "gate_proj", "up_proj", "q_proj"], None, 0.02)
    adapted.save_pretrained(str(tmp_path))
    prompts = _studied(count)
    generator = HFGenerator(copy.deepcopy(model), tokenizer, max_new_tokens=NEW_TOKENS)
    base = [answer.text for answer in generator.generate(prompts)]
    generator.load_adapter(str(tmp_path))

    answers = [answer.text for answer in generator.generate(prompts)]
    generator.load_adapter(None)

    assert answers == _plain(adapted, tokenizer, prompts)
    assert answers != base


@pytest.mark.parametrize("count", [12, pytest.param(300, marks=pytest.mark.slow)])
def test_embedded_model_with_adapters_of_its_upper_layers_answers_as_plain_generation_with_them_does(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path, count: int
) -> None:
    prompts, generator = _studied(count), HFGenerator(copy.deepcopy(model), tokenizer, max_new_tokens=NEW_TOKENS)
    base = [answer.text for answer in generator.generate(prompts)]
    expected, lower = {}, []
    for seed, strength in enumerate((0.03, 0.2)):
        adapted = _adapted(model, ["down_proj", "up_proj", "q_proj"], list(range(22, 30)), strength, seed)
        adapted.save_pretrained(str(tmp_path / str(seed)))
        expected[str(tmp_path / str(seed))] = _plain(adapted, tokenizer, prompts)
    for path in [*expected, *expected]:
        before = generator.work.lower_tokens
        generator.load_adapter(path)
        assert [answer.text for answer in generator.generate(prompts)] == expected[path]
        lower.append(generator.work.lower_tokens - before)

    mild, strong = (sum(one != other for one, other in zip(base, answers, strict=True)) for answers in expected.values())
    assert strong > max(mild, count / 4)
    assert lower[2] < lower[0] / 2  # only the tokens of answers pass the lower layers again


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
