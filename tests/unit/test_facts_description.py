"""A set of facts is described as it is: its tables, its page and its pictures."""

from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from matplotlib.image import imread
from rich.console import Console

from kp.facts.description import Measure, bucket_table, histogram_table, measure_table, rejected_table, relation_table
from kp.report.document import Document, Table
from kp.report.facts_page import RELATIONS_DRAWN, RELATIONS_SHOWN, Chosen, facts_page, facts_pictures
from kp.report.figures_print import save_picture
from kp.report.markdown import render_markdown
from kp.report.terminal import WIDTH, terminal_table

LISTS = {"answers": pl.List(pl.String), "paraphrases": pl.List(pl.String)}


def facts_of(*changes: dict[str, Any]) -> pl.DataFrame:
    row = {
        "relation": "capital_of",
        "question": "Of what land is it the capital?",
        "answers": ["Peru"],
        "popularity": None,
        "subject_degree": 1,
        "domain": None,
        "paraphrases": [],
    }
    rows = [{"fact_id": f"{number:03}", "subject": f"s{number}", **row, **change} for number, change in enumerate(changes)]
    overrides = LISTS | {"popularity": pl.String, "domain": pl.String, "subject_degree": pl.Int64}
    frame = pl.DataFrame(rows, schema_overrides=overrides, infer_schema_length=None)
    return frame.with_columns(pl.col("answers").list.first().alias("object"))


FACTS = facts_of(
    {"popularity": "head", "subject_degree": 90, "paraphrases": ["And of which?"], "domain": "Place"},
    {"popularity": "tail", "subject_degree": 3, "answers": ["peru", "Piruw", "Republic of Peru"]},
    {"popularity": "tail", "subject_degree": 5, "answers": ["Oman"]},
    {"relation": "author", "question": "Who wrote it?", "answers": ["Jane Austen"]},
)
FAULTS = pl.DataFrame(
    {
        "row": [7, 2, 2, 9],
        "fact_id": ["x", "y", "y", "z"],
        "column": ["answers", "answers", "answers", "paraphrases"],
        "reason": ["stands in its question 'a'", "stands in its question 'b'", "stands in its question 'b'", "a paraphrase is empty"],
        "value": ["A", "B", "C", ""],
    }
)


def tables_of(facts: pl.DataFrame, faults: pl.DataFrame = FAULTS) -> dict[str, pl.DataFrame]:
    return {
        "relations": relation_table(facts),
        "buckets": bucket_table(facts),
        "measures": measure_table(facts),
        "histograms": histogram_table(facts),
        "rejected": rejected_table(faults),
    }


def page_of(facts: pl.DataFrame, faults: pl.DataFrame = FAULTS) -> Document:
    return facts_page(Chosen("made_up", "facts.csv", facts.height), tables_of(facts, faults))


def test_relation_table_counts_buckets_objects_and_missing_paraphrases() -> None:
    first, second = relation_table(FACTS).to_dicts()
    assert first == {
        "relation": "capital_of",
        "domain": "Place",
        "facts": 3,
        "head": 1,
        "torso": 0,
        "tail": 2,
        "no_popularity": 0,
        "objects": 2,
        "most_common_object": "Peru",
        "most_common_facts": 2,
        "dominance": 2 / 3,
        "without_paraphrases": 2,
    }
    assert (second["relation"], second["no_popularity"], second["most_common_object"]) == ("author", 1, "Jane Austen")


def test_bucket_table_has_degrees_of_each_bucket_and_the_unknown_last() -> None:
    rows = bucket_table(FACTS).rows()
    assert rows == [("head", 1, 1, 90, 90.0, 90), ("tail", 2, 2, 3, 4.0, 5), (None, 1, 1, 1, 1.0, 1)]


def test_measures_count_aliases_without_the_canonical_answer_and_words() -> None:
    rows = {row["measure"]: row for row in measure_table(FACTS).to_dicts()}
    assert (rows["aliases"]["least"], rows["aliases"]["greatest"], rows["aliases"]["mean"]) == (0, 2, 0.5)
    assert (rows["question_words"]["least"], rows["question_words"]["greatest"]) == (3, 7)
    assert (rows["answer_characters"]["least"], rows["answer_characters"]["greatest"]) == (4, 11)
    assert rows["answer_words"]["median"] == 1


