from collections.abc import Mapping, Sequence

import polars as pl
import pytest

from kp.errors import UserError
from kp.metrics import inspection_schema, result_schema
from kp.metrics.majority import constant_facts, majority_table
from kp.vocabulary import Matcher

LANGUAGES = {
    "b": ("Brazil", "Portuguese", []),
    "c": ("Canada", "English", ["French"]),
    "f": ("France", "French", []),
    "k": ("Kenya", "Swahili", ["English"]),
    "n": ("New Zealand", "english", ["Maori"]),
    "u": ("United Kingdom", "English", []),
}


def facts_of(relation: str, rows: Mapping[str, tuple[str, str, Sequence[str]]]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {"fact_id": key, "subject": subject, "relation": relation, "object": name, "answers": [name, *more]}
            for key, (subject, name, more) in rows.items()
        ]
    )


def answers_of(said: Mapping[str, Sequence[str]], shot_set: str = "S0") -> pl.DataFrame:
    rows = [{"fact_id": key, "shot_set": shot_set, "answer": answer} for key, texts in said.items() for answer in texts]
    return pl.DataFrame(rows)


def categories_of(known: str, facts: pl.DataFrame, shot_set: str = "S0") -> pl.DataFrame:
    """CATEGORIES by `strict`, HighlyKnown for the ids in `known` and Unknown for the others."""
    return facts.select(
        "fact_id",
        pl.lit(shot_set).alias("shot_set"),
        pl.lit("strict").alias("matcher"),
        pl.when(pl.col("fact_id").is_in(list(known))).then(pl.lit("HighlyKnown")).otherwise(pl.lit("Unknown")).alias("category"),
    )


def test_majority_table_six_languages_counts_what_english_would_get() -> None:
    facts = facts_of("language", LANGUAGES)
    said = {"b": ["English", "Portuguese"], "c": ["English", "English"], "f": ["French", "French"], "k": ["Answer: English", "Swahili"],
            "n": ["Maori", "English and Maori"], "u": ["English", "British"]}  # fmt: skip
    answers = pl.concat([answers_of(said), answers_of({"b": ["English"] * 5}, "S1")])
    categories = pl.concat([categories_of("cfu", facts), categories_of("bcfknu", facts, "S1")])
    row = majority_table(facts, answers, categories, Matcher.STRICT).row(0, named=True)
    assert (row["relation"], row["object"], row["facts"], row["object_facts"], row["dominance"]) == ("language", "English", 6, 3, 0.5)
    assert (row["right_facts"], row["right_rate"]) == (4, pytest.approx(4 / 6))  # Kenya, too, where it is an alias
    assert (row["given"], row["answers"], row["given_rate"]) == (5, 12, 5 / 12)  # "English and Maori" commits to neither
    # Per fact 1, 2, 0, 1, 0, 1 of 2 give it; from the mean 5/6 they are 1/6, 7/6, -5/6, 1/6, -5/6, 1/6: sqrt(6/5 * 17/6) / 12.
    assert row["given_standard_error"] == pytest.approx((6 / 5 * 17 / 6) ** 0.5 / 12)
    assert (row["highly_known"], row["highly_known_constant"]) == (3, 2)


def test_majority_table_fits_its_schema_and_has_a_row_a_relation() -> None:
    facts = pl.concat([facts_of("z", {"a": ("A", "1", [])}), facts_of("language", LANGUAGES)])
    answers = answers_of({key: ["English"] for key in facts["fact_id"]})
    table = majority_table(facts, answers, categories_of("", facts), Matcher.STRICT)
    assert table["relation"].to_list() == ["language", "z"]
    assert table.to_arrow().cast(result_schema.MAJORITY).schema == result_schema.MAJORITY
    assert table["given_standard_error"].to_list() == [0, None]
    assert table["highly_known_constant"].to_list() == [0, 0]


def test_majority_table_equally_common_objects_take_the_first_by_name_whatever_the_order() -> None:
    facts = facts_of("r", {"1": ("S", "Zinc", []), "2": ("T", "Argon", [])})
    answers, categories = answers_of({"1": ["x"], "2": ["x"]}), categories_of("", facts)
    for ordered in (facts, facts.reverse()):
        assert majority_table(ordered, answers, categories, Matcher.STRICT)["object"].to_list() == ["Argon"]


def test_majority_table_matcher_decides_what_gives_the_object() -> None:
    facts = facts_of("r", {"1": ("S", "Oman", []), "2": ("T", "Oman", [])})
    answers = answers_of({"1": ["Romania", "Oman"], "2": ["It is Oman", "Iran"]})
    categories = pl.concat([categories_of("", facts).with_columns(pl.lit(matcher.value).alias("matcher")) for matcher in Matcher])
    given = {matcher: majority_table(facts, answers, categories, matcher)["given"][0] for matcher in Matcher}
    assert given == {Matcher.STRICT: 2, Matcher.EXACT: 1, Matcher.RELEASED: 3}


def test_majority_table_relation_without_answers_raises() -> None:
    facts = facts_of("language", LANGUAGES)
    with pytest.raises(UserError, match="no answer on S0 to a fact of relation 'language'"):
        majority_table(facts, answers_of({"b": ["English"]}, "S1"), categories_of("", facts), Matcher.STRICT)


def test_constant_facts_names_highly_known_facts_that_english_gets_right() -> None:
    facts = facts_of("language", LANGUAGES)
    flagged = constant_facts(facts, categories_of("bfkn", facts), Matcher.STRICT)
    assert flagged.rows() == [("k", "language", "English"), ("n", "language", "English")]
    assert flagged.to_arrow().cast(inspection_schema.CONSTANT_FACTS).schema == inspection_schema.CONSTANT_FACTS


def test_constant_facts_agree_with_the_counts_of_the_table() -> None:
    facts = pl.concat([facts_of("language", LANGUAGES), facts_of("z", {"y": ("A", "One", []), "x": ("B", "One", [])})])
    categories = categories_of("bknxy", facts)
    answers = answers_of({key: ["English"] for key in facts["fact_id"]})
    table = majority_table(facts, answers, categories, Matcher.STRICT)
    flagged = constant_facts(facts, categories, Matcher.STRICT)
    assert dict(table.select("relation", "highly_known_constant").iter_rows()) == dict(flagged["relation"].value_counts().iter_rows())


def test_constant_facts_none_highly_known_is_an_empty_table() -> None:
    facts = facts_of("language", LANGUAGES)
    flagged = constant_facts(facts, categories_of("", facts), Matcher.STRICT)
    assert flagged.height == 0
    assert flagged.to_arrow().cast(inspection_schema.CONSTANT_FACTS).schema == inspection_schema.CONSTANT_FACTS
