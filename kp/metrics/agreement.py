"""How often two ways of answering the same questions give equal answers, compared as strings.

It uses only the standard library, so that a benchmark can use it on a machine without kp's other packages.
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
    """Compare the answers pairwise by position; raises ValueError if the lengths differ or if there are no answers."""
    if len(answers_a) != len(answers_b) or not answers_a:
        raise ValueError(f"{len(answers_a)} answers cannot be compared with {len(answers_b)}")
    return Agreement(len(answers_a), sum(a == b for a, b in zip(answers_a, answers_b, strict=True)))
