"""Mixes compared: on control facts, trial by trial, with the conditions that do not hold, and one wording for each outcome."""

import dataclasses

import polars as pl
import pytest

from kp.metrics import result_schema
from kp.metrics.arms import Condition
from kp.report.arms_section import CONDITIONS, arm_table, arms_section, arms_sentences
from kp.report.document import Table
from kp.report.tables import ReportTables
from kp.vocabulary import BASE
from tests.made_up_study import found_in, study


def arms_of(tables: ReportTables) -> pl.DataFrame:
    return arm_table(tables, found_in(tables))


@pytest.fixture(scope="module")
def tables() -> ReportTables:
    return study()


def comparison(**changes: object) -> dict[str, object]:
    row = {
        "first": "+1 HighlyKnown",
        "second": "Unknown only",
        "pairs": 2,
        "seeds": 1,
        "facts": 40,
        "value": 0.051,
        "lower": 0.01,
        "upper": 0.092,
        "resolvable": 0.06,
        "p_holm": 0.02,
        "first_steps": 100.0,
        "second_steps": 100.0,
        "first_exposures": 5.0,
        "second_exposures": 10.0,
        "first_final_rate": 0.0,
        "second_final_rate": 0.0,
        "first_reliability": 0.746,
        "second_reliability": 0.942,
        "unmet": [],
    }
    return row | changes


def said(tables: ReportTables, *rows: dict[str, object]) -> list[str]:
    table = pl.DataFrame(rows, schema=pl.DataFrame(pl.from_arrow(result_schema.ARMS.empty_table())).schema)
    return list(arms_sentences(found_in(tables), table))


def test_arm_table_is_the_difference_on_known_control_facts_by_plain_arithmetic(tables: ReportTables) -> None:
    (row,) = arms_of(tables).filter(first="Unknown only", second="+1 HighlyKnown").iter_rows(named=True)
    rows = {(one["trial_id"], one["shot_set"], one["fact_id"]): one for one in tables.outcomes.iter_rows(named=True)}
    known = sorted(
        fact for (trial, on, fact), one in rows.items() if (trial, on) == (BASE, "S0") and one["correct"] and "control" in one["role"]
    )

    def share(trial_id: str, fact: str) -> float:
        return sum(rows[trial_id, on, fact]["correct"] / 10 for on in ("S1", "S2")) / 2

    pairs = [("t00-10", "t02-10"), ("t01-40", "t03-40")]
    differences = [share(one, fact) - share(other, fact) for one, other in pairs for fact in known]
    assert (row["pairs"], row["facts"]) == (2, len(known))
    assert row["value"] == pytest.approx(sum(differences) / len(differences))
    assert row["lower"] < row["value"] < row["upper"]


def test_arm_table_has_every_two_mixes_with_a_setting_in_common(tables: ReportTables) -> None:
    arms = arms_of(tables)
    assert arms.to_arrow().cast(result_schema.ARMS).schema == result_schema.ARMS
    pairs = [("Unknown only", "+1 HighlyKnown"), ("Unknown only", "+1 paraphrase"), ("+1 HighlyKnown", "+1 paraphrase")]
    assert list(arms.select("first", "second").iter_rows()) == pairs
    assert arms["pairs"].to_list() == [2, 1, 1]  # the paraphrase trial of N = 40 diverged


def test_arm_table_names_steps_that_differ_and_settings_that_one_mix_lacks(tables: ReportTables) -> None:
    arms = arms_of(tables)
    assert arms["unmet"].to_list() == [["equal_steps"], ["equal_pairs", "equal_steps"], ["equal_pairs"]]
    steps = pl.lit(50, pl.Int32)
    even = dataclasses.replace(tables, trials=tables.trials.with_columns(steps=steps, max_steps=steps))
    assert arms_of(even).filter(first="Unknown only", second="+1 HighlyKnown")["unmet"].to_list() == [[]]


def test_arm_table_tells_a_trial_that_had_learned_before_from_one_that_ran_all_its_steps(tables: ReportTables) -> None:
    steps = pl.lit(50, pl.Int32)
    planned = pl.when(pl.col("highly_known") == 1).then(80).otherwise(steps).cast(pl.Int32)
    early = dataclasses.replace(tables, trials=tables.trials.with_columns(steps=steps, max_steps=planned))
    assert arms_of(early).filter(first="Unknown only", second="+1 HighlyKnown")["unmet"].to_list() == [["equal_end"]]


