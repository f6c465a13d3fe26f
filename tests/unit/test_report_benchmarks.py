"""What the report says of benchmarks and refusals: differences over the same questions, one wording a verdict."""

import dataclasses

import polars as pl
import pytest

from kp.metrics.benchmark_effects import benchmark_effects
from kp.metrics.refusal_changes import refusal_changes
from kp.report.answer import answer_text
from kp.report.arms_section import arm_table
from kp.report.contents import compose
from kp.report.document import Table
from kp.report.figure_data import DotPanels
from kp.report.pictures import pictures
from kp.report.provenance import limits
from kp.report.summary import summary_table
from kp.report.tables import ReportTables
from kp.report.winners import evidence
from kp.vocabulary import BASE, Matcher, Verdict
from tests.made_up_study import ANSWERS, REFUSED, context, study, told

MMLU = pl.col("task") == "kp_mmlu_dev"


@pytest.fixture(scope="module")
def tables() -> ReportTables:
    return study()


def judged(tables: ReportTables, *verdicts: Verdict) -> ReportTables:
    """The study with these verdicts on MMLU, trial by trial, the last one repeated; 9.1 points and more could have been resolved."""
    effects = tables.benchmark_effects
    trials = effects.filter(MMLU)["trial_id"].to_list()
    given = dict(zip(trials, [*verdicts, *[verdicts[-1]] * len(trials)], strict=False))
    resolvable = {trial_id: 0.091 + 0.01 * place for place, trial_id in enumerate(trials)}
    of_trial = pl.col("trial_id").replace_strict(given, return_dtype=pl.String)
    could = pl.col("trial_id").replace_strict(resolvable, return_dtype=pl.Float64)
    return dataclasses.replace(
        tables,
        benchmark_effects=effects.with_columns(
            verdict=pl.when(MMLU).then(of_trial).otherwise("verdict"), resolvable=pl.when(MMLU).then(could).otherwise("resolvable")
        ),
    )


def benchmarks_table(tables: ReportTables) -> Table:
    found = evidence(tables, summary_table(tables))
    document = compose(tables, context(), found, arm_table(tables, found), ())
    (section,) = (one for one in document.sections if one.anchor == "benchmarks")
    (table,) = (block for block in section.blocks if isinstance(block, Table))
    return table


@pytest.mark.parametrize(
    ("verdicts", "words"),
    [
        ([Verdict.HARM_SHOWN], "MMLU-dev −8.00 to 0 (of 5 adapters: harm shown for 5); "),
        ([Verdict.WITHIN_MARGIN], "MMLU-dev −8.00 to 0 (of 5 adapters: no harm beyond 2 points shown for 5); "),
        ([Verdict.NOT_RESOLVED], "(of 5 adapters: not resolved for 5, where a harm of 9.1 to 13.1 could have been resolved); "),
        (
            [Verdict.HARM_SHOWN, Verdict.WITHIN_MARGIN, Verdict.WITHIN_MARGIN, Verdict.WITHIN_MARGIN, Verdict.NOT_RESOLVED],
            "(of 5 adapters: harm shown for 1, no harm beyond 2 points shown for 3, not resolved for 1, "
            "where a harm of 13.1 could have been resolved); ",
        ),
    ],
)
def test_answer_says_for_how_many_adapters_each_verdict_on_a_benchmark_holds(
    tables: ReportTables, verdicts: list[Verdict], words: str
) -> None:
    text = told(judged(tables, *verdicts))
    assert "Benchmarks against the base over the same questions, in points: MMLU-dev −8.00 to 0 (" in text
    assert words in text
    assert "within the noise" not in text


def test_answer_names_the_margin_of_the_study(tables: ReportTables) -> None:
    assert "no harm beyond 3.5 points shown for 5" in answer_text(judged(tables, Verdict.WITHIN_MARGIN), 0.035)


def test_answer_of_a_study_without_benchmarks_says_nothing_of_them(tables: ReportTables) -> None:
    assert "Benchmarks" not in told(dataclasses.replace(tables, benchmark_effects=tables.benchmark_effects.clear()))


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (Verdict.HARM_SHOWN, "harm shown"),
        (Verdict.WITHIN_MARGIN, "no harm beyond the margin shown"),
        (Verdict.NOT_RESOLVED, "not resolved\ncould resolve 9.1"),
    ],
)
def test_benchmarks_table_has_one_wording_a_verdict(tables: ReportTables, verdict: Verdict, words: str) -> None:
    table = benchmarks_table(judged(tables, verdict))
    place = [column.title for column in table.columns].index("verdict")
    of_mmlu = [row for row in table.rows if row.cells[1].startswith("kp_mmlu_dev")]
    assert [row.cells[place] for row in of_mmlu][:2] == ["–", words]
    assert of_mmlu[0].reference


