"""Whether kp's attention is a model's own on this device: its fused kernels number by number, and answers of many families.

In float32 answers must equal those of `model.generate` on one prompt at a time. In bfloat16 the two round differently and neither is right;
there a family must pass kp's own comparison of logits, or it would answer the slow way, and the share of equal answers is told.
"""

import argparse
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch

from kp.bench.implementations import plain_answer
from kp.bench.subject import Subject
from kp.generation.attention_kernels import Kernel
from kp.generation.hf import HFGenerator
from kp.metrics.agreement import agreement
from tests.unit import test_attention_families as families
from tests.unit import test_generation as generation

WIDTHS, KEYS, QUERIES = (8, 64, 128), (33, 512), (1, 40)
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 3e-2}
"""Of outputs and weights of a kernel, beside the same in float32 products: what rounding explains."""

PROMPTS = 6


@dataclass(frozen=True)
class KernelError:
    """The largest difference of a kernel from float32 products, in outputs and in logarithms of denominators."""

    dtype: str
    width: int
    keys: int
    queries: int
    biased: bool
    output: float
    weight: float
    allowed: float

    @property
    def passes(self) -> bool:
        """Whether rounding explains it; NaN does not pass."""
        return self.output <= self.allowed and self.weight <= self.allowed


@dataclass(frozen=True)
class FamilyAnswers:
    """A family in one dtype: answers, equal ones, and whether its prompts share what they have in common."""

    family: str
    dtype: str
    answers: int
    equal: int
    shares: bool
    must_share: bool

    @property
    def passes(self) -> bool:
        """See the module."""
        return self.shares == self.must_share and (self.equal == self.answers or self.dtype != str(torch.float32))


def kernel_errors(device: str) -> Iterator[KernelError]:
    """Every kernel that passes of a model use, on random numbers."""
    torch.manual_seed(5)
    for dtype, width, keys, queries, biased in product(TOLERANCES, WIDTHS, KEYS, QUERIES, (False, True)):
        columns = -(-keys // 8) * 8 if biased else keys  # a pass pads what it masks
        query, key, value = (torch.randn(2, 4, length, width, device=device, dtype=dtype) for length in (queries, columns, columns))
        bias = _bias(queries, columns, device, dtype) if biased else None
        kernel = Kernel(width**-0.5, None)
        output, weight = kernel(query, key, value, bias)
        expected = kernel.by_products(query.float(), key.float(), value.float(), None if bias is None else bias.float())
        differences = (_largest(output, expected[0]), _largest(weight, expected[1]))
        yield KernelError(str(dtype), width, columns, queries, biased, *differences, TOLERANCES[dtype])


def _bias(queries: int, keys: int, device: str, dtype: torch.dtype) -> torch.Tensor:
    """Some keys hidden from each query, never all."""
    hidden = torch.rand(2, 1, queries, keys, device=device) < 0.3
    bias = torch.zeros(hidden.shape, device=device, dtype=dtype).masked_fill_(hidden, float("-inf"))
    bias[..., 0] = 0
    return bias


def _largest(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one.float() - other.float()).abs().max())


def family_answers(name: str, dtype: torch.dtype, device: str) -> FamilyAnswers:
    """Answers of a tiny random model of this family."""
    model: Any = families._model(name).to(device=device, dtype=dtype)
    subject, prompts = Subject(name, None, None, model, generation._tokenizer()), generation._prompts(PROMPTS)
    with _warnings() as said:
        made = HFGenerator(model, subject.tokenizer, generation.NEW_TOKENS, batch_size=4).generate(prompts)
    plain = [plain_answer(subject, prompt, generation.NEW_TOKENS) for prompt in prompts]
    found = agreement([answer.text for answer in made], plain)
    shares = not any("computed anew" in line for line in said)
    return FamilyAnswers(name, str(dtype), found.n, found.equal, shares, name not in families.PLAIN)


@contextmanager
def _warnings() -> Iterator[list[str]]:
    said: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    handler, logger = Kept(logging.WARNING), logging.getLogger("kp")
    logger.addHandler(handler)
    try:
        yield said
    finally:
        logger.removeHandler(handler)


def main(arguments: list[str] | None = None) -> int:
    """Run the step; exits with 1 if something differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--families", nargs="*", default=list(families.FAMILIES))
    parser.add_argument("--json", type=Path, required=True)
    asked = parser.parse_args(arguments)
    kernels = list(kernel_errors(asked.device))
    answers = [family_answers(name, dtype, asked.device) for name in asked.families for dtype in TOLERANCES]
    result = {
        "device": asked.device,
        "kernels": [asdict(one) | {"passes": one.passes} for one in kernels],
        "families": [asdict(one) | {"passes": one.passes} for one in answers],
    }
    asked.json.write_text(json.dumps(result), encoding="utf-8")
    return 0 if all(one.passes for one in [*kernels, *answers]) else 1


if __name__ == "__main__":
    sys.exit(main())
