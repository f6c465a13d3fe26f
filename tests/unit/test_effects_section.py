"""The section of effects: what the cells say, one wording a verdict."""

import dataclasses

import polars as pl
import pytest

from kp.metrics import result_schema
from kp.report.document import Table
from kp.report.effects_section import effects_section, harm_sentences, interval_cell, verdict_cell
from kp.report.summary import summary_table
from kp.report.where_section import where_section
from kp.report.winners import evidence
from kp.vocabulary import BASE, PLACEBO, FactRole
from tests.made_up_study import study

FIGURE = {"value": -0.05, "lower": -0.09, "upper": -0.01, "n": 300, "resolvable": 0.057, "verdict": "harm_shown"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "harm shown"),
        ({"verdict": "within_margin"}, "no harm beyond the margin shown"),
        ({"verdict": "not_resolved"}, "not resolved\ncould resolve 5.7"),
        ({"verdict": "not_resolved", "resolvable": None}, "not resolved"),
        ({"verdict": None}, "–"),
    ],
)
def test_verdict_cell_has_one_wording_each(changes: dict[str, object], words: str) -> None:
    assert verdict_cell(FIGURE | changes) == words


def test_interval_cell_is_in_points_with_its_interval_and_number_of_facts() -> None:
    assert interval_cell(FIGURE) == "−5.0 (−9.0 to −1.0)\nn = 300"
    assert interval_cell(FIGURE | {"value": 0.0, "lower": None, "upper": None}) == "0.0\nn = 300"
    assert interval_cell(FIGURE | {"value": 0.123, "lower": -0.0004, "upper": 0.2}) == "+12.3 (0.0 to +20.0)\nn = 300"
    assert interval_cell(None) == "–"


def test_harm_sentences_say_what_a_study_on_one_shot_set_cannot_say() -> None:
    tables = study()
    trial_id = tables.trials["trial_id"][0]
    effects = tables.effects.filter(pl.col("effect") != "crossed")
    assert harm_sentences(effects, trial_id, 0.02)[-1].startswith("Adapters were asked on S1 alone")
    assert harm_sentences(effects.clear(), trial_id, 0.02) == ["What it did to other facts was not measured."]


def test_section_has_a_row_for_every_measured_trial_and_names_the_margin() -> None:
    tables = study()
    section = effects_section(tables, summary_table(tables), 0.03)
    (table,) = (block for block in section.blocks if isinstance(block, Table))
    assert len(table.rows) == 5  # the sixth diverged
    assert "3 points" in table.caption
    assert {row.cells[-1].partition("\n")[0] for row in table.rows} <= {"harm shown", "not resolved", "no harm beyond the margin shown"}


def test_section_begins_with_the_placebo_where_the_base_was_asked_once_more() -> None:
    tables = study()
    again = tables.outcomes.filter(pl.col("shot_set") != "S0", trial_id=BASE).with_columns(trial_id=pl.lit(PLACEBO))
    section = effects_section(dataclasses.replace(tables, placebo=again), summary_table(tables), 0.02)
    (table,) = (block for block in section.blocks if isinstance(block, Table))
    first, *others = table.rows
    assert first.reference
    assert first.cells[0] == "placebo: the base once more"
    assert {cell.partition(" (")[0] for cell in first.cells[1:5]} == {"0.0"}  # nothing was rounded otherwise
    assert len(others) == 5


def test_where_section_is_the_net_change_of_the_winner_by_group_by_plain_arithmetic() -> None:
    tables = study()
    found = evidence(tables, summary_table(tables))
    packed, table = where_section(tables, found, set()).blocks
    assert isinstance(table, Table)
    assert isinstance(packed, Table)
    rows = {row.cells[0]: row.cells for row in table.rows}
    assert "Exploratory" in table.caption
    assert "Exploratory" in packed.caption
    relation = {row["fact_id"]: row["relation"] for row in tables.facts.iter_rows(named=True)}
    share = {(r["trial_id"], r["shot_set"], r["fact_id"]): r["correct"] / r["asked"] for r in tables.outcomes.iter_rows(named=True)}
    control = {r["fact_id"] for r in tables.outcomes.filter(trial_id=BASE).iter_rows(named=True) if "control" in r["role"]}
    known = [fact for fact in sorted(control) if share[BASE, "S0", fact] and relation[fact] == "capital_of"]
    changes = [(share["t01-40", on, fact] - share[BASE, on, fact]) for fact in known for on in ("S1", "S2")]
    _, n, *_, change = rows["relation: capital of"]
    assert n == str(len(known))
    assert change.startswith(f"{100 * sum(changes) / len(changes):+.1f}".replace("-", "−"))
    assert {"popularity of the subject: head", "popularity of the subject: tail"} <= rows.keys()
    trained = tables.outcomes.filter(trial_id="t01-40", shot_set="S1", role=FactRole.TRAINED.value)
    learned = [r["correct"] / r["asked"] for r in trained.iter_rows(named=True) if relation[r["fact_id"]] == "capital_of"]
    (cells,) = (row.cells for row in packed.rows if row.cells[0] == "relation: capital of")
    assert cells[1] == str(len(learned))
    assert cells[2].startswith(f"{sum(learned) / len(learned):.3f}")


def test_made_up_harm_is_on_facts_that_were_not_trained_on_by_plain_arithmetic() -> None:
    tables = study()
    trial_id = tables.trials["trial_id"][0]
    known = {row["fact_id"] for row in tables.outcomes.filter(trial_id=BASE, shot_set="S0").iter_rows(named=True) if row["correct"]}
    rows = {(row["trial_id"], row["shot_set"], row["fact_id"]): row for row in tables.outcomes.iter_rows(named=True)}
    changes = []
    for (trial, shot_set, fact_id), row in rows.items():
        if trial == trial_id and row["role"] != FactRole.TRAINED and fact_id in known:
            base = rows[BASE, shot_set, fact_id]
            changes.append(row["correct"] / row["asked"] - base["correct"] / base["asked"])
    found = tables.effects.filter(pl.col("shift").is_null(), trial_id=trial_id, subset="untrained", effect="net_change", at_risk=True)
    assert found["value"].to_list() == [pytest.approx(sum(changes) / len(changes))]
    assert found.to_arrow().cast(result_schema.EFFECTS).schema == result_schema.EFFECTS
