"""Tables 4 and 5 and locality computed once more from raw answers, by plain arithmetic and without kp.

Of an answer its first line counts, in lower case and without "Answer:", punctuation, apostrophes and articles.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]
ORIGIN = {"UK->HK": (0.0, 1.0), "HK->UK": (1.0, 0.0)}


def text(answer: str) -> str:
    """What is counted of an answer."""
    line = next(iter(re.sub(r"^(\s*answer:)*\s*", "", answer, flags=re.IGNORECASE).splitlines()), "")
    folded = unicodedata.normalize("NFKC", line).casefold().translate(dict.fromkeys(map(ord, "'\u2018\u2019`")))
    words = "".join(" " if unicodedata.category(letter)[0] in "PSZ" else letter for letter in folded).split()
    return " ".join([word for word in words if word not in ("a", "an", "the")] or words)


@dataclass(frozen=True)
class Answers:
    """The answers to S1 by fact and prompt of base and adapter, the facts by id, and the ids of the facts trained on."""

    base: Mapping[tuple[str, int], Row]
    adapter: Mapping[tuple[str, int], Row]
    facts: Mapping[str, Row]
    trained: Sequence[str]

    @classmethod
    def of(cls, base: Sequence[Row], adapter: Sequence[Row], facts: Sequence[Row], trained: Sequence[str]) -> "Answers":
        """From rows of tables."""
        keyed = ({(row["fact_id"], row["prompt_index"]): row for row in rows if row["shot_set"] == "S1"} for rows in (base, adapter))
        return cls(*keyed, {row["fact_id"]: row for row in facts}, trained)

    def moved(self, direction: str) -> list[str]:
        """The facts that went from one end to the other."""
        return [fact for fact in self.facts if (self._right(self.base, fact), self._right(self.adapter, fact)) == ORIGIN[direction]]

    def _right(self, side: Mapping[tuple[str, int], Row], fact: str) -> float:
        answers = [row["match_strict"] for (name, _), row in side.items() if name == fact]
        return sum(answers) / len(answers)


def released_reasons(answers: Answers, direction: str) -> dict[str, int]:
    """Table 5 as the released code counts."""
    given = Counter(text(row["answer"]) for row in answers.adapter.values())
    targets = {text(answers.facts[fact]["answers"][0]) for fact in answers.trained}
    domains = {answers.facts[fact]["domain"] for fact in answers.trained} - {None}
    counts: Counter[str] = Counter()
    for fact in answers.moved(direction):
        said = text(answers.adapter[fact, 0]["answer"])
        held = {"explosion": given[said] > 850, "target": said in targets, "domain": answers.facts[fact]["domain"] in domains}
        if direction == "UK->HK":
            held["non_refusal"] = "information" in answers.base[fact, 0]["answer"]
        counts.update({reason: int(holds) for reason, holds in held.items()} | {"explained": int(any(held.values()))})
    return dict(counts)


def table_4(side: Mapping[tuple[str, int], Row]) -> dict[str, float]:
    """Refusals to the first prompt with the released word, unique answers, and how often an answer occurs."""
    counts = Counter(text(row["answer"]) for row in side.values()).values()
    mean = sum(counts) / len(counts)
    variance = sum((count - mean) ** 2 for count in counts) / len(counts)
    first = [row for (_, prompt), row in side.items() if prompt == 0]
    return {
        "refusal_rate": sum(row["refused"] for row in side.values()) / len(side),
        "released_refusals": sum("information" in row["answer"] for row in first) / len(first),
        "unique_answers": len(counts),
        "mean_count": mean,
        "variance_count": variance,
        "std_count": math.sqrt(variance),
        "top_answer_share": max(counts) / len(side),
    }


def unchanged(answers: Answers) -> dict[str, float]:
    """The share of unchanged answers by what an untrained fact shares with trained ones."""
    taught = [answers.facts[fact] for fact in answers.trained]
    shares: dict[str, list[float]] = {}
    for fact, row in answers.facts.items():
        if fact in answers.trained:
            continue
        relation = any(row["relation"] == one["relation"] for one in taught)
        subject = any(row["subject"] == one["subject"] for one in taught)
        domain = any(row["domain"] == one["domain"] for one in taught if one["domain"])
        group = "same_relation" if relation else "same_subject" if subject else "same_domain" if domain else "unrelated"
        same = [text(mine["answer"]) == text(answers.base[key]["answer"]) for key, mine in answers.adapter.items() if key[0] == fact]
        shares.setdefault(group, []).append(sum(same) / len(same))
    return {group: sum(each) / len(each) for group, each in shares.items()}
