"""The report says what the tables say, and needs nothing but itself to be read."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import plotly.graph_objects as go
import polars as pl
import pytest

from kp import schema
from kp.config.study import ReportConfig
from kp.errors import UserError
from kp.metrics import result_schema
from kp.metrics.effect_summary import reported_effects
from kp.report.answer import answer_text
from kp.report.base_model import base_model_section
from kp.report.document import Table
from kp.report.figure_data import Scatter
from kp.report.notation import counted, duration, measured, percent, points, points_interval, share_with_interval, with_error
from kp.report.pictures import pictures
from kp.report.provenance import limits
from kp.report.reading import read_report
from kp.report.summary import summary_table
from kp.report.tables import SCHEMAS, ReportTables
from kp.report.winners import evidence
from kp.report.writing import write_report
from kp.vocabulary import Matcher
from tests.made_up_study import CAUSE, FACTS, categories, context, frame_of, score, scores_of, study, told


def without_plotly(page: str) -> str:
    """The page less the inlined library, which is the one long script."""
    return re.sub(r"<script>(?!const settings).*?</script>", "", page, flags=re.DOTALL)


def embedded(page: str) -> list[dict]:
    return [json.loads(text) for text in re.findall(r'<script type="application/json">(.*?)</script>', page, flags=re.DOTALL)]


@pytest.fixture(scope="module")
def tables() -> ReportTables:
    return study()


@pytest.fixture(scope="module")
def folder(tables: ReportTables, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("report")
    assert write_report(tables, context(), place) == place / "report.html"
    return place


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (measured(0.9754), "0.975"),
        (measured(1.0), "1.00"),
        (measured(12345.6), "12,346"),
        (measured(None), "–"),
        (measured(float("nan")), "NaN"),
        (counted(21036.0), "21,036"),
        (share_with_interval(0, 28), "0.0 (0.0 to 12.1)"),
        (share_with_interval(28, 28), "100.0 (87.9 to 100.0)"),
        (share_with_interval(0, 0), "–"),
        (percent(0.0305, 0.0123), "3.05 ± 1.23"),
        (percent(0.0), "0"),
        (points(-0.045, 0.0161), "−4.50 ± 1.61"),
        (points(0.095), "+9.50"),
        (points(None, None), "–"),
        (with_error(100.0, 0.42), "100.0 ± 0.4"),
        (with_error(0.0, 0.0), "0 ± 0"),
        (points_interval(-0.05, -0.0904, -0.0096), "−5.0 (−9.0 to −1.0)"),
        (points_interval(0.0, -0.0004, 0.0), "0.0 (0.0 to 0.0)"),
        (points_interval(0.123, None, None), "+12.3"),
        (points_interval(None, None, None), "–"),
        (duration(3.25), "3.25 s"),
        (duration(3723), "1 h 02 min"),
    ],
)
def test_notation_of_a_number_is_consistent(written: str, expected: str) -> None:
    assert written == expected


def test_summary_joins_every_table_and_keeps_failed_trials(tables: ReportTables) -> None:
    summary = summary_table(tables)
    assert summary["arm"].unique(maintain_order=True).to_list() == ["Unknown only", "+1 HighlyKnown", "+1 paraphrase"]
    assert summary["label"].n_unique() == len(summary) == 6
    row = summary.row(by_predicate=pl.col("trial_id") == "t03-40", named=True)
    assert row["facts_packed"] == pytest.approx(0.945 * 40)
    assert row["mmlu_dev_delta"] == pytest.approx(-0.06)
    assert row["refusal_rate_delta"] == pytest.approx(0.006 - 0.031)
    net = tables.effects.filter(pl.col("shift").is_null(), trial_id="t03-40", subset="control", effect="net_change", at_risk=True)
    assert (row["knowledge_loss"], row["knowledge_loss_n"]) == (-net["value"][0], net["n"][0])
    failed = summary.row(by_predicate=pl.col("trial_id") == "t05-40", named=True)
    assert (failed["status"], failed["cause"], failed["reliability"], failed["mc1_delta"]) == ("diverged", CAUSE, None, None)


def test_answer_names_the_trial_that_packed_most_with_its_cost(tables: ReportTables) -> None:
    text = told(tables)
    assert "37.8 of 40 new facts (reliability 0.945 ± 0.036 on S2; chosen for 0.965 on S1), with “Unknown only”, rank 8" in text
    net = tables.effects.filter(pl.col("shift").is_null(), trial_id="t01-40", subset="control_test", effect="net_change", at_risk=True)
    assert f"Of the answers to the {net['n'][0]} control facts that the base knew (the test half, which had no part in the choice)" in text
    assert f"a net change of −{-100 * net['value'][0]:.1f} points (95% interval −{-100 * net['lower'][0]:.1f} to " in text
    assert "This shows harm." in text
    assert "In excess of the noise of the prompts, +" in text
    assert "Against “Unknown only”, on " in text
    assert "known control facts and 1 to 2 trials of each mix" in text
    assert "Refusals: 3.10 % of the base model's answers, 0 to 0.800 %" in text
    assert "1 of 6 trials (diverged)" in text


def test_answer_says_of_a_small_loss_that_it_is_not_resolved_or_within_the_margin() -> None:
    tables = study(harm=0.0)
    assert "This neither shows harm nor rules out more than 2 points of it; this study could have resolved" in told(tables)
    generous = dataclasses.replace(tables, effects=reported_effects(tables.outcomes, tables.facts, 0.5))
    assert "This rules out a harm of more than 50 points." in answer_text(generous, 0.5)


def test_answer_without_learning_says_so_first() -> None:
    assert told(study(reliability=0.06)).startswith("Nothing was learned: the highest reliability of any trial is 0.060")


def test_answer_below_the_threshold_gives_the_nearest_trial() -> None:
    text = told(study(reliability=0.5))
    assert text.startswith("No trial reached a reliability of 0.8; the nearest is 0.500")


def test_answer_without_any_measured_trial_claims_nothing(tables: ReportTables) -> None:
    unmeasured = {
        name: getattr(tables, name).clear() for name in ("scores", "shifts", "benchmarks", "benchmark_items", "benchmark_effects")
    }
    bare = dataclasses.replace(tables, **unmeasured)
    assert told(bare).startswith("No trial of 6 finished with an adapter whose answers were measured")


def test_answer_over_several_seeds_gives_their_range(tables: ReportTables) -> None:
    twin = tables.trials.filter(trial_id="t01-40").with_columns(trial_id=pl.lit("twin"), seed=pl.lit(1, pl.Int32))
    scores = frame_of(scores_of("twin", 0.85, 40, 0.0, 500), result_schema.SCORES)
    both = dataclasses.replace(tables, trials=pl.concat([tables.trials, twin]), scores=pl.concat([tables.scores, scores]))
    assert "seed 0; over 2 seeds the reliability on S1 is 0.850 to 0.965" in told(both)


def test_page_needs_no_network(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    assert 'src="http' not in page
    assert page.count("plotly.js (basic") == 1
    assert len(page) < 2_000_000
    own = without_plotly(page)
    assert len(own) < 300_000
    assert not re.search(r"https?:|<link|@import|<img|url\(", own)


def test_page_figures_are_valid_plotly_specifications(folder: Path) -> None:
    specifications = [one for one in embedded((folder / "report.html").read_text()) if "layout" in one]
    assert len(specifications) == 19
    for specification in specifications:
        text = json.dumps(specification)
        go.Figure(json.loads(re.sub(r"var\(--[a-z]+\)", "#123456", text)))


@pytest.mark.parametrize("name", ["report.html", "report.md"])
def test_report_holds_every_section_and_the_cause_of_a_failure(folder: Path, tables: ReportTables, name: str) -> None:
    text = (folder / name).read_text().replace("\\_", "_").replace("\u00a0", " ").replace("&#39;", "'")
    assert "step 12 &lt;nan>" in text or "step 12 &lt;nan&gt;" in text
    titles = (
        "Trials",
        "Effects on facts that were not trained on",
        "Mixes compared",
        "Where it learned and lost",
        "What the search found",
        "What the base model knows",
        "Learning",
        "Shifts",
        "Answers",
        "Benchmarks",
        "How it was made",
    )
    places = [text.index(f"## {title}" if name.endswith("md") else f"<h2>{title}") for title in titles]
    assert places == sorted(places)
    assert told(tables)[-60:] in text
    assert "not comparable with published MMLU" in text
    assert "One seed:" in text
    assert "noise (base twice)" in text
    assert 'matcher = "strict"' in text or "matcher = &#34;strict&#34;" in text


def test_base_section_counts_facts_that_noise_moved(folder: Path, tables: ReportTables) -> None:
    strict = tables.base_categories.filter(matcher="strict")
    one, two = (strict.filter(shot_set=name).sort("fact_id")["category"] for name in ("S1", "S2"))
    assert f"| S1 → S2 | 200 | {int((one != two).sum())} ·" in (folder / "report.md").read_text()


def test_base_section_compares_further_shot_sets_with_the_measuring_one_alone(tables: ReportTables) -> None:
    further = [categories(40 + number, "base-rev", f"S{number}", "strict") for number in (3, 4)]
    noisier = dataclasses.replace(tables, base_categories=pl.concat([tables.base_categories, *further]))
    by_shot_set, by_noise, *_ = base_model_section(noisier, Matcher.STRICT, set()).blocks
    assert isinstance(by_shot_set, Table)
    assert isinstance(by_noise, Table)
    assert [row.cells[0] for row in by_shot_set.rows[2:]] == [f"S{number} (measures again)" for number in (2, 3, 4)]
    assert [row.cells[0] for row in by_noise.rows] == ["S0 → S1", "S0 → S2", "S1 → S2", "S1 → S3", "S1 → S4"]


def slick_of(tables: ReportTables) -> pl.DataFrame:
    """The base sampled: the first three of the facts never right greedily are WeaklyKnown, with one right sample in 160."""
    assigned = tables.base_categories.filter(shot_set="S0", matcher="strict").sort("fact_id")
    unknown = pl.col("category") == "Unknown"
    weakly = unknown & (unknown.cast(pl.Int32).cum_sum() <= 3)
    return assigned.with_columns(
        pl.when(weakly).then(pl.lit("WeaklyKnown")).otherwise("category").alias("category"),
        weakly.cast(pl.Int32).alias("sampled_correct"),
        pl.when(unknown).then(160).otherwise(0).cast(pl.Int32).alias("sampled"),
    )


def test_report_of_a_sampled_base_has_one_row_of_slick_classes(tables: ReportTables, tmp_path: Path) -> None:
    slick = slick_of(tables)
    write_report(dataclasses.replace(tables, slick=slick), context(), tmp_path)
    facts = dict(slick["category"].value_counts().iter_rows())
    answers = 160 * (facts["Unknown"] + 3)
    cells = [f"{facts[name]} · {percent(facts[name] / FACTS)}" for name in ("HighlyKnown", "MaybeKnown", "WeaklyKnown", "Unknown")]
    row = " | ".join([str(FACTS), *cells, f"3/{answers:,} · {percent(3 / answers)}"])
    assert f"| {row} |" in (tmp_path / "report.md").read_text()
    assert "with 160 sampled answers each" in (tmp_path / "report.html").read_text()
    assert pl.read_parquet(tmp_path / "tables" / "slick.parquet").equals(slick)


def test_report_of_a_base_that_was_not_sampled_says_nothing_of_it(folder: Path) -> None:
    assert "WeaklyKnown" not in (folder / "report.md").read_text()
    assert not (folder / "tables" / "slick.parquet").exists()


def test_report_tables_sampled_class_among_greedy_ones_raises(tables: ReportTables) -> None:
    mixed = slick_of(tables).select(schema.CATEGORIES.names)
    with pytest.raises(UserError, match=r"column 'category': fact 'f[0-9]+' is 'WeaklyKnown', expected one of"):
        dataclasses.replace(tables, base_categories=mixed)


def test_base_section_counts_answers_that_matchers_judge_otherwise(folder: Path) -> None:
    report = (folder / "report.md").read_text()
    assert re.search(r"\| strict, released \| \d+/600 · [\d.]+ \| 23/6,000 · 0.383 \| 4 \| 19 \|", report)


def test_base_section_names_relations_where_a_constant_answer_is_right(folder: Path) -> None:
    report = (folder / "report.md").read_text()
    assert "| director of film | most common 2 | 18 of 40 | 50.0 | 6 of 10 |" in report
    assert "| all 3 |  | 27 of 120 | 25.0 | 9 of 30 |" in report
    assert "most common 0" not in report


def test_answers_table_has_the_share_cut_by_length_after_the_refusals(folder: Path) -> None:
    report = (folder / "report.md").read_text()
    assert "| model | refusals (%) | cut by length (%) | unique answers |" in report
    assert re.search(r"\| base \| 3\.10 ± [\d.]+ \| 0\.400 ± 0\.100 \| 640 \|", report)


def cut(tables: ReportTables, base: float, *adapters: float) -> list[str]:
    """The report's limits that speak of answers cut by length, where these shares are of the base and of as many adapters."""
    kept = tables.scores.filter(pl.col("measure") != "cut_by_length")
    shares = {"base": base, **dict(zip(tables.trials["trial_id"], adapters, strict=False))}
    rows = [score(trial_id, "cut_by_length", share, 2000, 0.001) for trial_id, share in shares.items()]
    changed = dataclasses.replace(tables, scores=pl.concat([kept, frame_of(rows, result_schema.SCORES)]))
    found = limits(changed, context(), evidence(changed, summary_table(changed)))
    return [reason for reason in found if "categorise.max_new_tokens" in reason]


