"""How much a category depends on the matcher that judged it.

Three matchers read the same answers, so any difference between them comes from the matcher and not from the model. To measure which of
them is too generous, every answer is compared with the answers of other facts of the same relation: they are of the same kind and the most
likely to be confused. Where `exact` matches, the answer does name another fact's object; whatever a matcher finds beyond that is its own
error.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import polars as pl

from kp.metrics.inspection_schema import FALSE_POSITIVES, MATCHER_TRANSITIONS, REFUSALS
from kp.metrics.matching import AnswerKey, Objects, normalise
from kp.metrics.result_schema import DISAGREEMENT
from kp.metrics.shifts import transitions
from kp.metrics.statistics import clustered_share_error
from kp.vocabulary import Matcher

OTHER_FACTS = 20  # of the same relation that an answer is compared with; a sample if the relation is larger
PAIRS = tuple(combinations(Matcher, 2))

_Row = dict[str, str | float | int | None]


def disagreement_table(answers: pl.DataFrame) -> pl.DataFrame:
    """The DISAGREEMENT of each pair of matchers over one model's ANSWERS: over all shot sets, then for each."""
    rows = [_disagreement(part, shot_set, first, second) for shot_set, part in _whole_and_parts(answers) for first, second in PAIRS]
    return _table(rows, DISAGREEMENT.names, ("rate", "standard_error"))


def matcher_transitions(categories: pl.DataFrame) -> pl.DataFrame:
    """The MATCHER_TRANSITIONS of one model's CATEGORIES: for each shot set, how many facts two matchers put into each pair of categories.

    Raises UserError where the matchers judged different facts.
    """
    tables = [
        transitions(judged.filter(matcher=first.value), judged.filter(matcher=second.value)).select(
            pl.lit(first.value).alias("first"),
            pl.lit(second.value).alias("second"),
            pl.lit(shot_set).alias("shot_set"),
            pl.col("before").alias("first_category"),
            pl.col("after").alias("second_category"),
            pl.col("count").alias("facts"),
        )
        for (shot_set,), judged in categories.sort("shot_set").group_by("shot_set", maintain_order=True)
        for first, second in PAIRS
    ]
    return pl.concat(tables).select(MATCHER_TRANSITIONS.names)


def refusal_table(answers: pl.DataFrame) -> pl.DataFrame:
    """The REFUSALS in one model's ANSWERS: for each shot set, then for each of its prompts."""
    rows = []
    for (shot_set,), asked in answers.sort("shot_set", "prompt_index").group_by("shot_set", maintain_order=True):
        rows.append(_refusals(asked, str(shot_set), None))
        rows += [_refusals(part, str(shot_set), int(prompt)) for (prompt,), part in asked.group_by("prompt_index", maintain_order=True)]
    return _table(rows, REFUSALS.names, ("rate", "standard_error")).with_columns(pl.col("prompt_index").cast(pl.Int32))


def false_positive_table(facts: pl.DataFrame, answers: pl.DataFrame, seed: int, others: int = OTHER_FACTS) -> pl.DataFrame:
    """The FALSE_POSITIVES of each matcher on one model's ANSWERS to `facts` (FACTS): over all relations, then in each.

    Each answer is compared with the aliases of up to `others` other facts of its relation, none of which shares an alias with the fact that
    was asked; if there are more, `seed` draws them. A rate is null if the relation has no such facts.
    """
    asked = facts.sort("relation", "fact_id")
    said = answers.group_by("fact_id", "answer").agg(pl.len().alias("times"))
    said_of = {fact: rows.select("answer", "times").rows() for (fact,), rows in said.group_by("fact_id")}
    counted = [
        _matches_of_others(fact_id, relation, said_of.get(fact_id, []), [keys[tuple(other)] for other in aliases])
        for (relation,), group in asked.group_by("relation", maintain_order=True)
        for keys in [_answer_keys(str(relation), group)]
        for fact_id, aliases in _other_aliases(dict(group.select("fact_id", "answers").iter_rows()), seed, others)
    ]
    per_fact = pl.DataFrame(counted, infer_schema_length=None)
    parts = [(None, per_fact), *((name, part) for (name,), part in per_fact.group_by("relation", maintain_order=True))]
    rows = [_false_positives(part, relation, matcher) for relation, part in parts for matcher in Matcher]
    return _table(rows, FALSE_POSITIVES.names, ("rate", "standard_error"))