@pytest.mark.parametrize("lengths", [[0], [5] * 30, list(range(40)), [1] * 500 + [900], [1000, 1], list(range(0, 3000, 7))])
def test_histogram_bins_hold_every_fact_once_and_are_few(lengths: list[int]) -> None:
    facts = facts_of(*({"question": "q" * length + "?"} for length in lengths))
    bins = histogram_table(facts).filter(measure=Measure.QUESTION_CHARACTERS.value)
    assert bins["facts"].sum() == len(lengths)
    assert bins.height <= 12
    pairs = list(bins.select("least", "greatest").iter_rows())
    assert all(one[1] + 1 == other[0] for one, other in pairwise(pairs))
    for least, greatest, counted in bins.select("least", "greatest", "facts").iter_rows():
        assert counted == sum(least <= length + 1 <= greatest for length in lengths)


def test_histogram_of_one_outlier_still_shows_the_others() -> None:
    facts = facts_of(*({"question": "q" * (number % 10)} for number in range(500)), {"question": "q" * 900})
    bins = histogram_table(facts).filter(measure=Measure.QUESTION_CHARACTERS.value)
    assert bins.height == 10
    assert bins.row(-1)[1:] == (9, 900, 51)


def test_rejected_counts_rows_and_faults_by_reason() -> None:
    assert rejected_table(FAULTS).rows() == [("stands in its question", 2, 3, 2, "B"), ("a paraphrase is empty", 1, 1, 9, "")]


def test_page_says_what_its_tables_say() -> None:
    page = page_of(FACTS)
    text = render_markdown(page)
    assert page.answer[0] == "4 facts over 2 relations."
    assert page.answer[1] == "The most one-sided relation is capital of: 'Peru' answers 2 of 3 facts (66.7 %)."
    assert page.answer[2] == "Without paraphrases: 3 facts."
    assert page.answer[3] == "Most of what was rejected: stands in its question (2 rows of the source)."
    assert "| capital of | Peru | 66.7 | 3 | 1/0/2 | 2 | 2 |" in text
    assert "| author | (all differ) | 100 | 1 | – | 1 | 1 |" in text
    assert "| head | 1 | 25.0 | 1 | 90 | 90 | 90 |" in text
    assert "| stands in its question | 2 | 3 | 2 | B |" in text
    assert "![" in text
    assert "(figures/relations.png)" in text


def test_page_of_many_relations_names_the_largest_and_counts_all() -> None:
    facts = facts_of(*({"relation": f"relation_{number}"} for number in range(60)), {"relation": "relation_3"})
    short = page_of(facts).sections[0].blocks[0]
    assert isinstance(short, Table)
    assert len(short.rows) == RELATIONS_SHOWN + 1
    assert short.rows[0].cells[0] == "relation 3"
    assert short.rows[-1].cells[0] == "all 60"
    bars = facts_pictures(tables_of(facts))["relations"]
    assert len(bars.rows) == RELATIONS_DRAWN  # type: ignore[union-attr]


def test_page_without_faults_has_no_table_of_them() -> None:
    page = page_of(FACTS, FAULTS.clear())
    assert len(page.sections[0].blocks) == 3
    assert not any("rejected" in sentence for sentence in page.answer)


def test_terminal_tables_fit_eighty_columns_and_keep_every_word() -> None:
    long = {"relation": "official_language_of_the_country", "answers": ["Democratic Republic of the Congo"], "popularity": "tail"}
    facts = pl.concat([FACTS, facts_of(*[long | {"subject_degree": 15_000_000}] * 3).with_columns(pl.col("fact_id") + "x")])
    for block in page_of(facts).sections[0].blocks:
        assert isinstance(block, Table)
        console = Console(width=WIDTH, record=True, file=StringIO())
        console.print(terminal_table(block))
        text = console.export_text()
        assert max(map(len, text.splitlines())) <= WIDTH
        assert all(word in text for row in block.rows for cell in row.cells for word in cell.split())


def test_pictures_are_drawn_with_every_count(tmp_path: Path) -> None:
    pictures = facts_pictures(tables_of(FACTS))
    assert set(pictures) == {"relations", "lengths"}
    assert [panel.counts for panel in pictures["lengths"].panels][-1] == (1, 2, 1)  # type: ignore[union-attr]
    for name, picture in pictures.items():
        save_picture(picture, tmp_path, name)
        drawn = imread(tmp_path / f"{name}.png")
        assert drawn.shape[1] > 1000
        assert drawn[..., :3].min() < 0.2  # something is on it