def test_benchmarks_table_gives_differences_with_paired_intervals_and_says_what_is_corrected(tables: ReportTables) -> None:
    table = benchmarks_table(tables)
    place = [column.title for column in table.columns].index("difference to base (points)")
    effect = tables.benchmark_effects.filter(MMLU, trial_id="t04-10").row(0, named=True)
    lower, upper = (f"{100 * effect[end]:+.1f}".replace("-", "−") for end in ("lower", "upper"))
    assert f"−8.0 ({lower} to {upper})" in [row.cells[place] for row in table.rows]
    assert "questions of kp_mmlu_dev are clustered by subject" in table.caption
    assert "the margin is 2 points" in table.caption
    assert "corrected (Holm)" in table.caption
    assert "independent" not in table.caption


def test_summary_differences_of_benchmarks_are_those_of_the_effects(tables: ReportTables) -> None:
    row = summary_table(tables).row(by_predicate=pl.col("trial_id") == "t03-40", named=True)
    for metric, name in (("acc", "mmlu_dev"), ("mc1", "mc1"), ("mc2", "mc2")):
        effect = tables.benchmark_effects.filter(trial_id="t03-40", metric=metric).row(0, named=True)
        found = [row[f"{name}_delta{ending}"] for ending in ("", "_se", "_lower", "_upper", "_resolvable", "_verdict")]
        assert found == [effect[column] for column in ("value", "standard_error", "lower", "upper", "resolvable", "verdict")]
        assert row[name] + 0.06 == pytest.approx(effect["base"])


def test_effects_of_a_benchmark_are_recomputed_from_its_items(tables: ReportTables) -> None:
    assert benchmark_effects(tables.benchmark_items, context().margin).equals(tables.benchmark_effects)


def test_picture_of_benchmarks_has_bars_of_the_paired_intervals(tables: ReportTables) -> None:
    summary = summary_table(tables)
    picture = pictures(tables, evidence(tables, summary), Matcher.STRICT, 0.02)["benchmarks"]
    assert isinstance(picture, DotPanels)
    assert [panel.x_title for panel in picture.panels] == [f"{name}, difference (points)" for name in ("MMLU-dev", "MC1", "MC2")]
    measured = summary.filter(pl.col("mc1_delta").is_not_null())
    bars = [(dot.value, *dot.ends) for dot in picture.panels[1].dots]
    columns = ("mc1_delta", "mc1_delta_lower", "mc1_delta_upper")
    assert bars == [tuple(100 * value for value in row) for row in measured.select(columns).rows()]


def test_limits_name_the_smallest_harm_of_a_benchmark_that_the_study_sees(tables: ReportTables) -> None:
    resolved = judged(tables, Verdict.NOT_RESOLVED)
    (said,) = (line for line in limits(resolved, context(), evidence(resolved, summary_table(resolved))) if "benchmarks" in line)
    assert said.startswith("The benchmarks are small; the smallest harm that they show of a typical trial, in percentage points: ")
    assert "kp_mmlu_dev acc (n = 50) about 11.1" in said


def test_summary_refusals_are_paired_by_fact(tables: ReportTables) -> None:
    row = summary_table(tables).row(by_predicate=pl.col("trial_id") == "t03-40", named=True)
    change = refusal_changes(tables.outcomes, tables.facts).row(by_predicate=pl.col("trial_id") == "t03-40", named=True)
    found = [row[f"refusal_rate_delta{ending}"] for ending in ("", "_se", "_lower", "_upper", "_p_holm")]
    assert found == [change[column] for column in ("value", "standard_error", "lower", "upper", "p_holm")]
    assert row["refusal_rate_delta"] == pytest.approx((12 - REFUSED) / ANSWERS)


def test_answer_says_how_many_adapters_changed_their_refusals(tables: ReportTables) -> None:
    refusals = "Refusals: 3.10 % of the base model's answers, 0 to 0.800 % of the adapters'"
    assert f"{refusals} (a change is shown for 5 of 5 adapters, at 95% with Holm's correction)." in told(tables)
    base = tables.outcomes.filter(trial_id=BASE, shot_set="S1").select("fact_id", pl.col("refused").alias("of_base"))
    same = tables.outcomes.join(base, on="fact_id", maintain_order="left").with_columns(refused="of_base").drop("of_base")
    text = told(dataclasses.replace(tables, outcomes=same))
    assert f"{refusals} (a change is shown for none of 5 adapters, at 95% with Holm's correction)." in text
    assert "within the noise" not in text
