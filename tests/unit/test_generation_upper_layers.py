"""Adapters of upper layers, evaluated from what the layers below them computed once, against plain one-at-a-time generation."""

import copy
from pathlib import Path
from typing import Any

import peft
import pytest
import torch

from kp.errors import UserError
from kp.generation.activations import ActivationCache
from kp.generation.adapters import WEIGHTS_FILE, first_adapted_layer, first_layer
from kp.generation.hf import HFGenerator
from kp.generation.loaded_adapters import LoadedAdapters
from tests.unit.test_generation import CONFIGS, NEW_TOKENS, _model, _plain, _prompts, _texts, _tokenizer

TARGETS = {"gpt2": "c_fc", "gpt_neox": "dense_h_to_4h"}
PROMPTS = _prompts(24)


def _generator(model: Any, **options: Any) -> HFGenerator:
    return HFGenerator(model, _tokenizer(), max_new_tokens=NEW_TOKENS, stop_at_newline=False, batch_size=16, **options)


def _adapted(name: str, layers: list[int] | None, seed: int, strength: float = 1.0) -> Any:
    """A model with a random adapter; one of little strength changes few answers."""
    torch.manual_seed(seed)
    config = peft.LoraConfig(
        r=4,
        lora_alpha=int(16 * strength),
        target_modules=[TARGETS.get(name, "down_proj")],
        layers_to_transform=layers,
        init_lora_weights=False,
    )
    return peft.get_peft_model(_model(name), config).eval()


def _saved(folder: Path, name: str, layers: list[int] | None, seed: int, strength: float = 1.0) -> str:
    _adapted(name, layers, seed, strength).save_pretrained(str(folder))
    return str(folder)


def _expected(path: str, name: str = "llama") -> list[str]:
    return _plain(peft.PeftModel.from_pretrained(_model(name), path).eval(), _tokenizer(), PROMPTS)


@pytest.mark.parametrize("name", CONFIGS)
def test_answers_of_upper_adapters_equal_plain_generation_after_the_base_and_after_each_other(name: str, tmp_path: Path) -> None:
    paths = [
        _saved(tmp_path / "strong", name, [2], seed=1),
        _saved(tmp_path / "weak", name, [2], seed=2, strength=0.07),
        _saved(tmp_path / "two", name, [1, 2], seed=3),
        _saved(tmp_path / "all", name, None, seed=4),
    ]
    expected = {path: _expected(path, name) for path in paths}
    base = _plain(_model(name), _tokenizer(), PROMPTS)
    generator = _generator(_model(name))

    for path in (None, *paths, paths[0], None, *paths[::-1]):
        generator.load_adapter(path)
        assert _texts(generator.generate(PROMPTS)) == (base if path is None else expected[path])

    changed = [sum(one != other for one, other in zip(expected[path], base, strict=True)) for path in paths]
    assert changed[0] > changed[1]
    assert 0 < changed[1] < len(PROMPTS)


def test_the_lower_layers_read_a_prompt_for_the_first_adapter_alone(tmp_path: Path) -> None:
    model: Any = _model()
    generator = _generator(model)
    read: dict[int, int] = {}
    for number, layer in enumerate(model.model.layers):
        layer.mlp.register_forward_hook(
            lambda module, inputs, output, number=number: read.update({number: read.get(number, 0) + inputs[0].shape[1]})
        )
    lower = []
    for seed in (1, 2):
        generator.load_adapter(_saved(tmp_path / str(seed), "llama", [2], seed))
        read.clear()
        before = generator.work.lower_tokens
        answers = generator.generate(PROMPTS)
        lower.append(read[0])
        # Trying whether the model can be entered is not counted.
        assert generator.work.lower_tokens - before <= read[0] < read[2] + 3 * 64
    assert lower[1] <= sum(answer.tokens for answer in answers) < lower[0] / 2


def test_samples_are_those_of_a_generator_that_was_asked_nothing_before(tmp_path: Path) -> None:
    path, seeds = _saved(tmp_path / "one", "llama", [2], seed=1), list(range(len(PROMPTS)))
    asked, fresh = _generator(_model()), _generator(_model())
    asked.generate(PROMPTS)
    for generator in (asked, fresh):
        generator.load_adapter(path)
    asked.generate(PROMPTS)
    assert asked.sample(PROMPTS, 2, 0.9, seeds) == fresh.sample(PROMPTS, 2, 0.9, seeds)


