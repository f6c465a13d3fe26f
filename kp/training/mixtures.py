"""Which facts a trial trains on, and what its rows teach.

A fact's position in its pool comes from a hash of the seed and the fact's id, not from a random generator: it is the same with every
version of every library and for any order of the table. A trial takes the first facts of that order, so the 10 facts of one trial are among
the 40 of the next, and a curve over N compares like with like.

What is added to the Unknown facts is defined in one place, `_COMPANIONS`: another pool needs a count on Arm, a Role, and an entry there.
Facts that the base knows may come from a different source; then a measured fact is never replayed. Control facts are in no pool.

Arms use a fact's paraphrases from the start of its list, and generality is measured on those at its end (kp.metrics.generality), so that
arms share what they hold out as far as a fact's paraphrases reach.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl

from kp.errors import UserError
from kp.metrics.categories import validate_unique_facts
from kp.metrics.matching import first_line
from kp.schema import TRAINING_ROWS
from kp.store.draws import draw_key
from kp.training.spec import TrialSpec
from kp.vocabulary import Category, Draw, ReplayShortfall, ReplayTarget, Role, ShotSet

_Fact = dict[str, Any]  # a FACTS row


@dataclass(frozen=True)
class Source:
    """Facts to draw from, with the base's categories and answers on S0: the studied ones, or those of another source."""

    facts: pl.DataFrame  # FACTS
    categories: pl.DataFrame  # CATEGORIES by one matcher, or SLICK
    answers: pl.DataFrame  # ANSWERS
    control: frozenset[str] = frozenset()  # ids of facts that no trial may draw
    elsewhere: bool = False  # whether it is `search.replay_source`


@dataclass(frozen=True)
class _Companion:
    """A pool of facts that the base knows to some degree, and how many of them are added per Unknown fact."""

    role: Role
    category: Category
    per_unknown: Callable[[TrialSpec], int]
    field: str  # the config field that requests them


_COMPANIONS = (
    _Companion(Role.HIGHLY_KNOWN, Category.HIGHLY_KNOWN, lambda spec: spec.arm.highly_known, "search.arms.highly_known"),
    _Companion(Role.MAYBE_KNOWN, Category.MAYBE_KNOWN, lambda spec: spec.arm.maybe_known, "search.arms.maybe_known"),
)


def draw_rows(
    spec: TrialSpec,
    facts: pl.DataFrame,
    categories: pl.DataFrame,
    answers: pl.DataFrame,
    replay: Source | None = None,
    control: Collection[str] = (),
    shortfall: ReplayShortfall = ReplayShortfall.REFUSE,
) -> pl.DataFrame:
    """The TRAINING_ROWS of a trial: Unknown facts, their paraphrases, then the replayed facts, each in the order drawn.

    `facts` is the FACTS table, `categories` the base's CATEGORIES on S0 by one matcher or its SLICK (WeaklyKnown facts are in no pool), and
    `answers` the base's ANSWERS on S0. `replay` is the other source of replayed facts, if the study has one. `control` has the ids of facts
    that are kept out of training. Raises UserError if a pool or a fact's paraphrases are too few, or if the tables do not belong together;
    with `shortfall` USE_ALL, too few known facts are no error.
    """
    _validate_categories(facts, categories)
    studied = Source(facts, categories, answers, frozenset(control))
    pool = _pool(studied, Category.UNKNOWN)
    if pool.height < spec.unknown:
        raise _shortfall(spec, spec.unknown, Category.UNKNOWN, "search.unknown", pool, studied)
    unknown = _ordered(pool, spec).head(spec.unknown).to_dicts()
    _validate_paraphrase_count(spec, unknown)
    rows = [_row(fact, Role.UNKNOWN, fact["question"], fact["answers"][0]) for fact in unknown]
    rows.extend(_paraphrase_rows(unknown, spec.arm.paraphrases))
    if replay is None:
        rows.extend(_replay_rows(spec, studied, shortfall))
    else:
        _validate_categories(replay.facts, replay.categories)
        _validate_replayed_facts(replay.facts, facts)
        rows.extend(_replay_rows(spec, replay, shortfall))
    return pl.DataFrame(rows).with_row_index("row").select(TRAINING_ROWS.names).cast({"row": pl.Int32})


def _paraphrase_rows(unknown: list[_Fact], count: int) -> Iterator[dict[str, str]]:
    for fact in unknown:
        for question in fact["paraphrases"][:count]:
            yield _row(fact, Role.PARAPHRASE, question, fact["answers"][0])


