"""The engine against plain one-at-a-time generation, on tiny random models of several architectures."""

import copy
import random
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from kp.errors import UserError
from kp.generation.hf import HFGenerator
from kp.generation.protocol import FinishReason, Generation
from kp.models.chat import Chat
from kp.prompts import first_line_end

NEW_TOKENS = 12
TEMPLATE = "{% for m in messages %}<{{ m['role'][0] }}>{{ m['content'] }}<e>{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
SPECIAL = ["<pad>", "<e>", "<s>", "<u>", "<a>"]
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "vocab_size": 261,
    "max_position_embeddings": 256,
}
CONFIGS = {
    "llama": LlamaConfig(**SIZES, num_key_value_heads=2, intermediate_size=48),
    "qwen2": Qwen2Config(**SIZES, num_key_value_heads=2, intermediate_size=48),
    "gpt_neox": GPTNeoXConfig(**SIZES, intermediate_size=48),
    "gpt2": GPT2Config(n_embd=32, n_layer=3, n_head=4, vocab_size=261, n_positions=256),
    "gemma2": Gemma2Config(**SIZES, num_key_value_heads=2, intermediate_size=48, head_dim=8, sliding_window=16),
    "mistral": MistralConfig(**SIZES, num_key_value_heads=2, intermediate_size=48, sliding_window=24),
}


