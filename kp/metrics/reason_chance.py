"""What chance alone would explain of the facts that moved: baselines and permutation tests of the reasons domain and target.

Draws are seeded, so that the same tables give the same p-values. A p-value counts the study's own draw as one of the permutations:
(1 + draws that are at least as extreme) / (1 + draws), so it is never 0.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

DRAWS = 999
_CLOSE = 1e-9  # sums of the same numbers in another order are equal


@dataclass(frozen=True)
class Domains:
    """The trained domains, and the domain of each fact that could have moved and of each that did; None if it has none."""

    trained: frozenset[str]
    at_risk: Sequence[str | None]
    moved: Sequence[str | None]

    @property
    def baseline(self) -> float:
        """The share of the facts at risk whose domain is a trained one."""
        return sum(domain in self.trained for domain in self.at_risk) / len(self.at_risk)

    def p_value(self, draws: int = DRAWS, seed: int = 0) -> float | None:
        """One-sided: the chance of such an excess of moved facts in trained domains, if any other domains could have been these.

        None if no domain is trained, or if all are: then nothing could have been otherwise.
        """
        names = sorted({domain for domain in (*self.at_risk, *self.moved) if domain is not None} | self.trained)
        if not self.trained or len(names) == len(self.trained):
            return None
        expected = len(self.moved) / len(self.at_risk)
        excess = np.array([_count(self.moved, name) - expected * _count(self.at_risk, name) for name in names])
        observed = sum(excess[names.index(name)] for name in self.trained)
        random = np.random.default_rng(seed)
        drawn = np.array([random.permutation(excess)[: len(self.trained)].sum() for _ in range(draws)])
        return float((1 + np.count_nonzero(drawn >= observed - _CLOSE)) / (1 + draws))


@dataclass(frozen=True)
class Targets:
    """Unknown facts that were trained on or could have been: id, relation and answers (texts) of each, and which were."""

    fact_ids: Sequence[str]
    relations: Sequence[str]
    texts: Sequence[frozenset[str]]
    taught: Collection[str]

    @property
    def taught_texts(self) -> frozenset[str]:
        """What the trained facts answer."""
        owned = (texts for fact_id, texts in zip(self.fact_ids, self.texts, strict=True) if fact_id in self.taught)
        return frozenset().union(*owned)

    def chance(self, fact_ids: Sequence[str], texts: Sequence[str]) -> tuple[float | None, float | None]:
        """Baseline and one-sided p-value of the share of these answers, each of a fact, that a trained fact has; the mean over facts.

        Each draw puts other facts of its relation in the place of each trained one. A fact that is drawn itself does not count in that
        draw, like the trained ones in the study. None and None if no trained fact has another one of its relation beside it.
        """
        share = _Shares(self, fact_ids, texts)
        trained = np.array([fact_id in self.taught for fact_id in self.fact_ids], dtype=bool)
        if all(all(trained[members]) or not any(trained[members]) for members in self._members):
            return None, None
        observed = share.of(trained)
        random = np.random.default_rng(0)
        drawn = np.array([share.of(self._drawn(trained, random)) for _ in range(DRAWS)])
        return float(drawn.mean()), float((1 + np.count_nonzero(drawn >= observed - _CLOSE)) / (1 + DRAWS))

    @cached_property
    def _members(self) -> list[np.ndarray]:
        """The places of each relation's facts."""
        codes = np.unique(np.asarray(self.relations), return_inverse=True)[1] if self.relations else np.zeros(0, dtype=np.int64)
        return [np.flatnonzero(codes == code) for code in range(codes.max() + 1 if codes.size else 0)]

    def _drawn(self, trained: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """As many of each relation as are trained."""
        drawn = np.zeros_like(trained)
        for members in self._members:
            count = np.count_nonzero(trained[members])
            if count:
                drawn[random.permutation(members)[:count]] = True
        return drawn


class _Shares:
    """The answers of moved facts, and which facts of the pool have each of them."""

    def __init__(self, targets: Targets, fact_ids: Sequence[str], texts: Sequence[str]) -> None:
        places = {fact_id: place for place, fact_id in enumerate(targets.fact_ids)}
        names, self._fact = np.unique(np.asarray(fact_ids), return_inverse=True)
        spoken, self._text = np.unique(np.asarray(texts), return_inverse=True)
        self._own = np.array([places.get(str(name), -1) for name in names])  # in the pool, -1 if it is not in it
        self._answers = np.bincount(self._fact)
        numbers = {str(text): number for number, text in enumerate(spoken)}
        pairs = [
            (place, numbers[text]) for place, answers in enumerate(targets.texts) for text in sorted(answers) if text in numbers
        ]  # an owner in the pool, and its text
        self._owner, self._owned = (np.array([pair[side] for pair in pairs], dtype=np.int64) for side in (0, 1))
        self._spoken = spoken.size

    def of(self, trained: np.ndarray) -> float:
        """The mean over the facts that are not trained of the share of their answers that a trained fact has; 0 without such facts."""
        hit = np.zeros(self._spoken)
        hit[self._owned[trained[self._owner]]] = 1.0
        shares = np.bincount(self._fact, weights=hit[self._text]) / self._answers
        counted = ~((self._own >= 0) & trained[self._own])
        return float(shares[counted].mean()) if counted.any() else 0.0


def _count(domains: Sequence[str | None], name: str) -> int:
    return sum(domain == name for domain in domains)