def test_limits_name_answers_cut_by_length_where_they_are_many(tables: ReportTables) -> None:
    rest = "What would have followed was not judged; a larger categorise.max_new_tokens shows it."
    assert cut(tables, 0.01, 0.0, 0.01) == []
    begins = "Answers on S1 cut off by their length: "
    assert cut(tables, 0.002, 0.034, 0.0, 0.02) == [f"{begins}0.200 % of the base model's, 0 to 3.40 % of an adapter's. {rest}"]
    assert cut(tables, 0.25, 0.001) == [f"{begins}25.0 % of the base model's, 0.100 % of an adapter's. {rest}"]
    assert cut(tables, 0.25) == [f"{begins}25.0 % of the base model's. {rest}"]


def test_limits_name_the_harm_that_intervals_can_show_also_where_no_fact_has_changed(tables: ReportTables) -> None:
    nothing = {"value": 0.0, "standard_error": 0.0, "lower": -0.27, "upper": 0.27, "resolvable": 0.384}
    unchanged = dataclasses.replace(tables, effects=tables.effects.with_columns(**{name: pl.lit(value) for name, value in nothing.items()}))
    found = limits(unchanged, context(), evidence(unchanged, summary_table(unchanged)))
    (few,) = (reason for reason in found if "facts are few" in reason)
    assert few.endswith("about 38.4 percentage points.")


