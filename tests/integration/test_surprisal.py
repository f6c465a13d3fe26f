"""The surprisal of answers equals what the model's own pass over one row says, however many rows are read together; tiny models."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from kp.config.study import ModelConfig
from kp.generation import surprisal
from kp.generation.slots import NotShareableError
from kp.generation.surprisal import Surprisal, surprisals
from kp.models.chat import Chat
from kp.models.loading import load_model, load_tokenizer, resolve_model
from kp.prompts import training_messages

ASKED = [("Who made the bell?", "Anna Berg"), ("Who made the bell?", "Otto"), ("Where is it?", "in a far land"), ("When?", "1901")]


@pytest.fixture(scope="module")
def loaded(model: Path) -> tuple[Any, Chat]:
    base = resolve_model(ModelConfig(name=str(model)))
    return load_model(base, "float32", "cpu"), Chat(load_tokenizer(base))


def one_row(model: Any, chat: Chat, question: str, answer: str) -> Surprisal:
    """From the model's own logits over the whole row; the label's tokens are found by their text."""
    ids, _ = chat.row_ids(training_messages(question, answer))
    with torch.no_grad():
        logs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    bits = [-logs[place - 1, token].item() / math.log(2) for place, token in enumerate(ids) if place]
    greedy = [bool(logs[place - 1].argmax() == token) for place, token in enumerate(ids) if place]
    end = len(ids) - 1
    start = next(place for place in range(len(ids)) if chat.tokenizer.decode(ids[:place]).rstrip().endswith("Answer:"))
    return Surprisal(sum(bits[start - 1 : end - 1]), bits[end - 1], end - start, all(greedy[start - 1 : end - 1]))


def assert_equal(found: list[Surprisal], expected: list[Surprisal]) -> None:
    assert [(one.tokens, one.is_greedy) for one in found] == [(one.tokens, one.is_greedy) for one in expected]
    for name in ("bits", "end_bits"):
        assert [getattr(one, name) for one in found] == pytest.approx([getattr(one, name) for one in expected], abs=1e-4)


def test_surprisals_are_those_of_the_models_own_pass_over_each_row(loaded: tuple[Any, Chat]) -> None:
    found = surprisals(*loaded, ASKED, 16)
    assert_equal(found, [one_row(*loaded, *pair) for pair in ASKED])
    assert all(one.bits > 0 and one.end_bits > 0 and one.tokens > 0 for one in found)


def test_surprisals_do_not_depend_on_what_is_read_together(loaded: tuple[Any, Chat]) -> None:
    together = surprisals(*loaded, ASKED, 16)
    assert_equal(together, surprisals(*loaded, ASKED, 1))
    assert_equal(together, [surprisals(*loaded, [pair], 16)[0] for pair in ASKED])
    assert_equal(together[::-1], surprisals(*loaded, ASKED[::-1], 16))


def test_model_whose_attention_cannot_be_shared_is_read_row_by_row(loaded: tuple[Any, Chat], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = surprisals(*loaded, ASKED, 16)

    def refuse(*_: object) -> None:
        raise NotShareableError("recurrent layers")

    monkeypatch.setattr(surprisal, "LikelihoodScorer", refuse)
    assert_equal(surprisals(*loaded, ASKED, 16), expected)


def test_adapter_that_changes_nothing_leaves_every_bit(loaded: tuple[Any, Chat], model: Path) -> None:
    expected = surprisals(*loaded, ASKED, 16)
    base = load_model(resolve_model(ModelConfig(name=str(model))), "float32", "cpu")
    null = get_peft_model(base, LoraConfig(r=2, target_modules=["up_proj"])).eval()  # B begins at 0
    assert_equal(surprisals(null, loaded[1], ASKED, 16), expected)
