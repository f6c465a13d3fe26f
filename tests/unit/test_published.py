"""Published categories: read from tables of the authors' shape, and compared with those of the base."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kp.facts.published import published_table
from kp.facts.tables import read_source
from kp.metrics.published import published_agreement, summarise
from kp.report.document import Section, Table, Text
from kp.report.published_section import published_section
from kp.schema import frame
from kp.vocabulary import GREEDY_CATEGORIES, Category, Matcher

HIGHLY, MAYBE, WEAKLY, UNKNOWN = Category.HIGHLY_KNOWN, Category.MAYBE_KNOWN, Category.WEAKLY_KNOWN, Category.UNKNOWN


def authors_row(number: int, category: str, **changes: Any) -> dict[str, Any]:
    """A made-up row with the columns of the authors' data sets."""
    name = f"Place {number}"
    row = {
        "question": f"Who founded {name}?",
        "answer": [{"aliases": [f"Person {number}", f"P. {number}son"], "normalized_aliases": [f"person {number}"]}],
        "Category": category,
        "is_para": True,
        "para_len": 2,
        "para": [f"By whom was {name} founded?", f"{name} was founded by whom?"],
        "greedy_ans": [f"Answer: Person {number}"] * 10,
        "p_greed": [True] * 10,
    }
    return row | changes


def saved(folder: Path, rows: Sequence[dict[str, Any]]) -> str:
    file = folder / "full-00000-of-00001.parquet"
    pq.write_table(pa.Table.from_pylist(list(rows)), file)
    return str(file)


def compared(pairs: Sequence[tuple[Category, Category]]) -> pl.DataFrame:
    """PUBLISHED_AGREEMENT of facts with these categories, published and of the base."""
    ids = [f"f{place}" for place in range(len(pairs))]
    published = pl.DataFrame({"fact_id": ids, "category": [pair[0].value for pair in pairs]})
    ours = pl.DataFrame({"fact_id": ids, "category": [pair[1].value for pair in pairs], "matcher": "strict", "shot_set": "S0"})
    other = ours.with_columns(matcher=pl.lit("exact"), category=pl.lit(UNKNOWN.value))
    return published_agreement(pl.concat([ours, other]), published, Matcher.STRICT)


def blocks(section: Section) -> tuple[str, Table]:
    text, table = section.blocks
    assert isinstance(text, Text)
    assert isinstance(table, Table)
    return text.text, table


def test_authors_table_gives_facts_with_aliases_paraphrases_and_published_categories(tmp_path: Path) -> None:
    names = ["HighlyKnown", "MaybeKnown", "WeaklyKnown", "Unknown"]
    read = read_source(saved(tmp_path, [authors_row(number, name) for number, name in enumerate(names)]))
    facts = read.facts.to_pylist()
    assert facts[0]["answers"] == ["Person 0", "P. 0son"]
    assert facts[0]["paraphrases"] == ["By whom was Place 0 founded?", "Place 0 was founded by whom?"]
    assert [read.published[fact["fact_id"]].value for fact in facts] == names


def test_authors_rows_without_paraphrases_or_category_are_facts_all_the_same(tmp_path: Path) -> None:
    rows = [authors_row(0, "Unknown"), authors_row(1, "Unknown", is_para=False, para=None, para_len=0), authors_row(2, "n/a")]
    read = read_source(saved(tmp_path, rows))
    assert [len(fact["paraphrases"]) for fact in read.facts.to_pylist()] == [2, 0, 2]
    assert len(read.published) == 2


def test_column_category_that_is_about_something_else_publishes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "quiz.csv"
    file.write_text("question,answer,category\nCapital of Peru?,Lima,geography\nSymbol of tin?,Sn,Unknown\n", encoding="utf-8")
    assert read_source(str(file)).published == {}


def test_published_table_has_the_chosen_facts_in_their_order() -> None:
    table = frame(published_table({"a": HIGHLY, "b": UNKNOWN, "c": MAYBE}, ["c", "z", "a"]))
    assert table.rows() == [("c", "MaybeKnown"), ("a", "HighlyKnown")]


def test_equal_categories_agree_fully_and_weakly_known_is_unknown_to_greedy_answers() -> None:
    found = summarise(compared([(HIGHLY, HIGHLY)] * 3 + [(MAYBE, MAYBE)] * 4 + [(WEAKLY, UNKNOWN)] * 2 + [(UNKNOWN, UNKNOWN)] * 5))
    assert found is not None
    assert (found.n, found.equal, found.kappa) == (14, 14, pytest.approx(1.0))
    assert found.interval[0] < 1 == pytest.approx(found.interval[1])


def test_categories_that_know_nothing_of_each_other_have_a_kappa_of_zero() -> None:
    shares = {HIGHLY: 2, MAYBE: 3, UNKNOWN: 15}
    pairs = [pair for one in shares for other in shares for pair in [(one, other)] * (shares[one] * shares[other])]
    found = summarise(compared(pairs))
    assert found is not None
    assert found.kappa == pytest.approx(0, abs=1e-12)
    assert found.share == pytest.approx((4 + 9 + 225) / 400)


def test_interval_of_kappa_covers_zero_about_as_often_as_it_says_where_categories_are_drawn_apart() -> None:
    random, covered = np.random.default_rng(0), 0
    for _ in range(200):
        drawn = random.choice(len(GREEDY_CATEGORIES), size=(300, 2), p=[0.15, 0.2, 0.65])
        found = summarise(compared([(GREEDY_CATEGORIES[one], GREEDY_CATEGORIES[other]) for one, other in drawn]))
        assert found is not None
        assert found.kappa_interval is not None
        covered += found.kappa_interval[0] <= 0 <= found.kappa_interval[1]
    assert 180 <= covered <= 200


def test_one_category_alone_has_an_agreement_and_no_kappa() -> None:
    found = summarise(compared([(UNKNOWN, UNKNOWN)] * 9))
    assert found is not None
    assert (found.share, found.kappa) == (1.0, None)
    assert "kappa is not defined" in found.sentence()


def test_section_has_the_confusion_table_and_the_agreement_of_the_studys_matcher() -> None:
    text, table = blocks(published_section(compared([(HIGHLY, HIGHLY)] * 8 + [(HIGHLY, MAYBE)] * 2 + [(WEAKLY, UNKNOWN)]), Matcher.STRICT))
    assert text.startswith("9 of 11 facts have their published category: 81.8%")
    assert [row.cells[:4] for row in table.rows] == [("HighlyKnown", "8", "2", "0"), ("Unknown", "0", "0", "1")]
    assert "1 published as WeaklyKnown" in table.caption


def test_section_is_empty_without_published_categories() -> None:
    assert published_section(None, Matcher.STRICT).blocks == ()
    assert published_section(compared([(UNKNOWN, UNKNOWN)]).clear(), Matcher.STRICT).blocks == ()