def _tokenizer(template: str | None = TEMPLATE) -> PreTrainedTokenizerFast:
    """One token per byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({token: number for number, token in enumerate([*SPECIAL, *alphabet])}, []))
    backend.add_special_tokens(SPECIAL)
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<e>", pad_token="<pad>", padding_side="left", chat_template=template
    )


def _model(name: str = "llama") -> PreTrainedModel:
    torch.manual_seed(3)
    config = copy.deepcopy(CONFIGS[name])
    config.update({"eos_token_id": 1, "pad_token_id": 0, "bos_token_id": None, "initializer_range": 0.4, "tie_word_embeddings": False})
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def _prompts(count: int = 48) -> list[list[dict[str, str]]]:
    """Chats under three shot prompts, their questions of many lengths, in mixed order."""
    draw = random.Random(5)
    prompts = []
    for number in range(count):
        shots = [("system", "Answer."), ("user", f"Question: {number % 3}?"), ("assistant", f"Answer: {'xyz'[number % 3] * 4}")]
        question = "".join(draw.choices("abcdefgh ijkl", k=draw.randint(1, 30)))
        prompts.append([{"role": role, "content": content} for role, content in [*shots, ("user", f"Question: {question}")]])
    return prompts


def _plain(model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast, prompts: list[list[dict[str, str]]]) -> list[str]:
    texts = []
    for messages in prompts:
        ids = torch.tensor(Chat(tokenizer).prompt_ids([messages]))
        with torch.no_grad():
            made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS, do_sample=False)  # type: ignore[operator]
        texts.append(tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True))
    return texts


def _generator(model: torch.nn.Module, batch_size: int = 16, stop_at_newline: bool = False) -> HFGenerator:
    return HFGenerator(model, _tokenizer(), max_new_tokens=NEW_TOKENS, stop_at_newline=stop_at_newline, batch_size=batch_size)


def _texts(answers: list[Generation]) -> list[str]:
    return [answer.text for answer in answers]


def _save_adapter(folder: Path, targets: list[str], seed: int = 0) -> str:
    model = _model()
    torch.manual_seed(seed)
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=targets, init_lora_weights=False))
    adapted.save_pretrained(str(folder))
    return str(folder)


@pytest.mark.parametrize("name", CONFIGS)
def test_generate_of_each_architecture_equals_plain_generation(name: str, caplog: pytest.LogCaptureFixture) -> None:
    model, prompts = _model(name), _prompts()

    answers = _generator(model).generate(prompts)

    assert _texts(answers) == _plain(model, _tokenizer(), prompts)
    assert len(set(_texts(answers))) > 20  # the models do tell the prompts apart
    assert "computed anew" not in caplog.text  # all of them share what their prompts share


def test_generate_with_a_stop_at_newline_equals_plain_text_cut_at_the_end_of_its_first_line() -> None:
    model, prompts = _model(), _prompts()
    with torch.no_grad():
        model.get_output_embeddings().weight[_tokenizer().encode("\n")[0]] *= 1.6  # newlines become frequent

    answers = _generator(model, stop_at_newline=True).generate(prompts)

    plain = _plain(model, _tokenizer(), prompts)
    ends = [first_line_end(text) for text in plain]
    assert _texts(answers) == [text[:end] for text, end in zip(plain, ends, strict=True)]
    assert any(text[0] == "\n" for text in _texts(answers) if text)  # the blank lines before an answer do not end it
    assert {answer.finish_reason for answer in answers} >= {FinishReason.NEWLINE, FinishReason.LENGTH}
    assert all((end is not None) == (answer.finish_reason is FinishReason.NEWLINE) for end, answer in zip(ends, answers, strict=True))


def test_generate_reports_why_and_after_how_many_tokens_an_answer_ends() -> None:
    model = _model()
    with torch.no_grad():
        model.get_output_embeddings().weight[1] *= 1.6  # the end token becomes frequent

    answers = _generator(model).generate(_prompts())

    assert {answer.finish_reason for answer in answers} == {FinishReason.STOP, FinishReason.LENGTH}
    assert all(answer.tokens == NEW_TOKENS for answer in answers if answer.finish_reason is FinishReason.LENGTH)
    assert any(answer.tokens < NEW_TOKENS for answer in answers)


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_generate_at_any_batch_size_gives_the_same_answers_in_the_order_asked(name: str) -> None:
    model, prompts = _model(name), _prompts()

    one_by_one = _generator(model, batch_size=1).generate(prompts)
    backwards = _generator(model, batch_size=40).generate(prompts[::-1])

    assert one_by_one == backwards[::-1]


def test_generate_out_of_memory_halves_the_batch_and_gives_the_same_answers(caplog: pytest.LogCaptureFixture) -> None:
    model, prompts = _model(), _prompts()
    expected = _generator(model).generate(prompts)

    def fits_so_many(module: torch.nn.Module, args: tuple[object, ...], inputs: dict[str, torch.Tensor]) -> None:
        if inputs["input_ids"].numel() > 110:  # one whole prompt fits, the questions of five do
            raise torch.OutOfMemoryError("more than 110 tokens")

    model.register_forward_pre_hook(fits_so_many, with_kwargs=True)

    assert _generator(model).generate(prompts) == expected
    assert "out of memory with 16 rows in a pass, continuing with 8" in caplog.text
    assert "out of memory with 8 rows in a pass, continuing with 4" in caplog.text


def test_generate_out_of_memory_with_a_single_row_raises() -> None:
    model = _model()

    def never_fits(*_: object) -> None:
        raise torch.OutOfMemoryError("no memory at all")

    model.register_forward_pre_hook(never_fits)

    with pytest.raises(torch.OutOfMemoryError, match="no memory at all"):
        _generator(model).generate(_prompts(4))


def test_generate_tells_who_listens_of_every_answer_while_it_makes_the_others() -> None:
    generator = _generator(_model())
    heard: list[tuple[int, int]] = []
    generator.on_answered = lambda answers: heard.append((answers, generator.work.passes))

    generator.generate(_prompts(48))

    assert sum(answers for answers, _ in heard) == 48
    assert heard[0][1] < heard[-1][1] == generator.work.passes


def test_generate_computes_a_shared_prefix_once_for_many_calls() -> None:
    model, prompts = _model(), _prompts()
    read: list[int] = []
    generator = _generator(model)
    shared = generator.generate(prompts[:6]) and generator.work.prefix_tokens
    model.register_forward_pre_hook(lambda _, __, inputs: read.append(inputs["input_ids"].numel()), with_kwargs=True)

    answers = generator.generate(prompts[6:])

    assert shared > 3 * 35  # three shot prompts
    assert generator.work.prefix_tokens == shared
    assert sum(read) < len(prompts[6:]) * (36 + NEW_TOKENS)  # questions and answers alone
    assert answers == _generator(_model()).generate(prompts)[6:]


def test_generate_reads_the_label_of_the_answers_with_the_question_and_counts_it_as_far_as_the_model_says_it() -> None:
    model, prompts = _model(), _prompts()
    label = _tokenizer().encode("Answer:")
    with torch.no_grad():  # a model that begins every answer with the label's first tokens, then goes its own way
        head = model.get_output_embeddings().weight
        head[label[0]] *= 1.6

    generator = _generator(model)

    assert _texts(generator.generate(prompts)) == _plain(model, _tokenizer(), prompts)
    assert any(answer.text.startswith("A") for answer in generator.generate(prompts))


def test_generate_of_attention_that_looks_elsewhere_is_found_out_and_asked_the_plain_way(caplog: pytest.LogCaptureFixture) -> None:
    model, prompts = _model(), _prompts(12)
    for layer in model.model.layers:
        layer.self_attn.scaling = -layer.self_attn.scaling
        own = layer.self_attn.forward
        # Not told to the exchanged attention: the model's own scales otherwise.
        layer.self_attn.forward = lambda *args, own=own, attn=layer.self_attn, **inputs: _scaled_unless_packed(own, attn, args, inputs)

    answers = _generator(model).generate(prompts)

    assert _texts(answers) == _plain(model, _tokenizer(), prompts)
    assert "packed prompts give other logits than its own attention" in caplog.text


def _scaled_unless_packed(own: Any, attention: Any, args: Any, inputs: Any) -> Any:
    usual = attention.scaling
    attention.scaling = usual if attention.config._attn_implementation == "kp_packed" else -usual
    try:
        return own(*args, **inputs)
    finally:
        attention.scaling = usual


def test_sample_by_the_same_seed_gives_the_same_answers_whatever_is_asked_beside_it() -> None:
    model, prompts = _model(), _prompts(20)
    seeds = list(range(len(prompts)))

    together = _generator(model).sample(prompts, 5, 0.9, seeds)
    alone = [_generator(model, batch_size=3).sample([prompts[place]], 5, 0.9, [seeds[place]])[0] for place in (0, 7, 19)]

    assert [together[place] for place in (0, 7, 19)] == alone
    assert _generator(model).sample(prompts, 5, 0.9, [seed + 1 for seed in seeds]) != together
    assert len({answer.text for answer in together[0]}) > 1


def test_sample_draws_tokens_as_often_as_the_softmax_says() -> None:
    model, prompt, count = _model(), _prompts(1), 1500
    ids = torch.tensor(Chat(_tokenizer()).prompt_ids([prompt[0]]))
    with torch.no_grad():
        expected = (model(ids).logits[0, -1] / 0.7).softmax(-1)
    generator = HFGenerator(model, _tokenizer(), max_new_tokens=1, stop_at_newline=False)

    (drawn,) = generator.sample(prompt, count, 0.7, [11])

    written = _tokenizer().batch_decode([[token] for token in range(len(expected))], skip_special_tokens=True)
    for text in {written[int(token)] for token in expected.topk(3).indices}:
        probability = sum(float(expected[token]) for token, other in enumerate(written) if other == text)
        assert sum(answer.text == text for answer in drawn) / count == pytest.approx(probability, abs=0.05)


def test_load_adapter_swaps_adapters_and_gives_back_the_very_base(tmp_path: Path) -> None:
    first = _save_adapter(tmp_path / "first", ["down_proj", "up_proj"], seed=1)
    second = _save_adapter(tmp_path / "second", ["q_proj"], seed=2)
    prompts, generator = _prompts(24), _generator(_model())
    base = generator.generate(prompts)

    answers = {}
    for path in (first, second, first):
        generator.load_adapter(path)
        answers[path] = _texts(generator.generate(prompts))
    generator.load_adapter(None)

    for path in (first, second):
        assert answers[path] == _plain(peft.PeftModel.from_pretrained(_model(), path).eval(), _tokenizer(), prompts)
        assert answers[path] != _texts(base)
    assert answers[first] != answers[second]
    assert generator.generate(prompts) == base


def test_load_adapter_reads_a_folder_whose_adapter_has_changed(tmp_path: Path) -> None:
    prompts, generator = _prompts(12), _generator(_model())
    answers = []
    for seed in (1, 2):
        generator.load_adapter(_save_adapter(tmp_path / "adapter", ["down_proj"], seed=seed))
        answers.append(_texts(generator.generate(prompts)))

    assert answers[0] != answers[1]
    assert answers[1] == _plain(peft.PeftModel.from_pretrained(_model(), str(tmp_path / "adapter")).eval(), _tokenizer(), prompts)


def test_load_adapter_of_a_folder_without_one_raises_and_keeps_the_present_one(tmp_path: Path) -> None:
    generator = _generator(_model())
    generator.load_adapter(_save_adapter(tmp_path / "adapter", ["down_proj"]))
    before = generator.generate(_prompts(6))

    with pytest.raises(UserError, match=r"nowhere: has no adapter_config\.json"):
        generator.load_adapter(str(tmp_path / "nowhere"))

    assert generator.generate(_prompts(6)) == before


def test_load_adapter_made_for_a_deeper_model_raises_and_leaves_the_base(tmp_path: Path) -> None:
    config = copy.deepcopy(CONFIGS["llama"])
    config.num_hidden_layers = 5
    deeper = peft.get_peft_model(AutoModelForCausalLM.from_config(config), peft.LoraConfig(r=2, target_modules=["down_proj"]))
    deeper.save_pretrained(str(tmp_path))
    generator = _generator(_model())
    base = generator.generate(_prompts(6))

    with pytest.raises(UserError, match="other modules"):
        generator.load_adapter(str(tmp_path))

    assert generator.generate(_prompts(6)) == base


def test_generate_in_the_midst_of_training_uses_the_present_weights_and_leaves_modes_and_gradients_alone() -> None:
    lora = peft.LoraConfig(r=4, target_modules=["down_proj", "q_proj"], lora_dropout=0.5, init_lora_weights=False)
    model, prompts = peft.get_peft_model(_model(), lora), _prompts(12)
    generator = _generator(model)
    model.train()
    model.base_model.model.lm_head.eval()
    modes = {name: module.training for name, module in model.named_modules()}
    attention = model.config._attn_implementation

    for _ in range(2):
        model(input_ids=torch.arange(20)[None], labels=torch.arange(20)[None]).loss.backward()
        gradients = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}

        answers = generator.generate(prompts)

        assert {name: module.training for name, module in model.named_modules()} == modes
        assert model.config._attn_implementation == attention
        assert gradients
        assert all(torch.equal(weight.grad, gradients[name]) for name, weight in model.named_parameters() if weight.grad is not None)
        assert _texts(answers) == _plain(copy.deepcopy(model).eval(), _tokenizer(), prompts)
        with torch.no_grad():
            for weight in model.parameters():
                weight += 0.05 * torch.randn_like(weight) * weight.requires_grad


def test_generate_beyond_the_positions_of_the_model_raises() -> None:
    long_chat = [{"role": "user", "content": "x" * 250}]

    with pytest.raises(UserError, match="253 tokens and 12 new ones exceed the 256 positions"):
        _generator(_model()).generate([long_chat])


def test_generate_without_prompts_gives_no_answers() -> None:
    assert _generator(_model()).generate([]) == []


def test_generate_of_chats_that_share_nothing_equals_plain_generation() -> None:
    model, tokenizer = _model(), _tokenizer(template=None)
    prompts = [[{"role": "user", "content": text}] for text in ("abc", "def gh", "i", "abd")]

    answers = HFGenerator(model, tokenizer, max_new_tokens=NEW_TOKENS, stop_at_newline=False).generate(prompts)

    assert _texts(answers) == _plain(model, tokenizer, prompts)
