"""Arithmetic counted by formula against arithmetic counted by torch."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig

from kp.bench.flops import model_size, operations
from kp.bench.options import DType, Shape
from kp.bench.subject import SHAPES, random_model
from kp.generation.decoding import Work
from tests.tiny_model import tiny_llama


def test_model_size_of_a_tiny_llama_counts_matrices_without_embedding_and_head() -> None:
    size = model_size(tiny_llama())

    per_layer = 32 * 32 + 2 * 32 * 16 + 32 * 32 + 3 * 32 * 48  # queries, keys and values, output; gate, up and down
    assert (size.body, size.head, size.attention) == (2 * per_layer, 261 * 32, 2 * 32)


def test_model_size_of_llama_3_1_8b_is_that_of_the_published_model() -> None:
    model = random_model(LlamaConfig(**SHAPES[Shape.LLAMA_3_1_8B]), DType.BFLOAT16, "meta")

    size = model_size(model)

    assert sum(weight.numel() for weight in model.parameters()) == 8_030_261_248
    assert (size.body, size.head, size.attention) == (6_979_321_856, 525_336_576, 32 * 4096)
    assert model.dtype is torch.bfloat16


def test_operations_of_a_whole_pass_equal_those_that_torch_counts() -> None:
    model, rows, length = tiny_llama(), 3, 50
    model.set_attn_implementation("eager")  # type: ignore[operator]
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        model(input_ids=torch.arange(rows * length).reshape(rows, length))

    size, work = model_size(model), Work(prompt_tokens=rows * length, logits=rows * length)
    formula = operations(size, work, prompts=rows, prefixes=0, prompt_tokens=length)

    # torch counts each token against all of its row, the formula against what it sees, which is half.
    unseen = 4 * size.attention * rows * length * length / 2
    rotary = counted.get_total_flops() - formula - unseen  # the angles are made by a product of their own
    assert 0 <= rotary < 0.001 * formula


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        (Work(prefix_tokens=100), 4 * 100 * 100 / 2),  # each of one prefix sees half of it
        (Work(prompt_tokens=20), 4 * 20 * (110 - 10 / 2)),  # two questions of 10 tokens behind 100
        (Work(answer_tokens=12), 4 * 12 * (110 + 6 / 2)),  # two answers of 6 tokens behind 110
        (Work(logits=7), 0),
    ],
)
def test_operations_of_attention_follow_the_keys_that_are_seen(work: Work, expected: float) -> None:
    size = model_size(tiny_llama())
    attention = operations(size, work, prompts=2, prefixes=1, prompt_tokens=110) - 2 * size.body * work.tokens - 2 * size.head * work.logits

    assert attention == pytest.approx(expected * size.attention)
