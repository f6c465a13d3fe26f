"""Which facts a trial trains on, and what its rows teach.

A fact's place in the order of its pool comes from a hash of the seed and the fact's id, not from a random generator: it is the same with
every version of every library and whatever the order of the table. A trial takes the head of that order, so the 10 facts of one trial are
among the 40 of the next, and a curve over N compares like with like.

What goes in beside the Unknown facts is told in one place, `_COMPANIONS`: another pool is a count on Mixture, a Role, and an entry there.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl

from kp.categories import refuse_repeated_facts
from kp.errors import UserError
from kp.matching import first_line
from kp.schema import TRAINING_ROWS
from kp.vocabulary import Category, Draw, ReplayTarget, Role, ShotSet

_Fact = dict[str, Any]  # a FACTS row


@dataclass(frozen=True)
class Mixture:
    """The data mix of one trial."""

    unknown: int  # N, Unknown facts
    highly_known: int  # HighlyKnown facts per Unknown fact
    maybe_known: int  # MaybeKnown facts per Unknown fact
    paraphrases: int  # paraphrased questions per Unknown fact, beside the original one
    held_out_paraphrases: int  # the last of each Unknown fact's paraphrases, which are never trained on
    draw: Draw
    replay_target: ReplayTarget
    seed: int

    @property
    def replayed(self) -> int:
        """Facts per Unknown fact that the base knows to some degree."""
        return self.highly_known + self.maybe_known

    @property
    def rows(self) -> int:
        """Training rows an epoch."""
        return self.unknown * (1 + self.replayed + self.paraphrases)


@dataclass(frozen=True)
class _Companion:
    """A pool of facts that the base knows to some degree, and how many of them stand beside each Unknown fact."""

    role: Role
    category: Category
    per_unknown: Callable[[Mixture], int]
    field: str  # the config field that asks for them


_COMPANIONS = (
    _Companion(Role.HIGHLY_KNOWN, Category.HIGHLY_KNOWN, lambda mixture: mixture.highly_known, "search.arms.highly_known"),
    _Companion(Role.MAYBE_KNOWN, Category.MAYBE_KNOWN, lambda mixture: mixture.maybe_known, "search.arms.maybe_known"),
)


def draw_rows(mixture: Mixture, facts: pl.DataFrame, categories: pl.DataFrame, answers: pl.DataFrame) -> pl.DataFrame:
    """The TRAINING_ROWS of a trial: Unknown facts, their paraphrases, then the facts replayed beside them, each in the order drawn.

    `facts` is the FACTS table, `categories` the base's CATEGORIES on S0 by one matcher, or its SLICK, by which WeaklyKnown facts are in no
    pool, `answers` the base's ANSWERS on S0.
    Raises UserError where a pool or a fact's paraphrases are too few, or where the tables do not belong together.
    """
    _refuse_strangers(facts, categories)
    unknown = _take(mixture, facts, categories, Category.UNKNOWN, mixture.unknown, "search.unknown")
    rows = [_row(fact, Role.UNKNOWN, fact["question"], fact["answers"][0]) for fact in unknown]
    rows.extend(_paraphrase_rows(unknown, mixture.paraphrases))
    for companion in _COMPANIONS:
        count = companion.per_unknown(mixture) * mixture.unknown
        if count:
            drawn = _take(mixture, facts, categories, companion.category, count, companion.field)
            targets = _replay_targets(mixture.replay_target, drawn, answers)
            rows.extend(_row(fact, companion.role, fact["question"], target) for fact, target in zip(drawn, targets, strict=True))
    return pl.DataFrame(rows).with_row_index("row").select(TRAINING_ROWS.names).cast({"row": pl.Int32})


def _take(mixture: Mixture, facts: pl.DataFrame, categories: pl.DataFrame, wanted: Category, count: int, field: str) -> list[_Fact]:
    ids = categories.filter(pl.col("category") == wanted.value)["fact_id"].to_list()
    pool = facts.filter(pl.col("fact_id").is_in(ids))
    if pool.height < count:
        has = f"the base has {pool.height}{_set_apart(categories, wanted)}"
        raise UserError(f"{field}: {_asked_for(mixture, count)} {wanted} facts asked for, but {has}")
    return _ordered(pool, mixture).head(count).to_dicts()


def _set_apart(categories: pl.DataFrame, wanted: Category) -> str:
    weakly = categories.filter(pl.col("category") == Category.WEAKLY_KNOWN.value).height
    return f" ({weakly} more are {Category.WEAKLY_KNOWN})" if weakly and wanted is Category.UNKNOWN else ""


def _asked_for(mixture: Mixture, count: int) -> str:
    return str(count) if count == mixture.unknown else f"{count // mixture.unknown} x {mixture.unknown} = {count}"


def _ordered(pool: pl.DataFrame, mixture: Mixture) -> pl.DataFrame:
    if mixture.draw is Draw.FILE_ORDER:
        return pool
    keyed = pool.with_columns(
        pl.Series("key", [_key(mixture.seed, fact_id) for fact_id in pool["fact_id"]], dtype=pl.String),
        pl.Series("relation_key", [_key(mixture.seed, relation) for relation in pool["relation"]], dtype=pl.String),
    ).sort("key")
    # Round robin: the first fact of every relation, then the second of every relation that has one, ...
    return keyed.with_columns(pl.int_range(pl.len()).over("relation").alias("turn")).sort("turn", "relation_key").select(pool.columns)


def _key(seed: int, name: str) -> str:
    return hashlib.blake2b(f"{seed}\n{name}".encode(), digest_size=16).hexdigest()


def _paraphrase_rows(unknown: list[_Fact], count: int) -> Iterator[dict[str, str]]:
    for fact in unknown:
        if len(fact["paraphrases"]) < count:
            raise UserError(
                f"search.arms.paraphrases: {count} paraphrases asked for, but fact '{fact['fact_id']}' has {len(fact['paraphrases'])}"
            )
        for question in fact["paraphrases"][:count]:
            yield _row(fact, Role.PARAPHRASE, question, fact["answers"][0])


def _replay_targets(target: ReplayTarget, drawn: list[_Fact], answers: pl.DataFrame) -> list[str]:
    if target is ReplayTarget.GOLD:
        return [fact["answers"][0] for fact in drawn]
    if target is ReplayTarget.FIRST_ALIAS:
        return [fact["answers"][min(1, len(fact["answers"]) - 1)] for fact in drawn]
    said = _first_prompt_answers(answers)
    for fact in drawn:
        if not said.get(fact["fact_id"]):
            raise UserError(
                f"answers: fact '{fact['fact_id']}' has no text in answer to prompt 0 of S0, which replay_target 'self' teaches"
            )
    return [said[fact["fact_id"]] for fact in drawn]


def _first_prompt_answers(answers: pl.DataFrame) -> dict[str, str]:
    first = answers.filter((pl.col("shot_set") == ShotSet.S0.value) & (pl.col("prompt_index") == 0))
    if first["fact_id"].is_duplicated().any():
        raise UserError("answers: column 'fact_id': a fact has more than one answer to prompt 0 of S0, expected those of one model")
    return {fact_id: first_line(answer) for fact_id, answer in first.select("fact_id", "answer").iter_rows()}


def _refuse_strangers(facts: pl.DataFrame, categories: pl.DataFrame) -> None:
    refuse_repeated_facts(categories)
    missing = sorted(set(categories["fact_id"]) - set(facts["fact_id"]))
    if missing:
        raise UserError(f"categories: fact '{missing[0]}' is not in the facts table")


def _row(fact: _Fact, role: Role, question: str, target: str) -> dict[str, str]:
    return {"fact_id": fact["fact_id"], "role": role.value, "question": question, "target": target}