def test_bytes_held_are_those_of_all_tokens_below_the_layer_and_of_the_prefixes_above_it(tmp_path: Path) -> None:
    generator = _generator(_model())
    assert generator.activations.bytes_held == 0
    generator.load_adapter(_saved(tmp_path / "one", "llama", [2], seed=1))
    answers, work = generator.generate(PROMPTS), generator.work
    decoded = sum(answer.tokens for answer in answers) - len(answers)  # at most: as far as a label was said, it was read with the prompt
    kv = 4 * 2 * 2 * 8  # float32, keys and values of two heads of 8, in one layer
    held = generator.activations.bytes_held - work.prefix_tokens * kv
    assert (work.lower_tokens - decoded) * (4 * 32 + 2 * kv) <= held <= work.lower_tokens * (4 * 32 + 2 * kv)
    generator.activations.clear()
    assert generator.activations.bytes_held == 0


@pytest.mark.parametrize("most_bytes", [0, 20_000, 200_000])
def test_a_small_cache_stays_within_its_bytes_and_changes_no_answer(most_bytes: int, tmp_path: Path) -> None:
    cache = ActivationCache(most_bytes)
    generator = _generator(_model(), activations=cache)
    paths = [_saved(tmp_path / str(seed), "llama", [2], seed) for seed in (1, 2)]
    for start in (0, 8, 16):
        for path in paths:
            generator.load_adapter(path)
            answers = generator.generate(PROMPTS[start : start + 8])
            assert _texts(answers) == _expected(path)[start : start + 8]
            assert cache.bytes_held <= most_bytes


def test_what_was_used_least_recently_is_dropped_as_a_whole() -> None:
    cache = ActivationCache(100)
    cache.keep({"a": 1, "b": 2}, 60)
    cache.keep({"c": 3}, 40)
    assert cache.find("a") == 1
    cache.keep({"d": 4}, 40)
    assert [cache.find(key) for key in "abcd"] == [1, 2, None, 4]
    cache.keep({"b": 5}, 50)
    assert [cache.find(key) for key in "abcd"] == [None, 5, None, 4]
    cache.keep({"e": 6}, 101)
    assert cache.find("e") is None
    assert cache.bytes_held == 90


@pytest.mark.parametrize("through_data", [False, True])
def test_a_base_whose_weights_have_changed_is_computed_anew(through_data: bool, tmp_path: Path) -> None:
    base = _model()
    generator = _generator(base)
    path = _saved(tmp_path / "one", "llama", [2], seed=1)
    generator.load_adapter(path)
    before = _texts(generator.generate(PROMPTS))
    changed = _model()
    for model in (base, changed):
        weights = model.model.layers[0].mlp.gate_proj
        weights = getattr(weights, "base_layer", weights).weight
        if through_data:
            weights.data *= 1.5
        else:
            with torch.no_grad():
                weights *= 1.5
    generator.forget_prefixes()
    after = _texts(generator.generate(PROMPTS))
    assert after == _plain(peft.PeftModel.from_pretrained(changed, path).eval(), _tokenizer(), PROMPTS)
    assert after != before


def test_a_cache_that_served_another_model_is_emptied(tmp_path: Path) -> None:
    cache, path = ActivationCache(), _saved(tmp_path / "one", "llama", [2], seed=1)
    other = _model()
    with torch.no_grad():
        other.get_input_embeddings().weight *= -1
    for model in (other, _model()):
        generator = _generator(model, activations=cache)
        generator.load_adapter(path)
        answers = _texts(generator.generate(PROMPTS))
    assert answers == _expected(path)


def test_out_of_memory_in_the_lower_layers_halves_the_pass_and_gives_the_same_answers(tmp_path: Path) -> None:
    path = _saved(tmp_path / "one", "llama", [2], seed=1)
    model = _model()

    def fits_so_many(module: torch.nn.Module, args: tuple[object, ...], inputs: dict[str, torch.Tensor]) -> None:
        if inputs["input_ids"].numel() > 110:
            raise torch.OutOfMemoryError("more than 110 tokens")

    model.register_forward_pre_hook(fits_so_many, with_kwargs=True)
    generator = _generator(model)
    for _ in range(2):
        generator.load_adapter(path)
        assert _texts(generator.generate(PROMPTS)) == _expected(path)


def test_a_model_that_cannot_be_entered_is_asked_from_its_first_layer_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, model = _saved(tmp_path / "one", "llama", [2], seed=1), _model()
    reference = peft.PeftModel.from_pretrained(_model(), path).eval()
    for one in (model, reference.get_base_model()):
        seen: list[torch.Tensor] = []
        one.get_input_embeddings().register_forward_hook(lambda *_, seen=seen: seen.clear())
        one.model.layers[0].mlp.register_forward_hook(lambda module, inputs, output, seen=seen: seen.append(output))
        one.model.layers[2].mlp.register_forward_hook(lambda module, inputs, output, seen=seen: output + 3 * seen[0] if seen else output)
    generator = _generator(model)
    generator.load_adapter(path)
    assert _texts(generator.generate(PROMPTS)) == _plain(reference, _tokenizer(), PROMPTS)
    assert "cannot be run from layer 2" in caplog.text


