"""The majority baseline: what a model gets right that knows no fact, only the most common answer of each relation.

A fact counts as HighlyKnown if all answers to it are right. A model that says "English" to every question about languages is right for
many of them without knowing any. So each relation's most common object is compared with its facts, and the HighlyKnown facts for which it
is right are listed: the model may know them, but its right answers do not show it.
"""

from collections.abc import Iterator

import polars as pl

from kp.errors import UserError
from kp.metrics.categories import of_matcher, validate_unique_facts
from kp.metrics.inspection_schema import CONSTANT_FACTS
from kp.metrics.matching import AnswerKey, Objects, normalise
from kp.metrics.result_schema import MAJORITY
from kp.metrics.statistics import clustered_share_error
from kp.prompts import ANSWER_PREFIX
from kp.vocabulary import Category, Matcher, ShotSet

_Row = dict[str, str | float | int | None]


def majority_table(facts: pl.DataFrame, answers: pl.DataFrame, categories: pl.DataFrame, matcher: Matcher) -> pl.DataFrame:
    """The MAJORITY of each relation, sorted by name, from FACTS and one model's ANSWERS and CATEGORIES (their S0).

    If several objects are equally common, the first by name counts. An answer gives the object if it matches one of the aliases that all
    facts with that object share. Raises UserError if the categories have a fact twice, or if a relation has no answers.
    """
    known = _highly_known(categories, matcher)
    said = answers.filter(shot_set=ShotSet.S0.value).select("fact_id", "answer")
    rows = [_majority_row(group, said, known, matcher) for group in _relations(facts)]
    return pl.DataFrame(rows, schema_overrides={"given_standard_error": pl.Float64}, infer_schema_length=None).select(MAJORITY.names)


def constant_facts(facts: pl.DataFrame, categories: pl.DataFrame, matcher: Matcher) -> pl.DataFrame:
    """The CONSTANT_FACTS: HighlyKnown facts on S0 for which their relation's most common object is right; sorted by relation and id."""
    known = _highly_known(categories, matcher)
    rows = [
        (fact_id, group["relation"][0], most_common)
        for group in _relations(facts)
        for most_common in [most_common_object(group)]
        for fact_id in _right_facts(group, _objects(group), most_common, matcher)
        if fact_id in known
    ]
    return pl.DataFrame(rows, schema=dict.fromkeys(CONSTANT_FACTS.names, pl.String), orient="row")


def _highly_known(categories: pl.DataFrame, matcher: Matcher) -> set[str]:
    assigned = of_matcher(categories, matcher).filter(shot_set=ShotSet.S0.value)
    validate_unique_facts(assigned)
    return set(assigned.filter(category=Category.HIGHLY_KNOWN.value)["fact_id"])


def _relations(facts: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """The facts of each relation, both sorted."""
    for _, group in facts.sort("relation", "fact_id").group_by("relation", maintain_order=True):
        yield group


def _objects(group: pl.DataFrame) -> Objects:
    return Objects.of_relation(group["relation"][0], group["answers"].to_list())


def _majority_row(group: pl.DataFrame, said: pl.DataFrame, known: set[str], matcher: Matcher) -> _Row:
    most_common = most_common_object(group)
    having = facts_having(group, most_common)
    objects = _objects(group)
    right = _right_facts(group, objects, most_common, matcher)
    given = _given(group, said, AnswerKey(_shared_aliases(having, most_common), objects), matcher)
    answers, times = int(given["n"].sum()), int(given["hits"].sum())
    relation = group["relation"][0]
    if not answers:
        raise UserError(f"answers: no answer on {ShotSet.S0} to a fact of relation '{relation}'")
    return {
        "relation": relation,
        "object": most_common,
        "facts": group.height,
        "object_facts": having.height,
        "dominance": having.height / group.height,
        "right_facts": len(right),
        "right_rate": len(right) / group.height,
        "given": times,
        "answers": answers,
        "given_rate": times / answers,
        "given_standard_error": clustered_share_error(given["hits"], given["n"]),
        "highly_known": len(known.intersection(group["fact_id"])),
        "highly_known_constant": len(known.intersection(right)),
    }


def most_common_object(group: pl.DataFrame) -> str:
    """The object that most facts of the relation have, in its most frequent spelling."""
    spellings = group.select("object", pl.Series("name", [normalise(name) for name in group["object"]], dtype=pl.String))
    ranked = spellings.with_columns(pl.len().over("name").alias("facts"), pl.len().over("object").alias("spelt"))
    return str(ranked.sort("facts", "name", "spelt", "object", descending=[True, False, True, False])["object"][0])


def facts_having(group: pl.DataFrame, object_: str) -> pl.DataFrame:
    """The facts that have this object, in any spelling."""
    wanted = normalise(object_)
    return group.filter(pl.Series([normalise(name) == wanted for name in group["object"]], dtype=pl.Boolean))


def _right_facts(group: pl.DataFrame, objects: Objects, constant: str, matcher: Matcher) -> list[str]:
    """Ids of the facts for which a reply with `constant` after "Answer: " is right."""
    reply = ANSWER_PREFIX + constant
    facts = group.select("fact_id", "answers").iter_rows()
    return [fact_id for fact_id, right in facts if AnswerKey(right, objects).judge(reply).by(matcher)]


def _shared_aliases(having: pl.DataFrame, most_common: str) -> list[str]:
    """The object's name and the aliases that all its facts share; an alias of only one of them may name something else."""
    shared = set.intersection(*(set(aliases) for aliases in having["answers"]))
    return [most_common, *sorted(shared - {most_common})]


def _given(group: pl.DataFrame, said: pl.DataFrame, key: AnswerKey, matcher: Matcher) -> pl.DataFrame:
    """fact_id, hits (answers that are right by this key), n (answers), for each fact of the relation; sorted by fact_id."""
    asked = said.filter(pl.col("fact_id").is_in(group["fact_id"].implode()))
    verdicts = {text: key.judge(text).by(matcher) for text in asked["answer"].unique()}
    judged = asked.select("fact_id", pl.Series("is", [verdicts[text] for text in asked["answer"]], dtype=pl.Boolean))
    return judged.group_by("fact_id").agg(pl.col("is").sum().alias("hits"), pl.len().alias("n")).sort("fact_id")