def _whole_and_parts(answers: pl.DataFrame) -> Iterator[tuple[str | None, pl.DataFrame]]:
    yield None, answers
    for (shot_set,), part in answers.sort("shot_set").group_by("shot_set", maintain_order=True):
        yield str(shot_set), part


def _disagreement(answers: pl.DataFrame, shot_set: str | None, first: Matcher, second: Matcher) -> _Row:
    one, two = pl.col(f"match_{first}"), pl.col(f"match_{second}")
    only = answers.select((one & ~two).sum().alias("first_only"), (two & ~one).sum().alias("second_only")).row(0, named=True)
    where = {"first": first.value, "second": second.value, "shot_set": shot_set}
    return {**where, **only, **_share(answers.select("fact_id", (one != two).alias("is")))}


def _refusals(answers: pl.DataFrame, shot_set: str, prompt: int | None) -> _Row:
    share = _share(answers.select("fact_id", pl.col("refused").alias("is")))
    return {"shot_set": shot_set, "prompt_index": prompt, "refused": int(answers["refused"].sum()), **share}


def _share(answers: pl.DataFrame) -> _Row:
    """n, rate and standard error of the column `is`, clustered over `fact_id`."""
    per_fact = answers.group_by("fact_id").agg(pl.col("is").sum().alias("hits"), pl.len().alias("n")).sort("fact_id")
    rate = int(per_fact["hits"].sum()) / answers.height
    return {"n": answers.height, "rate": rate, "standard_error": clustered_share_error(per_fact["hits"], per_fact["n"])}


def _other_aliases(answers: Mapping[str, Sequence[str]], seed: int, others: int) -> Iterator[tuple[str, list[Sequence[str]]]]:
    """For each fact of a relation, the aliases of the facts that its answers are compared with."""
    normalised = {fact: {normalise(alias) for alias in aliases} - {""} for fact, aliases in answers.items()}
    holders: dict[str, set[str]] = {}
    for fact, aliases in normalised.items():
        for alias in aliases:
            holders.setdefault(alias, set()).add(fact)
    for fact, aliases in normalised.items():
        alike = {fact}.union(*(holders[alias] for alias in aliases))
        # Draw enough that `others` are left even if every fact with a shared alias is among them.
        drawn = random.Random(f"{seed} {fact}").sample(list(answers), min(len(answers), others + len(alike)))
        yield fact, [answers[other] for other in drawn if other not in alike][:others]


def _answer_keys(relation: str, group: pl.DataFrame) -> dict[tuple[str, ...], AnswerKey]:
    objects = Objects.of_relation(relation, group["answers"].to_list())
    return {aliases: AnswerKey(aliases, objects) for aliases in map(tuple, group["answers"].to_list())}


def _matches_of_others(fact_id: str, relation: object, said: Sequence[tuple[str, int]], others: Sequence[AnswerKey]) -> _Row:
    """How often each matcher takes one of these answers (text, times given) for one of `others`."""
    hits = dict.fromkeys(Matcher, 0)
    for text, times in said:
        for key in others:
            found = key.judge(text)
            hits[Matcher.STRICT] += times * found.strict
            hits[Matcher.EXACT] += times * found.exact
            hits[Matcher.RELEASED] += times * found.released
    answers = sum(times for _, times in said)
    counts = {matcher.value: count for matcher, count in hits.items()}
    return {"fact_id": fact_id, "relation": str(relation), "answers": answers, "n": answers * len(others), **counts}


def _false_positives(per_fact: pl.DataFrame, relation: object, matcher: Matcher) -> _Row:
    hits, n = int(per_fact[matcher.value].sum()), int(per_fact["n"].sum())
    return {
        "relation": None if relation is None else str(relation),
        "matcher": matcher.value,
        "answers": int(per_fact["answers"].sum()),
        "n": n,
        "false_positives": hits,
        "rate": hits / n if n else None,
        "standard_error": clustered_share_error(per_fact[matcher.value], per_fact["n"]),
    }


def _table(rows: Sequence[_Row], names: Sequence[str], numbers: Sequence[str]) -> pl.DataFrame:
    """A frame with its columns in the schema's order; the columns `numbers` may hold only nulls."""
    return pl.DataFrame(rows, schema_overrides=dict.fromkeys(numbers, pl.Float64), infer_schema_length=None).select(names)
