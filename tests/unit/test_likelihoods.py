"""Log-likelihoods of continuations, compared with the model's own pass over each sequence alone."""

import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, FalconConfig, Gemma2Config, MistralConfig, PretrainedConfig

from kp.generation.likelihoods import LEAST_BEGINNING, Context, Likelihood, LikelihoodScorer, beginning_lengths
from kp.generation.slots import NotShareableError
from tests.model_zoo import ARCHITECTURES, FAMILIES, zoo_model, zoo_tokenizer

VOCABULARY = 250
UNSHAREABLE = {"falcon", "mixtral", "gpt_oss"}
WINDOWED: dict[str, PretrainedConfig] = {
    name: kind(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
        vocab_size=VOCABULARY,
        sliding_window=16,
        pad_token_id=0,
        initializer_range=0.4,
    )
    for name, kind in (("mistral", MistralConfig), ("gemma2", Gemma2Config))
}
FP32 = 1e-4  # nats
BF16 = 0.3


def contexts(subjects: int = 3, questions: int = 4) -> list[Context]:
    """Questions behind long shots, one subject without shots; single tokens and longer continuations, some of which begin alike."""
    draw = random.Random(1)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(draw.randrange(3, VOCABULARY) for _ in range(count))

    made = []
    for subject in range(subjects):
        shots = tokens(60 * subject)
        for question in range(questions):
            longer = tokens(3)
            made.append(Context(shots + tokens(7 + 5 * question), (tokens(1), tokens(1), longer, (*longer[:2], *tokens(4)))))
    draw.shuffle(made)
    return made


def own_likelihood(model: Any, context: Sequence[int], continuation: Sequence[int]) -> Likelihood:
    with torch.no_grad():
        logits = model(torch.tensor([[*context, *continuation]])).logits[0, len(context) - 1 : -1].float()
    target = torch.tensor(continuation)
    log = torch.log_softmax(logits, dim=-1).gather(1, target[:, None]).sum()
    return Likelihood(float(log), bool((logits.argmax(dim=-1) == target).all()))


def own(model: Any, asked: Sequence[Context]) -> list[list[Likelihood]]:
    return [[own_likelihood(model, context.ids, tokens) for tokens in context.continuations] for context in asked]


def greedy_ends(model: Any, asked: Sequence[Context]) -> list[Context]:
    """The same contexts with the model's own greedy continuation, so that some are greedy."""
    ended = []
    for context in asked:
        ids = list(context.ids)
        for _ in range(3):
            with torch.no_grad():
                ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        ended.append(Context(context.ids, (*context.continuations, tuple(ids[len(context.ids) :]))))
    return ended


def assert_equal(found: list[list[Likelihood]], expected: list[list[Likelihood]], tolerance: float = FP32) -> None:
    pairs = [pair for one, other in zip(found, expected, strict=True) for pair in zip(one, other, strict=True)]
    assert max(abs(one.log - other.log) for one, other in pairs) <= tolerance
    if tolerance == FP32:
        assert [one.is_greedy for one, _ in pairs] == [other.is_greedy for _, other in pairs]


@pytest.fixture(scope="module")
def llama() -> Any:
    return zoo_model("llama", zoo_tokenizer(FAMILIES["chatml"]))


@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name not in UNSHAREABLE])
def test_likelihoods_of_every_shareable_architecture_equal_the_models_own(architecture: str) -> None:
    model = zoo_model(architecture, zoo_tokenizer(FAMILIES["chatml"]))
    asked = greedy_ends(model, contexts())

    found = LikelihoodScorer(model, 8).score(asked)

    assert_equal(found, own(model, asked))
    assert all(likelihoods[-1].is_greedy for likelihoods in found)
    assert not all(likelihoods[0].is_greedy for likelihoods in found)


@pytest.mark.parametrize("architecture", sorted(UNSHAREABLE))
def test_likelihoods_of_other_attention_are_refused(architecture: str) -> None:
    model = zoo_model(architecture, zoo_tokenizer(FAMILIES["chatml"]))
    with pytest.raises(NotShareableError):
        LikelihoodScorer(model, 8).score(contexts())


def test_likelihoods_of_alibi_are_refused() -> None:
    config = FalconConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, vocab_size=VOCABULARY, alibi=True)
    with pytest.raises(NotShareableError):
        LikelihoodScorer(AutoModelForCausalLM.from_config(config), 8).score(contexts())


@pytest.mark.parametrize("name", sorted(WINDOWED))
def test_likelihoods_behind_shots_longer_than_the_window_equal_the_models_own(name: str) -> None:
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(WINDOWED[name], dtype=torch.float32).eval()
    assert_equal(LikelihoodScorer(model, 8).score(contexts()), own(model, contexts()))


class Untold:
    """A model's config without its window."""

    sliding_window = None

    def __init__(self, config: Any) -> None:
        self._config = config

    def __getattr__(self, name: str) -> Any:
        return getattr(self._config, name)