def test_arm_table_leaves_stopped_trials_out(tables: ReportTables) -> None:
    replaying = pl.col("highly_known") == 1
    stopped = dataclasses.replace(
        tables, trials=tables.trials.with_columns(status=pl.when(replaying).then(pl.lit("stopped")).otherwise("status"))
    )
    assert "+1 HighlyKnown" not in {*arms_of(stopped)["first"], *arms_of(stopped)["second"]}


def test_mixes_that_answer_alike_differ_by_exactly_0_and_are_not_resolved(tables: ReportTables) -> None:
    twin = {"t02-10": "t00-10", "t03-40": "t01-40"}
    kept = tables.outcomes.filter(~pl.col("trial_id").is_in(list(twin)))
    copies = [tables.outcomes.filter(trial_id=of).with_columns(trial_id=pl.lit(new)) for new, of in twin.items()]
    alike = dataclasses.replace(tables, outcomes=pl.concat([kept, *copies]))
    (row,) = arms_of(alike).filter(first="Unknown only", second="+1 HighlyKnown").iter_rows(named=True)
    assert row["value"] == 0.0
    assert row["p_holm"] == 1.0


def test_sentence_has_one_wording_for_less_for_more_and_for_what_is_not_resolved(tables: ReportTables) -> None:
    less, learned = said(tables, comparison())
    assert less == (
        "Against “Unknown only”, on 40 known control facts and 2 trials of each mix: “+1 HighlyKnown” loses 5.1 points less (95% interval "
        "+1.0 to +9.2)."
    )
    assert learned == (
        "Reliability on S1 and exposures of a fact in these trials, on average: “+1 HighlyKnown” 0.746 and 5.00, against 0.942 and 10.0."
    )
    more, _ = said(tables, comparison(value=-0.051, lower=-0.092, upper=-0.01))
    assert "“+1 HighlyKnown” loses 5.1 points more (95% interval −9.2 to −1.0)" in more
    neither, _ = said(tables, comparison(p_holm=0.2))
    assert (
        "whether “+1 HighlyKnown” loses less or more is not resolved (95% interval +1.0 to +9.2; it could have resolved 6.0 points)"
        in neither
    )


def test_two_seeds_settle_nothing_and_three_do(tables: ReportTables) -> None:
    two, _ = said(tables, comparison(seeds=2, p_holm=1e-6))
    assert "whether “+1 HighlyKnown” loses less or more is not resolved (95% interval +1.0 to +9.2; two seeds are too few)" in two
    three, _ = said(tables, comparison(seeds=3))
    assert "“+1 HighlyKnown” loses 5.1 points less" in three
    arms = arms_of(tables).with_columns(seeds=pl.lit(2, pl.Int64), p_holm=pl.lit(0.0))
    (table,) = (block for block in arms_section(found_in(tables), arms).blocks if isinstance(block, Table))
    place = [column.title for column in table.columns].index("resolved")
    assert {row.cells[place] for row in table.rows} == {"two seeds"}


def test_sentence_turns_a_comparison_that_stands_the_other_way_round(tables: ReportTables) -> None:
    turned, _ = said(tables, comparison(first="Unknown only", second="+1 HighlyKnown", value=-0.051, lower=-0.092, upper=-0.01))
    assert "“+1 HighlyKnown” loses 5.1 points less (95% interval +1.0 to +9.2)" in turned


def test_sentence_names_what_else_differs(tables: ReportTables) -> None:
    *_, second = said(tables, comparison(unmet=["equal_steps", "equal_final_learning_rate"]))
    assert second == "These mixes also differ in optimiser steps and final learning rates, so this compares more than what was mixed in."
    assert set(CONDITIONS) == set(Condition)


def test_sentence_without_a_common_setting_says_so(tables: ReportTables) -> None:
    assert said(tables) == ["No setting was finished with two mixes, so the mixes are not compared."]
    single = dataclasses.replace(tables, trials=tables.trials.filter(pl.col("highly_known") == 0, pl.col("paraphrases") == 0))
    assert said(single) == []


def test_section_has_a_row_for_every_two_mixes(tables: ReportTables) -> None:
    section = arms_section(found_in(tables), arms_of(tables))
    (table,) = (block for block in section.blocks if isinstance(block, Table))
    assert len(table.rows) == 3
    assert table.rows[0].cells[-1] == "optimiser steps"
    assert arms_section(found_in(tables), arms_of(tables).clear()).blocks == ()
