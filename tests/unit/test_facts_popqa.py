"""A real part of PopQA becomes facts: every row is read, what is ambiguous is rejected."""

from collections import Counter
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from kp.facts.cells import stripped
from kp.facts.popqa import DOMAINS
from kp.facts.tables import read_source
from kp.facts.validation import check_facts, reason_kind, rejected_rows
from kp.schema import FACTS

POPQA = Path(__file__).parents[3] / "shared" / "data" / "popqa.parquet"

pytestmark = pytest.mark.skipif(not POPQA.is_file(), reason="needs the sample of PopQA, which is not part of the repository")


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return read_source(str(POPQA)).facts


@pytest.fixture(scope="module")
def facts(table: pa.Table) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(table))


def test_popqa_is_read_whole(table: pa.Table, facts: pl.DataFrame) -> None:
    assert table.schema.equals(FACTS)
    assert facts.height == 3605
    assert facts["relation"].n_unique() == 16
    assert facts["fact_id"].n_unique() == 3605
    raw = pl.read_parquet(POPQA)
    for answers, object_, aliases in zip(facts["answers"], raw["object"], raw["aliases"], strict=True):
        assert answers[0] == object_
        assert set(answers) == {object_, *map(stripped, aliases)}  # names with commas in them too are one alias each


def test_popqa_subjects_are_head_torso_or_tail_by_thirds_of_their_page_views(facts: pl.DataFrame) -> None:
    raw = pl.read_parquet(POPQA, columns=["subject", "s_pop"])
    assert facts["subject_degree"].to_list() == raw["s_pop"].to_list()
    subjects = facts.unique(["subject", "subject_degree"]).group_by("popularity").agg(pl.col("subject_degree").sum())
    total = raw.unique()["s_pop"].sum()
    for _, views in subjects.iter_rows():
        assert views / total == pytest.approx(1 / 3, abs=0.15)  # a single subject has a fifth of all views
    head, torso, tail = (facts.filter(popularity=bucket)["subject_degree"] for bucket in ("head", "torso", "tail"))
    assert head.min() > torso.max() > torso.min() > tail.max()  # type: ignore[operator]


def test_popqa_domain_is_that_of_the_relation(facts: pl.DataFrame) -> None:
    found = dict(facts.select("relation", "domain").unique().iter_rows())
    assert found == {relation: DOMAINS.get(relation) for relation in found}
    assert [relation for relation, domain in found.items() if domain is None] == ["color"]


def test_popqa_questions_with_several_answers_are_all_rejected_within_the_default_limit(table: pa.Table, facts: pl.DataFrame) -> None:
    kept, rejected = check_facts(table, "popqa.parquet", max_rejected_fraction=0.05)
    repeated = facts.filter(pl.col("question").is_duplicated())
    assert (repeated.height, repeated["question"].n_unique()) == (89, 41)  # 48 more rows than questions, each with other answers
    assert not set(repeated["fact_id"]) & set(kept["fact_id"].to_pylist())
    rows = Counter(reason_kind(reason) for reason in rejected["reason"].to_pylist())
    assert rows["stands in several rows with different answers"] == 89
    assert kept.num_rows == 3605 - len(rejected_rows(rejected)) == 3446
