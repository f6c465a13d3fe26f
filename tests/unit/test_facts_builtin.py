"""The facts that ship with kp keep what a study relies on."""

import re
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from kp.facts import builtin, templates
from kp.facts.builtin import builtin_digest, load_builtin
from kp.facts.fact import fact_id
from kp.facts.templates import template_book
from kp.facts.validation import check_facts
from kp.schema import FACTS


@pytest.fixture(scope="module")
def facts() -> pl.DataFrame:
    return pl.DataFrame(load_builtin())


def words(text: str) -> str:
    return " ".join(["", *re.findall(r"[^\W_]+", text.casefold()), ""])


def test_builtin_table_has_schema_of_facts_and_passes_validation() -> None:
    table = load_builtin()
    assert table.schema.equals(FACTS)
    check_facts(table, "builtin")


def test_builtin_size_is_ten_thousand_facts_over_fifteen_relations_under_a_megabyte(facts: pl.DataFrame) -> None:
    assert facts.height >= 10_000
    assert facts["relation"].n_unique() >= 15
    assert Path(str(builtin.BUILTIN_FILE)).stat().st_size < 1_000_000


def test_builtin_ids_are_unique_sorted_and_follow_from_the_triple(facts: pl.DataFrame) -> None:
    ids = facts["fact_id"].to_list()
    assert ids == sorted(set(ids))
    assert all(fact_id(*triple) == identity for *triple, identity in facts.select("subject", "relation", "object", "fact_id").iter_rows())


def test_builtin_subject_and_relation_have_one_fact(facts: pl.DataFrame) -> None:
    keys = facts.select(pl.col("subject").str.to_lowercase(), "relation")
    assert keys.unique().height == facts.height
    assert facts["question"].n_unique() == facts.height


def test_builtin_guessing_one_answer_is_right_for_at_most_a_fifth_of_a_relation(facts: pl.DataFrame) -> None:
    for (relation,), rows in facts.group_by("relation"):
        counts = Counter(answer for answers in rows["answers"] for answer in {text.casefold() for text in answers})
        answer, count = counts.most_common(1)[0]
        assert count <= rows.height / 5, (relation, answer)


def test_builtin_answer_stands_in_no_wording_of_its_question(facts: pl.DataFrame) -> None:
    for answers, question, paraphrases in facts.select("answers", "question", "paraphrases").iter_rows():
        text = "|".join(words(wording) for wording in [question, *paraphrases])
        assert not any(words(answer) in text for answer in answers if words(answer).strip()), (answers, question)


def test_builtin_wordings_are_eleven_different_ones_that_name_the_subject(facts: pl.DataFrame) -> None:
    for subject, question, paraphrases in facts.select("subject", "question", "paraphrases").iter_rows():
        assert len(paraphrases) == templates.PARAPHRASES
        assert len({question, *paraphrases}) == templates.PARAPHRASES + 1
        assert all(subject in wording and "{" not in wording for wording in [question, *paraphrases])


def test_builtin_popularity_splits_each_relation_in_thirds(facts: pl.DataFrame) -> None:
    for (relation,), rows in facts.group_by("relation"):
        sizes = [rows.filter(pl.col("popularity") == bucket).height for bucket in ("head", "torso", "tail")]
        assert sum(sizes) == rows.height
        assert max(sizes) - min(sizes) <= 1, relation


def test_builtin_degree_counts_the_facts_with_the_subject_in_either_place(facts: pl.DataFrame) -> None:
    degree = Counter(entity for pair in facts.select("subject", "object").iter_rows() for entity in set(pair))
    assert facts["subject_degree"].to_list() == [degree[subject] for subject in facts["subject"]]


def test_builtin_domain_is_that_of_the_relation(facts: pl.DataFrame) -> None:
    per_relation = facts.group_by("relation").agg(pl.col("domain").n_unique())
    assert per_relation["domain"].to_list() == [1] * per_relation.height
    assert facts["domain"].n_unique() >= 5


@pytest.mark.parametrize(
    ("question", "answers"),
    [
        ("What is the capital of France?", {"Paris"}),
        ("In which country is Los Angeles located?", {"United States", "USA"}),
        ("Which country has London as its capital?", {"United Kingdom", "UK", "Great Britain"}),
        ("Which chemical element has the symbol Al?", {"aluminum", "aluminium"}),
        ("What is the chemical symbol of gold?", {"Au"}),
        ("What is an official language of Iran?", {"Persian", "Farsi"}),
        ("What is an official language of Switzerland?", {"German", "French", "Italian"}),
        ("What is the capital of the Bahamas?", {"Nassau"}),
    ],
)
def test_builtin_known_fact_has_its_answers_and_aliases(facts: pl.DataFrame, question: str, answers: set[str]) -> None:
    found = facts.filter(pl.col("question") == question)["answers"].to_list()
    assert len(found) == 1
    assert answers <= set(found[0])


def test_builtin_every_relation_of_the_templates_has_facts(facts: pl.DataFrame) -> None:
    assert set(facts["relation"]) == set(template_book().relations)


def test_builtin_digest_is_stable_hex() -> None:
    assert re.fullmatch(r"[0-9a-f]{64}", builtin_digest())
    assert builtin_digest() == builtin_digest()


def test_fact_id_parts_that_join_alike_stay_apart() -> None:
    assert fact_id("a b", "c", "d") != fact_id("a", "b c", "d")
    assert fact_id('a","b', "c", "d") != fact_id("a", 'b","c', "d")
    assert re.fullmatch(r"[0-9a-f]{16}", fact_id("Malmö", "country_of_city", "Sweden"))