def test_markdown_pictures_are_beside_it(folder: Path) -> None:
    linked = re.findall(r"\]\((figures/[a-z_]+\.png)\)", (folder / "report.md").read_text())
    assert len(linked) == 9
    assert all((folder / path).read_bytes().startswith(b"\x89PNG") for path in linked)
    beside = [(folder / path).with_suffix(ending).name for path in linked for ending in (".png", ".svg")]
    assert sorted(path.name for path in (folder / "figures").iterdir()) == sorted(beside)


def test_tables_round_trip_through_their_schemas(folder: Path, tables: ReportTables) -> None:
    for name, wanted in SCHEMAS.items():
        found = pl.DataFrame(schema.read_table(folder / "tables" / f"{name}.parquet", wanted))
        assert found.equals(getattr(tables, name)), name
    rows = schema.read_table(folder / "tables" / "training_rows" / "t01-40.parquet", schema.TRAINING_ROWS)
    assert pl.DataFrame(rows).equals(tables.training_rows["t01-40"])
    assert pl.read_parquet(folder / "tables" / "summary.parquet").equals(summary_table(tables))
    assert pl.read_csv(folder / "tables" / "summary.csv")["trial_id"].to_list() == summary_table(tables)["trial_id"].to_list()


def test_report_of_the_same_tables_is_the_same_bytes(folder: Path, tables: ReportTables, tmp_path: Path) -> None:
    write_report(tables, context(), tmp_path)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / path.relative_to(folder)).read_bytes(), path


