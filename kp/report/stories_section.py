"""Single facts: what the base said of each and what an adapter says, the worst forgotten first.

The page holds a bounded part of them, with every text written once; the table FACT_STORIES has them all.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from kp.config.derived import ADAPTER_SHOT_SET
from kp.metrics.stories import stories_of_outcomes, story_changes
from kp.report.document import Browser, Row, Section, Table, columns
from kp.report.notation import MISSING
from kp.report.tables import ReportTables

MOST_FACTS = 2000  # on the page
MOST_ROWS = 12_000  # a fact of one adapter each
PRINTED = 25


def stories_section(tables: ReportTables, summary: pl.DataFrame) -> Section:
    """The facts of every measured adapter; empty if none was measured."""
    title = "Facts, one by one"
    stories = tables.fact_stories
    if stories is None:
        stories = stories_of_outcomes(tables.outcomes, ADAPTER_SHOT_SET.value)
    changes = story_changes(stories).filter(pl.col("trial_id").is_in(summary["trial_id"].implode()))
    if changes.is_empty():
        return Section("facts", title, ())
    names = dict(zip(summary["trial_id"], summary["label"], strict=True))
    facts = tables.facts.select("fact_id", "relation", "question", "object")
    shown = worst(changes).join(facts, on="fact_id", how="inner", maintain_order="left")
    browser = Browser(_caption(changes, shown, tables.fact_stories is not None), packed(shown, names), _excerpt(shown, names))
    return Section("facts", title, (browser,))


def worst(changes: pl.DataFrame, most_facts: int = MOST_FACTS, most_rows: int = MOST_ROWS) -> pl.DataFrame:
    """The rows of the facts that lost most with any adapter, at most `most_facts` facts and `most_rows` rows, the worst first."""
    chosen = changes.unique("fact_id", keep="first", maintain_order=True).head(most_facts)
    return changes.join(chosen.select("fact_id"), on="fact_id", how="semi", maintain_order="left").head(most_rows)


def packed(rows: pl.DataFrame, names: Mapping[str, str]) -> dict[str, Any]:
    """The rows as JSON in which every text, fact and model stands once and is referred to by its number.

    A fact is [question, relation, object, category, right, asked, answer, times given], as the base had them; a row is [fact, trial, role,
    category, right, asked, answer, times given]. -1 is a missing answer.
    """
    texts, models = _Numbered(), _Numbered()
    facts: dict[str, int] = {}
    fact_rows, packed_rows = [], []
    for row in rows.iter_rows(named=True):
        if row["fact_id"] not in facts:
            facts[row["fact_id"]] = len(facts)
            said = (row["question"], row["relation"].replace("_", " "), row["object"], row["base_category"])
            fact_rows.append([*map(texts, said), row["base_correct"], row["base_asked"], *_answer(row, "base_", texts)])
        place, model = facts[row["fact_id"]], models(names[row["trial_id"]])
        role = texts(row["role"].replace("_", " "))
        packed_rows.append(
            [place, model, role, texts(row["category"]), row["correct"], row["asked"], *_answer(row, "", texts)],
        )
    return {"texts": texts.values, "models": models.values, "facts": fact_rows, "rows": packed_rows}


class _Numbered:
    """Gives each value a number, the same for the same value."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}

    def __call__(self, value: str) -> int:
        return self._places.setdefault(value, len(self._places))

    @property
    def values(self) -> list[str]:
        return list(self._places)


def _answer(row: Mapping[str, Any], prefix: str, texts: _Numbered) -> tuple[int, int]:
    answer = row[f"{prefix}answer"]
    return (-1, 0) if answer is None else (texts(answer), row[f"{prefix}answer_count"])


def _caption(changes: pl.DataFrame, shown: pl.DataFrame, with_answers: bool) -> str:
    facts, all_facts = shown["fact_id"].n_unique(), changes["fact_id"].n_unique()
    part = "All facts of all measured adapters"
    if len(shown) < len(changes):
        part = (
            f"The {facts:,} facts that lost most, of {all_facts:,}, in {len(shown):,} of {len(changes):,} rows; all are in "
            "tables/fact_stories.parquet"
        )
    answers = (
        "An answer is the first line of the one given most often, with how often it was given."
        if with_answers
        else "The answers themselves are not among the tables of this report."
    )
    return f"{part}. Answers on {ADAPTER_SHOT_SET}, base and adapter on the same prompts; the worst forgotten first. {answers}"


def _excerpt(rows: pl.DataFrame, names: Mapping[str, str]) -> Table:
    head = columns("question", "right answer", "trial", "role", "base: right", "base says", "adapter: right", "adapter says", words=8)
    printed = [Row(tuple(_cells(row, names))) for row in rows.head(PRINTED).iter_rows(named=True)]
    return Table(f"The first {len(printed)} of {len(rows):,} rows.", head, tuple(printed))


def _cells(row: Mapping[str, Any], names: Mapping[str, str]) -> Iterable[str]:
    yield from (row["question"], row["object"], names[row["trial_id"]], row["role"].replace("_", " "))
    for prefix in ("base_", ""):
        yield f"{row[f'{prefix}correct']} of {row[f'{prefix}asked']}, {row[f'{prefix}category']}"
        answer = row[f"{prefix}answer"]
        yield MISSING if answer is None else f"{answer} ({row[f'{prefix}answer_count']}×)"