def _replay_rows(spec: TrialSpec, replay: Source, shortfall: ReplayShortfall) -> Iterator[dict[str, str]]:
    """The rows of facts that the base knows."""
    for companion in _COMPANIONS:
        count = companion.per_unknown(spec) * spec.unknown
        if not count:
            continue
        pool = _pool(replay, companion.category)
        if pool.height < count and shortfall is ReplayShortfall.REFUSE:
            raise _shortfall(spec, count, companion.category, companion.field, pool, replay)
        drawn = _ordered(pool, spec).head(count).to_dicts()
        targets = _replay_targets(spec.settings.replay_target, drawn, replay.answers)
        for fact, target in zip(drawn, targets, strict=True):
            yield _row(fact, companion.role, fact["question"], target)


def _pool(source: Source, wanted: Category) -> pl.DataFrame:
    ids = set(source.categories.filter(pl.col("category") == wanted.value)["fact_id"]) - source.control
    return source.facts.filter(pl.col("fact_id").is_in(list(ids)))


def _shortfall(spec: TrialSpec, count: int, wanted: Category, field: str, pool: pl.DataFrame, source: Source) -> UserError:
    """The error with what would help: a source of replayed facts, fewer control facts, more facts, or another arm or N."""
    asked = str(count) if count == spec.unknown else f"{count // spec.unknown} x {spec.unknown} = {count}"
    of_category = set(source.categories.filter(category=wanted.value)["fact_id"])
    kept, unknown = len(of_category & source.control), wanted is Category.UNKNOWN
    notes = [f"{kept} more are control facts"] if kept else []
    notes += [_weakly_known(source.categories)] if unknown else []
    where = " in search.replay_source" if source.elsewhere else ""
    remark = "".join(f" ({note})" for note in notes if note)
    remedies = [] if unknown or source.elsewhere else ['draw them from elsewhere (search.replay_source = "builtin")']
    remedies += [f"lower facts.{'control_unknown_share' if unknown else 'control_share'}"] if kept else []
    remedies += [f"give more facts ({'search.replay_count' if source.elsewhere else 'facts.count'})", "lower search.unknown"]
    remedies += [] if unknown else ["ask for another mix"]
    advice = f"{', '.join(remedies[:-1])} or {remedies[-1]}"
    return UserError(f"{asked} {wanted} facts asked for, but the base has {pool.height}{where}{remark}; {advice}", field=field)


def _weakly_known(categories: pl.DataFrame) -> str:
    weakly = categories.filter(pl.col("category") == Category.WEAKLY_KNOWN.value).height
    return f"{weakly} more are {Category.WEAKLY_KNOWN}" if weakly else ""


def _ordered(pool: pl.DataFrame, spec: TrialSpec) -> pl.DataFrame:
    if spec.settings.draw is Draw.FILE_ORDER:
        return pool
    keyed = pool.with_columns(
        pl.Series("key", [draw_key(spec.seed, fact_id) for fact_id in pool["fact_id"]], dtype=pl.String),
        pl.Series("relation_key", [draw_key(spec.seed, relation) for relation in pool["relation"]], dtype=pl.String),
    ).sort("key")
    # Round robin: the first fact of every relation, then the second of every relation that has one, ...
    return keyed.with_columns(pl.int_range(pl.len()).over("relation").alias("turn")).sort("turn", "relation_key").select(pool.columns)


def _validate_paraphrase_count(spec: TrialSpec, unknown: list[_Fact]) -> None:
    wanted = spec.arm.paraphrases
    for fact in unknown:
        if len(fact["paraphrases"]) < wanted:
            message = f"{wanted} paraphrases asked for, but fact '{fact['fact_id']}' has {len(fact['paraphrases'])}"
            raise UserError(message, field="search.arms.paraphrases")


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


def _validate_categories(facts: pl.DataFrame, categories: pl.DataFrame) -> None:
    validate_unique_facts(categories)
    missing = sorted(set(categories["fact_id"]) - set(facts["fact_id"]))
    if missing:
        raise UserError(f"categories: fact '{missing[0]}' is not in the facts table")


def _validate_replayed_facts(replayed: pl.DataFrame, facts: pl.DataFrame) -> None:
    shared = sorted(set(replayed["fact_id"]) & set(facts["fact_id"]))
    if shared:
        raise UserError(f"fact '{shared[0]}' is among the studied facts ({len(shared)} such facts)", field="search.replay_source")


def _row(fact: _Fact, role: Role, question: str, target: str) -> dict[str, str]:
    return {"fact_id": fact["fact_id"], "role": role.value, "question": question, "target": target}