def test_a_model_in_training_uses_the_cache_that_it_is_given_and_its_present_weights() -> None:
    model, cache = _adapted("llama", [2], seed=1), ActivationCache()
    lower = []
    for epoch in range(3):
        model.train()
        generator = _generator(model, activations=cache)  # anew each time, as after each epoch
        answers = generator.generate(PROMPTS)
        assert _texts(answers) == _plain(copy.deepcopy(model).eval(), _tokenizer(), PROMPTS), epoch
        lower.append(generator.work.lower_tokens - sum(answer.tokens for answer in answers))
        with torch.no_grad():
            for weight in model.parameters():
                if weight.requires_grad:
                    weight += 0.01 * torch.randn_like(weight)
    assert lower[0] > 0 >= lower[1]
    assert lower[2] <= 0
    without = _generator(model)
    without.generate(PROMPTS)
    assert without.work.lower_tokens == 0


def test_first_adapted_layer_is_the_lowest_with_weights(tmp_path: Path) -> None:
    assert first_adapted_layer(Path(_saved(tmp_path / "upper", "llama", [2, 1], 0))) == 1
    assert first_adapted_layer(Path(_saved(tmp_path / "all", "llama", None, 0))) == 0
    assert first_layer(["base_model.model.model.layers.12.mlp.experts.3.w1.lora_A.weight", "base_model.model.model.layers.14.mlp.w1"]) == 12
    assert first_layer(["base_model.model.lm_head.weight", "base_model.model.model.layers.14.mlp.w1"]) == 0
    assert first_layer([]) == 0


def test_adapters_stay_loaded_up_to_a_number_and_are_read_again_after_that(tmp_path: Path) -> None:
    paths = [Path(_saved(tmp_path / str(seed), "llama", [2], seed)) for seed in range(3)]
    adapters = LoadedAdapters(_model(), most=2)
    ids = torch.arange(20)[None]
    expected = [peft.PeftModel.from_pretrained(_model(), str(path)).eval()(ids).logits for path in paths]
    wrapped = set()
    for place in (0, 1, 0, 1, 2, 0, 2, 1):
        adapters.activate(paths[place])
        torch.testing.assert_close(adapters.model(ids).logits, expected[place])
        assert len(getattr(adapters.model, "peft_config")) <= 2  # noqa: B009 - mypy knows no such attribute of a module
        wrapped.add(id(adapters.model))
    assert len(wrapped) == 1
    adapters.activate(None)
    torch.testing.assert_close(adapters.model(ids).logits, _model()(ids).logits, rtol=0, atol=0)


def test_an_adapter_that_cannot_share_the_model_is_loaded_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    model = peft.get_peft_model(
        _model(), peft.LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"], init_lora_weights=False)
    )
    with torch.no_grad():
        model.base_model.model.lm_head.modules_to_save["default"].weight *= 1.5
    model.save_pretrained(str(tmp_path / "whole"))
    plain, adapters, ids = Path(_saved(tmp_path / "one", "llama", [2], 1)), LoadedAdapters(_model()), torch.arange(20)[None]
    for path in (plain, tmp_path / "whole", plain, tmp_path / "whole"):
        adapters.activate(path)
        expected = peft.PeftModel.from_pretrained(_model(), str(path)).eval()(ids).logits
        torch.testing.assert_close(adapters.model(ids).logits, expected, rtol=1e-4, atol=1e-4)  # PEFT adds up in another order
        assert adapters.first_layer == (2 if path == plain else 0)
    adapters.activate(None)
    torch.testing.assert_close(adapters.model(ids).logits, _model()(ids).logits, rtol=0, atol=0)


def test_an_adapter_that_replaces_biases_of_the_base_is_refused(tmp_path: Path) -> None:
    config = peft.LoraConfig(r=2, target_modules=["c_fc"], bias="all")
    peft.get_peft_model(_model("gpt2"), config).save_pretrained(str(tmp_path))
    with pytest.raises(UserError, match="replaces biases"):
        LoadedAdapters(_model("gpt2")).activate(tmp_path)


def test_adapter_whose_weights_cannot_be_read_is_refused_by_its_folder(tmp_path: Path) -> None:
    (tmp_path / WEIGHTS_FILE).write_bytes(b"\x10\x00")
    with pytest.raises(UserError, match=rf"adapter {tmp_path}: {WEIGHTS_FILE} cannot be read"):
        first_adapted_layer(tmp_path)
