"""Where the paper's text (arXiv 2502.14502), its released code and a careful study differ, and which side a study took.

A point that a field decides is judged by that field's value, so that an override on the command line is seen as well as a preset. Other
points kp decides the same way in every study. Numbers are those of docs/paper.md.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Config = Mapping[str, Any]  # a resolved study as nested plain values


class Side(StrEnum):
    """Whose choice a study made."""

    PAPER = "paper"
    RELEASED = "released"
    RIGOROUS = "rigorous"


PAPER, RELEASED, RIGOROUS = Side.PAPER, Side.RELEASED, Side.RIGOROUS
Rule = Callable[[Any], bool]


def _is(value: Any) -> Rule:
    return lambda found: bool(found == value)


def _given(found: Any) -> bool:
    return found is not None


def _above_zero(found: Any) -> bool:
    return bool(found > 0)


def _of_trivia(found: Any) -> bool:
    return "trivia" in str(found).casefold()


def _other_shots(found: Any) -> bool:
    return not _of_trivia(found)


@dataclass(frozen=True)
class Discrepancy:
    """One point: what each side says of it, and by which field a study takes a side.

    `rules` says for each side whether a value of the field is its choice. Without a field, `always` is what kp does.
    """

    number: int
    point: str
    paper: str
    released: str
    rigorous: str
    field: str | None = None
    rules: tuple[tuple[Side, Rule], ...] = ()
    always: str = ""

    def value(self, config: Config) -> Any:
        """The field's value in a study; None if it has no such field."""
        found: Any = config
        for part in (self.field or "").split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        return found

    def sides(self, config: Config) -> tuple[Side, ...]:
        """The sides whose choice the study made; empty if it made its own, or if no field decides."""
        return tuple(side for side, rule in self.rules if rule(self.value(config)))


DISCREPANCIES = (
    Discrepancy(
        1, "batch size", "16", "8", "16, swept", "training.batch_size", ((PAPER, _is(16)), (RELEASED, _is(8)), (RIGOROUS, _is(16)))
    ),
    Discrepancy(
        2, "LoRA scaling", "rank 1, alpha 2", "alpha 2 x rank under rsLoRA: the scale grows with the rank", "a fixed alpha over the rank",
        "training.use_rslora", ((PAPER, _is(False)), (RELEASED, _is(True)), (RIGOROUS, _is(False))),
    ),
    Discrepancy(
        4, "which Unknown facts", "at random", "the first of the file, whatever the seed", "seeded, nested, over relations in turn",
        "search.draw", ((PAPER, _is("stratified")), (RELEASED, _is("file_order")), (RIGOROUS, _is("stratified"))),
    ),
    Discrepancy(
        5, "pool of Unknown facts", "all", "up to 500: those with exactly 100 paraphrases; beyond: those with any", "the same at every N",
        always="all Unknown facts that pass the checks",
    ),
    Discrepancy(
        6, "source of replayed facts", "DBpedia or TriviaQA", "the first of the studied facts; two sizes of 3,000 become one run",
        "a source that is not measured", "search.replay_source", ((PAPER, _given), (RELEASED, _is(None)), (RIGOROUS, _given)),
    ),
    Discrepancy(
        7, "target of replayed facts", "the answer", "the first alias", "what the model itself says",
        "search.replay_target", ((PAPER, _is("gold")), (RELEASED, _is("first_alias")), (RIGOROUS, _is("self"))),
    ),
    Discrepancy(
        8, "held-out paraphrases", "none", "none", "some, for generality",
        "evaluate.held_out_paraphrases", ((PAPER, _is(0)), (RELEASED, _is(0)), (RIGOROUS, _above_zero)),
    ),
    Discrepancy(
        9, "tokens with a loss", "not said", "all of the chat, the question too", "the answer's",
        "training.loss", ((RELEASED, _is("full_text")), (RIGOROUS, _is("answer"))),
    ),
    Discrepancy(
        10, "few-shot examples", "TriviaQA, 10 prompts of 4", "the first 40 of TriviaQA, in lower case", "three disjoint sets",
        "categorise.shots", ((PAPER, _of_trivia), (RELEASED, _of_trivia), (RIGOROUS, _other_shots)),
    ),
    Discrepancy(
        11, "shots that give a studied fact away", "not said", "not looked for", "replaced and reported", always="replaced and reported"
    ),
    Discrepancy(12, "special tokens", "not said", "a second one at the start of every prompt", "one", always="one"),
    Discrepancy(
        13, "WeaklyKnown facts", "no such category", "a category by mistake: a missing answer is read letter by letter",
        "where answers were sampled", "categorise.samples", ((PAPER, _is(0)), (RIGOROUS, _above_zero)),
    ),
    Discrepancy(
        14, "right answers", "the answer or an alias inside the response", "a substring of the lower-cased response, its label included",
        "whole words of a first line that commits to the answer",
        "categorise.matcher", ((RELEASED, _is("released")), (RIGOROUS, _is("strict"))),
    ),
    Discrepancy(
        15, "refusals", "patterns", "one word, in the first prompt", "a written list, in all prompts",
        always="a written list, in all prompts",
    ),
    Discrepancy(
        16, "facts in shifts", "not said", "trained ones too", "trained and untrained apart", always="both: all facts, and untrained ones"
    ),
    Discrepancy(
        18, "spread of answer counts", "called variance", "a standard deviation", "both, each by its name", always="both, each by its name"
    ),
    Discrepancy(
        20, "what a seed decides", "not said", "the order of the data", "facts, LoRA init, order and dropout",
        always="facts (unless drawn in file order), LoRA init, order and dropout",
    ),
    Discrepancy(
        21, "facts for choosing and for reporting", "the trained facts", "the trained facts", "control facts, two halves",
        "facts.control_share", ((PAPER, _is(0)), (RELEASED, _is(0)), (RIGOROUS, _above_zero)),
    ),
    Discrepancy(
        22, "layout of a batch", "not said", "padded rows", "shared beginnings read once: the same loss, other dropout masks",
        "training.packing", ((RELEASED, _is("padded")), (RIGOROUS, _is("prefix_tree"))),
    ),
    Discrepancy(
        23, "number of facts", "21,036", "a script keeps 200", "all that pass the checks",
        "facts.count", ((PAPER, _is(None)), (RIGOROUS, _is(None))),
    ),
    Discrepancy(24, "aliases", "of Wikidata", "joined and split at commas", "lists", always="lists"),
)  # fmt: skip


def switched_on(config: Config) -> list[int]:
    """The numbers of the points on which a study follows the released code alone."""
    return [point.number for point in DISCREPANCIES if point.sides(config) == (Side.RELEASED,)]