def test_report_is_made_again_from_its_tables_with_another_margin(folder: Path, tables: ReportTables, tmp_path: Path) -> None:
    again, circumstances = read_report(folder, ReportConfig())
    assert circumstances == context()
    assert again.effects.equals(tables.effects)
    assert again.shifts.equals(tables.shifts)
    assert again.benchmark_effects.equals(tables.benchmark_effects)
    generous, circumstances = read_report(folder, ReportConfig(margin=0.5))
    assert circumstances.margin == 0.5
    assert "within_margin" in set(generous.effects["verdict"])
    write_report(generous, circumstances, tmp_path)
    assert "a harm beyond 50 points is ruled out" in (tmp_path / "report.md").read_text()


def test_report_of_a_folder_without_circumstances_or_a_table_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "context.json").write_text("{}")
    with pytest.raises(UserError, match=r"context\.json: not the circumstances of a report"):
        read_report(copy, ReportConfig())
    (copy / "tables" / "outcomes.parquet").unlink()
    with pytest.raises(UserError, match=r"outcomes\.parquet: not a readable parquet file"):
        read_report(copy, ReportConfig())


def test_report_of_trials_alone_still_stands(tables: ReportTables, tmp_path: Path) -> None:
    empty = {name: getattr(tables, name).clear() for name in SCHEMAS if name not in ("trials", "facts")}
    write_report(dataclasses.replace(tables, **empty, training_rows={}), context(), tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "No trial of 6" in page
    assert "step 12 &lt;nan&gt;" in page
    assert list((tmp_path / "figures").iterdir()) == []


def test_picture_of_a_wide_grid_places_sizes_by_their_root(tables: ReportTables) -> None:
    sizes = pl.when(pl.col("unknown") == 40).then(3000).otherwise(10).cast(pl.Int32)
    wide = dataclasses.replace(tables, trials=tables.trials.with_columns(unknown=sizes))
    picture = pictures(wide, evidence(wide, summary_table(wide)), Matcher.STRICT, 0.02)["packed_against_lost"]
    assert isinstance(picture, Scatter)
    assert picture.x_ticks == ((0.0, "0"), (pytest.approx(10**0.5), "10"), (pytest.approx(3000**0.5), "3,000"))
    assert picture.best_point is not None
    assert picture.best_point.x == pytest.approx((0.965 * 3000) ** 0.5)


def test_folder_that_holds_something_is_refused(tables: ReportTables, tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_text("kept")
    with pytest.raises(UserError, match="not empty"):
        write_report(tables, context(), tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        write_report(tables, context(), tmp_path / "nowhere")


def test_table_without_a_column_is_refused_by_name(tables: ReportTables) -> None:
    with pytest.raises(UserError, match="scores: column 'measure' is missing"):
        dataclasses.replace(tables, scores=tables.scores.drop("measure"))


def test_config_without_a_matcher_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"categorise\.matcher"):
        _ = dataclasses.replace(context(), config={}).matcher
