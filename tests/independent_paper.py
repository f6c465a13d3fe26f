"""Tables 1 to 5 of the section "The paper's tables", computed once more from single outcomes and raw answers, and compared as printed.

Published cells are read from the files that ship with kp, by N and mix, by code of this module alone.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow.parquet as pq

from tests.conftest import REPOSITORY
from tests.independent_answers import Answers, released_reasons, table_4
from tests.independent_numbers import Row
from tests.independent_page import misprinted, tables_of
from tests.independent_report import Numbers
from tests.independent_statistics import wilson

PUBLISHED = REPOSITORY / "kp" / "report" / "data" / "published"
ALL_FACTS = 21_036
CATEGORIES = ("Unknown", "MaybeKnown", "HighlyKnown")
PAPERS = {"": "table3_shifts", ", Mistral,": "table6_mistral_shifts"}
REASONS = {"UK->HK": ("uk_to_hk", "pos", ("non_refusal", "explosion", "target", "domain", "explained")),
           "HK->UK": ("hk_to_uk", "neg", ("explosion", "target", "domain", "explained"))}  # fmt: skip

Said = Mapping[str, list[Row]]  # raw answers by model, those of the base under "base"


def raw_answers(root: Path) -> Said:
    """The answers of a finished study, found in its results root by the records of the steps; "base" answered all shot sets."""
    found: dict[str, list[Row]] = {}
    for record in (root / "store").glob("*/*/record.json"):
        step = json.loads(record.read_text(encoding="utf-8"))
        if step["kind"] == "categorise" or (step["kind"] == "answers" and step["literals"]["shot_set"] == "S1"):
            model = "base" if step["kind"] == "categorise" else next(iter(step["inputs"].values()))
            found[model] = pq.read_table(record.with_name("answers.parquet")).to_pylist()
    return found


def wrong_paper(numbers: Numbers, page: Path, said: Said | None = None) -> list[str]:
    """What these tables print that single outcomes and answers do not hold, in words; without answers, tables 4 and 5 are not read."""
    found = tables_of(page)["The paper's tables"]
    labels = {row["label"]: row for row in numbers.study.tables["summary"]}
    wrong: list[str] = []
    for caption, rows in found:
        number = caption.split(":")[0]
        if number == "Table 1":
            wrong += _categories(numbers, rows)
        for cells in rows if number != "Table 1" else ():
            wrong += _of_trial(numbers, number, caption, cells, labels, said)
    captions = [caption.split(":")[0] for caption, _ in found]
    of_adapters = ["Table 2", "Tables 3 and 6", "Table 4", "Table 5", "Table 5"] if numbers.study.adapters else []  # if they were asked
    expected = ["Table 1", *of_adapters]
    if captions[: len(expected)] != expected:
        wrong.append(f"the tables are {captions}")
    return [one for one in wrong if one]


def _categories(numbers: Numbers, rows: list[dict[str, str]]) -> Iterator[str]:
    given = [row["category"] for row in numbers.study.tables["outcomes"] if (row["trial_id"], row["shot_set"]) == ("base", "S0")]
    printed = {row["category"]: int(row["facts"]) for row in _read("table1_categories")}
    if [cells["category"] for cells in rows] != list(CATEGORIES):
        yield "Table 1 lacks a category"
    for cells in rows:
        count = given.count(cells["category"])
        yield misprinted(cells["facts"], [count])
        yield misprinted(cells["share (%)"], [100 * count / len(given), *(100 * end for end in wilson(count, len(given)))])
        yield misprinted(cells["published facts"], [printed[cells["category"]]])
        yield misprinted(cells["published share (%)"], [100 * printed[cells["category"]] / ALL_FACTS])


def _of_trial(
    numbers: Numbers, table: str, caption: str, cells: dict[str, str], labels: Mapping[str, Row], said: Said | None
) -> Iterator[str]:
    row = labels.get(cells["trial"])
    trial = "base" if row is None else row["trial_id"]
    yield misprinted(cells["N"], [None if row is None else row["unknown"]])
    if table == "Table 2":
        score = numbers.scores[trial, "reliability"]
        yield misprinted(cells["reliability"], [score["value"], score["standard_error"]])
        yield misprinted(cells["published"], [_printed("table2_reliability", row, "reliability")])
    if table == "Tables 3 and 6":
        for shift in ("positive", "negative"):
            own = numbers.shifts[trial, "all", shift]
            share = [own["count"] / own["n"], *wilson(own["count"], own["n"])]
            yield misprinted(cells[f"{shift} (%)"], [100 * one for one in share])
            for who, file in PAPERS.items():
                yield misprinted(cells[f"published{who} {shift} (%)"], [_times(_printed(file, row, f"{shift}_shift"), 100)])
    if table == "Table 4":
        yield from _answers(cells, row, None if said is None else said[trial])
    if table == "Table 5":
        yield from _reasons(numbers, caption, cells, labels[cells["trial"]], said)


def _answers(cells: dict[str, str], row: Row | None, rows: list[Row] | None) -> Iterator[str]:
    if rows is not None:
        own = table_4({(one["fact_id"], one["prompt_index"]): one for one in rows if one["shot_set"] == "S1"})
        yield misprinted(cells["refusals (%)"], [100 * own["refusal_rate"]])
        for title, name in (("unique answers", "unique_answers"), ("mean count", "mean_count"), ("spread", "std_count")):
            yield misprinted(cells[title], [own[name]])
    paraphrased = row is not None and row["paraphrases"]
    refused = None if paraphrased else _printed("table4_answers", row, "refused", base=row is None)
    yield misprinted(cells["published refusals (%)"], [_times(refused, 100 / ALL_FACTS)])
    for title, name in (("unique answers", "unique_answers"), ("mean count", "mean_count"), ("spread", "spread")):
        yield misprinted(cells[f"published {title}"], [None if paraphrased else _printed("table4_answers", row, name, base=row is None)])


def _reasons(numbers: Numbers, caption: str, cells: dict[str, str], row: Row, said: Said | None) -> Iterator[str]:
    direction = "UK->HK" if "UK → HK" in caption else "HK->UK"
    counted, prefix, names = REASONS[direction]
    if said is not None:
        trained = [one["fact_id"] for one in numbers.study.training_rows[row["trial_id"]] if one["role"] in ("unknown", "paraphrase")]
        facts = numbers.study.tables["facts"]
        answers = Answers.of(said["base"], said[row["trial_id"]], facts, list(dict.fromkeys(trained)))
        moved, holding = len(answers.moved(direction)), released_reasons(answers, direction)
        yield misprinted(cells["facts"], [moved])
        for name in names:
            yield misprinted(cells[f"{name.replace('_', ' ')} (%)"], [100 * holding[name] / moved if moved else None])
    shown = None if row["paraphrases"] else row
    yield misprinted(cells["published facts"], [_printed("table5_reasons", shown, counted)])
    for name in names:
        title = f"published {name.replace('_', ' ')} (%)"
        yield misprinted(cells[title], [_times(_printed("table5_reasons", shown, f"{prefix}_{name}"), 100)])


def _printed(file: str, row: Row | None, column: str, *, base: bool = False) -> float | None:
    """A published cell of the trial's N and mix, or of the base; None if there is none."""
    for one in _read(file):
        mixed = int(one.get("per_fact") or one.get("highly_known_per_fact") or 0)
        kind = one.get("augmentation", "highly_known")
        known, paraphrases = (0, mixed) if kind == "paraphrase" else (mixed, 0)
        if row is None:
            wanted = base and (int(one["unknown"]), mixed) == (0, 0)
        else:
            asked = (row["unknown"], row["highly_known"], row["paraphrases"])
            wanted = (int(one["unknown"]), known, paraphrases) == asked and not row["maybe_known"]
        if wanted and one[column]:
            return float(one[column])
    return None


def _read(file: str) -> list[dict[str, str]]:
    with (PUBLISHED / f"{file}.csv").open(encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
