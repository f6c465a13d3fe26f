"""How often two ways of answering the same questions answer the same, string for string.

Needs the standard library alone, since a benchmark on a machine without kp's other packages compares its implementations with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Agreement:
    """`equal` of `n` pairs are the same."""

    n: int
    equal: int

    @property
    def share(self) -> float:
        """Equal pairs over all pairs, 0 to 1."""
        return self.equal / self.n


def agreement(answers_a: Sequence[str], answers_b: Sequence[str]) -> Agreement:
    """Pairs of the same place compared; ValueError where the two are not of one length, or hold nothing that could be compared."""
    if len(answers_a) != len(answers_b) or not answers_a:
        raise ValueError(f"{len(answers_a)} answers cannot be compared with {len(answers_b)}")
    return Agreement(len(answers_a), sum(a == b for a, b in zip(answers_a, answers_b, strict=True)))