def test_likelihoods_of_a_window_that_attention_is_not_told_of_are_refused() -> None:
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(WINDOWED["mistral"], dtype=torch.float32).eval()
    for layer in model.model.layers:
        layer.self_attn.config = Untold(model.config)  # only the mask of the model's own attention has the window now
    with pytest.raises(NotShareableError, match="other logits than its own"):
        LikelihoodScorer(model, 8).score(contexts())


def test_likelihoods_in_bfloat16_equal_the_models_own_within_a_tolerance(llama: Any) -> None:
    config = llama.config
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    model.load_state_dict({name: weight * 0.2 if weight.ndim > 1 else weight for name, weight in llama.state_dict().items()})
    assert_equal(LikelihoodScorer(model, 8).score(contexts()), own(model, contexts()), BF16)


def test_likelihoods_of_parts_equal_those_of_the_whole(llama: Any) -> None:
    asked = contexts()
    whole = LikelihoodScorer(llama, 8).score(asked)
    parts = [LikelihoodScorer(llama, 3).score(asked[start::3]) for start in range(3)]
    assert_equal([parts[place % 3][place // 3] for place in range(len(asked))], whole)


def test_likelihoods_read_every_shared_token_once(llama: Any) -> None:
    asked = contexts()
    scorer = LikelihoodScorer(llama, 64)
    scorer.score(asked)
    cuts = beginning_lengths([context.ids for context in asked])
    beginnings = {context.ids[:cut] for context, cut in zip(asked, cuts, strict=True)}
    rests = sum(len(context.ids) - cut for context, cut in zip(asked, cuts, strict=True))
    assert sorted(map(len, beginnings)) == [0, 60, 120]
    shortest = min(len(context.longest) - cut for context, cut in zip(asked, cuts, strict=True))
    assert scorer.work.answer_tokens == sum(len(tokens) - 1 for context in asked for tokens in context.continuations)
    assert scorer.work.prefix_tokens + scorer.work.prompt_tokens == 180 + rests + 2 * shortest, "one is read twice more, to be verified"


def test_likelihoods_after_a_change_of_adapter_are_those_of_the_new_one(llama: Any) -> None:
    torch.manual_seed(1)
    model = get_peft_model(
        zoo_model("llama", zoo_tokenizer(FAMILIES["chatml"])),
        LoraConfig(r=4, target_modules=["q_proj", "up_proj"], init_lora_weights=False),
    )
    model.add_adapter("other", LoraConfig(r=4, target_modules=["k_proj", "down_proj"], init_lora_weights=False))
    model.eval()
    scorer, asked = LikelihoodScorer(model, 8), contexts()
    found = []
    for adapter in ("default", "other", "default"):
        model.set_adapter(adapter)
        found.append(scorer.score(asked))
        assert_equal(found[-1], own(model, asked))
    assert abs(found[0][0][0].log - found[1][0][0].log) > 0.01


def test_likelihoods_out_of_memory_continue_with_smaller_passes(caplog: pytest.LogCaptureFixture) -> None:
    model = zoo_model("llama", zoo_tokenizer(FAMILIES["chatml"]))
    asked = contexts(subjects=1)
    expected = own(model, asked)

    def fits_so_many(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if kwargs["input_ids"].numel() > 30:
            raise torch.OutOfMemoryError("more than 30 tokens")

    model.register_forward_pre_hook(fits_so_many, with_kwargs=True)

    assert_equal(LikelihoodScorer(model, 8).score(asked), expected)
    assert "out of memory with 4 rows in a pass, continuing with 2" in caplog.text


def test_likelihoods_out_of_memory_with_a_single_row_raise() -> None:
    model = zoo_model("llama", zoo_tokenizer(FAMILIES["chatml"]))
    scorer, asked = LikelihoodScorer(model, 8), contexts(subjects=1)
    scorer.score(asked)

    def never_fits(*_: object) -> None:
        raise torch.OutOfMemoryError("no memory at all")

    model.register_forward_pre_hook(never_fits)
    with pytest.raises(torch.OutOfMemoryError, match="no memory at all"):
        scorer.score(asked)


def test_likelihoods_of_nothing_are_none(llama: Any) -> None:
    assert LikelihoodScorer(llama, 8).score([]) == []


def test_beginning_lengths_are_what_groups_have_in_common_if_it_is_long() -> None:
    shots, others = list(range(LEAST_BEGINNING)), list(range(100, 200))
    asked = [[*shots, 7, 8], [*shots, 9], [*others, 1], [*others, 1, 2], [*others, 3], [5, 6, 7, 8, 9, 10, 1], [5, 6, 7, 8, 9, 10, 2]]
    assert beginning_lengths(asked) == [LEAST_BEGINNING, LEAST_BEGINNING, 100, 100, 100, 0, 0]
