"""Synthetic facts carry the entropy that they promise, and nothing gives an object away."""

import io
import math
from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kp.config.study import SyntheticConfig
from kp.errors import UserError
from kp.facts.fact import fact_id
from kp.facts.synthetic import COMMON_WORDS, HOLDERS, WORDINGS, relation_templates, synthetic_facts
from kp.facts.tables import source_digest
from kp.facts.templates import PARAPHRASES
from kp.facts.validation import check_facts
from kp.metrics.matching import match_all
from kp.schema import FACTS


def facts_of(relations: int = 4, vocabulary: int = 1024, count: int = 400, seed: int = 0, words: Any = "made_up") -> pa.Table:
    return synthetic_facts(SyntheticConfig(relations=relations, vocabulary=vocabulary, words=words), count, seed)


def as_bytes(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def test_synthetic_facts_are_valid_facts_that_lose_nothing() -> None:
    table = facts_of()
    assert table.schema.equals(FACTS)
    kept, rejected = check_facts(table, "synthetic", max_rejected_fraction=0.0)
    assert kept.equals(table)
    assert rejected.num_rows == 0
    assert set(table["source"].to_pylist()) == {"synthetic"}
    assert all(row["fact_id"] == fact_id(row["subject"], row["relation"], row["object"]) for row in table.to_pylist())


def test_synthetic_facts_spread_evenly_over_relations_and_have_subjects_of_their_own() -> None:
    table = facts_of(relations=3, count=100)
    assert sorted(Counter(table["relation"].to_pylist()).values()) == [33, 33, 34]
    assert len(set(table["subject"].to_pylist())) == 100


def test_synthetic_facts_of_a_smaller_count_are_the_first_of_a_larger() -> None:
    assert facts_of(count=400).slice(0, 37).equals(facts_of(count=37))


def test_synthetic_facts_of_one_seed_are_the_same_bytes_and_of_another_are_not() -> None:
    assert as_bytes(facts_of(seed=5)) == as_bytes(facts_of(seed=5))
    assert facts_of(seed=5)["object"] != facts_of(seed=6)["object"]
    assert facts_of(seed=5)["subject"] != facts_of(seed=6)["subject"]


def test_synthetic_facts_are_these_ones_in_every_release() -> None:
    first = facts_of(count=2).to_pylist()
    assert [(row["subject"], row["object"]) for row in first] == [("Voljut Talrot", "Hakemo"), ("Vertol Rinfor", "Gidota")]


@pytest.mark.parametrize("words", ["made_up", "common"])
def test_synthetic_objects_are_drawn_uniformly_from_a_vocabulary_of_each_relation(words: str) -> None:
    relations, vocabulary, count = 2, 16, 8000
    table = facts_of(relations, vocabulary, count, words=words)
    objects: dict[str, Counter[str]] = {}
    for relation, object_ in zip(table["relation"].to_pylist(), table["object"].to_pylist(), strict=True):
        objects.setdefault(relation, Counter())[object_] += 1
    one, other = objects.values()
    assert not one.keys() & other.keys()
    expected = count / relations / vocabulary
    for counted in (one, other):
        assert len(counted) == vocabulary
        assert sum((seen - expected) ** 2 / expected for seen in counted.values()) < 37.7  # chi-squared, 15 degrees of freedom, 0.1%
        shares = [seen / counted.total() for seen in counted.values()]
        assert -sum(share * math.log2(share) for share in shares) == pytest.approx(math.log2(vocabulary), abs=0.01)


def test_synthetic_object_is_found_in_no_wording_and_in_no_other_object_by_any_matcher() -> None:
    table = facts_of(relations=len(HOLDERS), vocabulary=40, count=640)
    wordings = [text for row in table.to_pylist() for text in (row["question"], *row["paraphrases"])]
    everything = "\n".join(wordings).casefold()
    objects = set(table["object"].to_pylist())
    assert not [name for name in objects if name.casefold() in everything]
    assert len({len(name) for name in objects}) == 1
    some = sorted(objects)[:60]
    for answer in some:
        found = [other for other in some if match_all(f"Answer: {answer}", [other]).released]
        assert found == [answer]


def test_common_objects_are_found_in_no_wording_and_in_no_other_object_by_any_matcher() -> None:
    table = facts_of(relations=len(HOLDERS), vocabulary=len(COMMON_WORDS) // len(HOLDERS), count=640, words="common")
    everything = "\n".join(text for row in table.to_pylist() for text in (row["question"], *row["paraphrases"])).casefold()
    assert set(table["object"].to_pylist()) == set(COMMON_WORDS)
    assert not [word for word in COMMON_WORDS if word.casefold() in everything]
    for answer in COMMON_WORDS:
        assert [other for other in COMMON_WORDS if match_all(f"Answer: {answer}", [other]).released] == [answer]


def test_more_common_words_than_there_are_is_an_error_that_names_field_and_remedy() -> None:
    with pytest.raises(UserError, match=r'facts\.synthetic\.vocabulary: .* take 130, and there are 128: .*words = "made_up"'):
        facts_of(relations=2, vocabulary=65, words="common")


def test_synthetic_relations_have_ten_paraphrases_that_name_the_subject() -> None:
    assert len(WORDINGS) == PARAPHRASES + 1
    for row in facts_of(relations=len(HOLDERS), count=len(HOLDERS)).to_pylist():
        wordings = [row["question"], *row["paraphrases"]]
        assert len(set(wordings)) == PARAPHRASES + 1
        assert all(row["subject"] in text and row["relation"].removeprefix("name_of_") in text for text in wordings)


def test_synthetic_vocabulary_of_a_hundred_thousand_words_has_no_word_twice() -> None:
    table = facts_of(relations=1, vocabulary=100_000, count=30_000)
    distinct = len(set(table["object"].to_pylist()))
    expected = 100_000 * (1 - (1 - 1e-5) ** 30_000)  # different ones among so many draws
    assert distinct == pytest.approx(expected, rel=0.01)


def test_synthetic_relations_beyond_the_wordings_are_an_error_that_names_the_field() -> None:
    with pytest.raises(UserError, match=rf"facts\.synthetic\.relations: 99 asked for, there are wordings for {len(HOLDERS)}"):
        relation_templates(99)


def test_synthetic_source_has_an_identity_of_its_own() -> None:
    assert source_digest("synthetic") not in {source_digest("builtin"), ""}
