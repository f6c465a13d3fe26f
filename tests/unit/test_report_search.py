"""What the report of a search says of trials that were stopped, of the configurations that learned, and of facts set apart for the test."""

import dataclasses
import re
from pathlib import Path

import polars as pl
import pytest

from kp.metrics import result_schema
from kp.report.curves import learning_curves, loss_curves, style_sentence
from kp.report.document import Points, Row, Table, Text
from kp.report.figure_data import QUIET_COLOUR, Line, Scatter
from kp.report.figures_html import interactive
from kp.report.labels import free_knobs, varied_knobs
from kp.report.pictures import pictures
from kp.report.provenance import made_section
from kp.report.search_section import search_section
from kp.report.summary import summary_table
from kp.report.tables import ReportTables
from kp.report.trials_section import trials_section
from kp.report.winners import best_trial
from kp.report.writing import write_report
from kp.vocabulary import Matcher
from tests.made_up_study import context, found_in, frame_of, score, search, study, told, without_controls

STOPPED = 13  # of the 24 trials of the made-up search
OF_TRIALS = ("trials", "epochs", "shifts", "scores", "benchmarks", "benchmark_items", "benchmark_effects")


@pytest.fixture(scope="module")
def tables() -> ReportTables:
    return search()


@pytest.fixture(scope="module")
def summary(tables: ReportTables) -> pl.DataFrame:
    return summary_table(tables)


@pytest.fixture(scope="module")
def page(tables: ReportTables, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("search")
    write_report(tables, context(), folder)
    return (folder / "report.md").read_text()


def changed(tables: ReportTables, trial_ids: list[str], **columns: pl.Expr) -> ReportTables:
    """The tables with these columns of these trials set."""
    chosen = pl.col("trial_id").is_in(trial_ids)
    trials = tables.trials.with_columns(pl.when(chosen).then(value).otherwise(name).alias(name) for name, value in columns.items())
    return dataclasses.replace(tables, trials=trials.cast(tables.trials.schema))


def reseeded(tables: ReportTables, seeds: int) -> ReportTables:
    """Every trial once a seed; unknown_accuracy and reliability are lower by a tenth with each."""
    named = {seed: (pl.col("trial_id") + f"-{seed}").alias("trial_id") for seed in range(seeds)}
    lowered = {seed: 1 - 0.1 * seed for seed in named}
    return dataclasses.replace(
        tables,
        trials=pl.concat(tables.trials.with_columns(name, seed=pl.lit(seed, pl.Int32)) for seed, name in named.items()),
        epochs=pl.concat(
            tables.epochs.with_columns(name, unknown_accuracy=lowered[seed] * pl.col("unknown_accuracy")) for seed, name in named.items()
        ),
        scores=pl.concat(tables.scores.with_columns(name, value=lowered[seed] * pl.col("value")) for seed, name in named.items()),
        shifts=tables.shifts.clear(),
    )


def search_points(tables: ReportTables) -> tuple[str, ...]:
    return next(block.items for block in search_section(found_in(tables)).blocks if isinstance(block, Points))


def test_labels_are_unique_name_what_varies_and_mark_stopped_trials(summary: pl.DataFrame) -> None:
    assert summary["label"].n_unique() == len(summary) == 24
    assert "N=100 · +1 HK +2 P r=16 lr=0.003" in summary["label"].to_list()
    assert summary.filter(pl.col("label").str.ends_with("†"))["status"].to_list() == ["stopped"] * STOPPED


def test_labels_of_learning_rates_alike_in_three_digits_are_still_unique(tables: ReportTables) -> None:
    near = changed(tables, ["s06", "s05"], rank=pl.lit(16), lora_alpha=pl.lit(32.0), learning_rate=pl.lit(0.0030001))
    near = changed(near, ["s06"], learning_rate=pl.lit(0.0030002))
    labels = summary_table(near)["label"]
    assert labels.n_unique() == 24
    assert "N=100 · UK only r=16 lr=0.003 s05" in labels.to_list()


def test_knobs_that_follow_rank_or_mix_are_told_and_name_no_configuration(summary: pl.DataFrame) -> None:
    assert varied_knobs(summary) == ["lora_alpha", "kl_coefficient"]
    assert free_knobs(summary) == []


def test_scale_that_varies_with_the_rank_is_told_where_one_alpha_serves_all_ranks(tables: ReportTables) -> None:
    scaled = changed(tables, tables.trials["trial_id"].to_list(), lora_alpha=pl.lit(16.0), lora_scale=16 / pl.col("rank"))
    (table,) = trials_section(scaled, found_in(scaled)).blocks
    assert isinstance(table, Table)
    titles = [column.title for column in table.columns]
    assert titles[4:9] == ["rank", "learning rate", "KL coefficient", "LoRA scale", "epochs"]
    assert free_knobs(summary_table(scaled)) == []


def test_trials_table_has_rank_and_learning_rate_and_only_knobs_that_vary(tables: ReportTables) -> None:
    (table,) = trials_section(tables, found_in(tables)).blocks
    assert isinstance(table, Table)
    titles = [column.title for column in table.columns]
    assert titles[4:9] == ["rank", "learning rate", "alpha", "KL coefficient", "epochs"]
    assert not {"init", "schedule", "seed", "generality ± s.e."} & set(titles)
    warmer = changed(tables, ["s05"], schedule=pl.lit("cosine"))
    (table,) = trials_section(warmer, found_in(warmer)).blocks
    assert isinstance(table, Table)
    assert "schedule" in [column.title for column in table.columns]
    assert "N=100 · UK only r=16 lr=0.003 schedule=cosine" in summary_table(warmer)["label"].to_list()


def test_trials_table_has_no_column_for_a_knob_that_stands_in_the_name_of_the_mix(tables: ReportTables) -> None:
    found = found_in(tables)
    with_kl = pl.when(pl.col("kl_coefficient") > 0).then(pl.format("{}, KL coefficient {}", "arm", "kl_coefficient")).otherwise("arm")
    named = dataclasses.replace(found, summary=found.summary.with_columns(arm=with_kl))
    (table,) = trials_section(tables, named).blocks
    assert isinstance(table, Table)
    assert [column.title for column in table.columns][4:8] == ["rank", "learning rate", "alpha", "epochs"]


def test_width_of_a_table_is_that_of_its_longest_lines() -> None:
    table = Table("", (), (Row(("a", "bb\nccc")), Row(("dddd", ""))))
    assert table.characters == 7
    assert Table("", (), ()).characters == 0


def test_trials_table_gives_the_cause_of_what_did_not_run_its_course_alone(page: str, tables: ReportTables) -> None:
    assert page.count("asha: below the best quarter") == STOPPED
    assert "s14, oom: out of memory" in page
    assert "ran its 10 epochs" not in page
    assert page.count("stopped † |") == STOPPED


def test_trials_table_has_generality_where_it_was_measured(tables: ReportTables) -> None:
    measured = frame_of([score("s05", "generality", 0.5, 300, 0.031)], result_schema.SCORES)
    wider = dataclasses.replace(tables, scores=pl.concat([tables.scores, measured]))
    (table,) = trials_section(wider, found_in(wider)).blocks
    assert isinstance(table, Table)
    place = [column.title for column in table.columns].index("generality ± s.e.")
    assert {row.cells[0]: row.cells[place] for row in table.rows if row.cells[place] != "–"} == {"s05": "0.500 ± 0.031"}


def test_answer_counts_stopped_trials_and_says_why_they_are_left_out(tables: ReportTables) -> None:
    text = told(tables)
    assert f"{STOPPED} of 24 trials were stopped early by the scheduler (†). They trained for fewer epochs" in text
    assert "Not measured, and in no comparison: 2 of 24 trials (diverged, oom)." in text


def test_stopped_trial_that_packed_most_is_not_the_best(tables: ReportTables) -> None:
    best = best_trial(found_in(tables))
    assert best is not None
    assert best["trial_id"] == "s23"
    next_best = best_trial(found_in(changed(tables, ["s23"], status=pl.lit("stopped"))))
    assert next_best is not None
    assert next_best["trial_id"] == "s15"


def test_search_names_every_configuration_that_reaches_the_reliability(tables: ReportTables) -> None:
    (sentence,) = search_points(tables)
    reached = tables.scores.filter((pl.col("measure") == "reliability") & (pl.col("value") >= 0.95))
    assert sentence.startswith(
        "N = 100 Unknown facts reach a reliability of 0.95 on S1 with (figures on S2): rank 64, learning rate 0.003, +1 MaybeKnown (0.960 ±"
    )
    assert sentence.count("learning rate") == len(reached) == 4
    assert "N = 100 Unknown facts reach a reliability of 0.95 on S1 with" in told(tables)
    assert "; and 1 more." in told(tables)


def test_search_without_a_reliable_configuration_gives_the_nearest(tables: ReportTables) -> None:
    weak = dataclasses.replace(tables, scores=tables.scores.with_columns(value=0.9 * pl.col("value")))
    (sentence,) = search_points(weak)
    assert sentence == (
        "N = 100: no configuration reaches a reliability of 0.95 on S1; the nearest (figures on S2) is rank 64, learning rate 0.003, "
        "+1 MaybeKnown (0.864 ± 0.020)."
    )
    assert "reach a reliability of 0.95" not in told(weak)


def test_search_over_seeds_judges_a_configuration_by_their_mean(tables: ReportTables) -> None:
    (sentence,) = search_points(reseeded(tables, 2))
    assert sentence.startswith("N = 100: no configuration reaches")
    assert "(0.912, 0.864 to 0.960 over 2 seeds)" in sentence


def test_grid_has_a_row_a_setting_and_a_column_a_mix(tables: ReportTables) -> None:
    grid = search_section(found_in(tables)).blocks[-1]
    assert isinstance(grid, Table)
    assert [column.title for column in grid.columns] == [
        *("N", "rank", "learning rate"),
        *("Unknown only", "+1 MaybeKnown", "+1 HighlyKnown +2 paraphrases"),
    ]
    cells = {row.cells[1:3]: row.cells[3:] for row in grid.rows}
    assert len(cells) == 8
    assert cells[("1", "0.001")][0] == "0.315 †"
    assert cells[("16", "0.003")][0].startswith("0.850 ±")
    assert (cells[("64", "0.003")][0], cells[("64", "0.001")][1]) == ("diverged", "oom")


def test_section_tells_how_the_trials_ended(tables: ReportTables) -> None:
    text = search_section(found_in(tables)).blocks[0]
    assert isinstance(text, Text)
    assert text.text.startswith("24 trials: 9 completed, 13 stopped, 1 diverged, 1 oom.")


def test_section_of_adapters_that_were_asked_nothing_has_no_grid(tables: ReportTables) -> None:
    found = found_in(tables)
    unasked = dataclasses.replace(found, summary=found.summary.with_columns(reliability=pl.lit(None, pl.Float64)))
    (block,) = search_section(unasked).blocks
    assert isinstance(block, Text)
    assert block.text.startswith("24 trials: ")


def test_scatter_draws_stopped_trials_with_a_mark_of_their_own(tables: ReportTables) -> None:
    picture = pictures(tables, found_in(tables), Matcher.STRICT, 0.02)["packed_against_lost"]
    assert isinstance(picture, Scatter)
    assert sum(point.stopped for group in picture.groups for point in group.points) == STOPPED
    page = interactive(picture)
    assert "stopped early" in [item.name for item in page.legend]
    symbols = [symbol for trace in page.panels[0]["data"][:3] for symbol in trace["marker"]["symbol"]]
    assert symbols.count("x-thin") == STOPPED


def test_learning_curves_have_a_panel_a_mix_and_a_colour_a_rank(tables: ReportTables, summary: pl.DataFrame) -> None:
    picture = learning_curves(tables, summary)
    assert picture is not None
    assert [panel.title for panel in picture.panels] == ["Unknown only", "+1 MaybeKnown", "+1 HighlyKnown +2 paraphrases"]
    assert [key.name for key in picture.keys] == [
        *("rank 1", "rank 4", "rank 16", "rank 64"),
        *("learning rate 0.001", "learning rate 0.003", "ended early"),
    ]
    lines = [line for panel in picture.panels for line in panel.lines]
    assert {len(line.x) for line in lines if line.cut_short} == {3}
    assert sum(line.cut_short for line in lines) == STOPPED  # the diverged trial and the one without an epoch have nothing to draw
    styles = {(line.group, line.dash, line.name.split("learning rate ")[1][:5]) for line in lines}
    assert {dash for _, dash, rate in styles if rate == "0.003"} == {"solid"}
    assert {dash for _, dash, rate in styles if rate == "0.001"} == {"dash"}
    assert loss_curves(tables, summary) is not None


def test_learning_curves_of_several_sizes_are_coloured_by_size() -> None:
    small = study()
    picture = learning_curves(small, summary_table(small))
    assert picture is not None
    assert [key.name for key in picture.keys] == ["N = 10", "N = 40"]
    assert [len(panel.lines) for panel in picture.panels] == [2, 2, 1]


def test_learning_curves_of_drawn_learning_rates_leave_them_to_no_dash(tables: ReportTables, summary: pl.DataFrame) -> None:
    assert style_sentence(summary) == "Colour is the rank, the dash the learning rate."
    rates = pl.Series([1e-3 * 1.1**place for place in range(24)])
    drawn = dataclasses.replace(tables, trials=tables.trials.with_columns(learning_rate=rates))
    picture = learning_curves(drawn, summary_table(drawn))
    assert picture is not None
    assert {line.dash for panel in picture.panels for line in panel.lines} == {"solid"}
    assert style_sentence(summary_table(drawn)) == "Colour is the rank."


def test_learning_curves_over_seeds_are_means_with_their_range(tables: ReportTables) -> None:
    seeded = reseeded(tables, 3)
    picture = learning_curves(seeded, summary_table(seeded))
    single = learning_curves(tables, summary_table(tables))
    assert picture is not None
    assert single is not None
    mean, alone = picture.panels[0].lines[-1], single.panels[0].lines[-1]
    assert alone.low == alone.high == ()
    assert mean.y == pytest.approx([0.9 * value for value in alone.y if value is not None])
    assert mean.high == pytest.approx(alone.y)
    assert mean.low == pytest.approx([0.8 * value for value in alone.y if value is not None])


def test_learning_curve_of_seeds_of_which_one_finished_early_carries_its_last_value(tables: ReportTables) -> None:
    seeded = reseeded(tables, 2)
    early = (pl.col("trial_id") == "s05-1") & (pl.col("epoch") > 4)
    shorter = dataclasses.replace(seeded, epochs=seeded.epochs.filter(~early))
    fourth = seeded.epochs.filter(trial_id="s05-1", epoch=4)["unknown_accuracy"][0]
    picture = learning_curves(shorter, summary_table(shorter))
    assert picture is not None
    line = next(line for line in picture.panels[0].lines if "rank 16, learning rate 0.003" in line.name)
    assert line.x == tuple(range(1, 11))
    assert line.low[-1] == pytest.approx(fourth)


def test_crowded_learning_curves_put_what_ended_early_behind_in_grey(tables: ReportTables) -> None:
    sizes = [tables.trials.with_columns(pl.col("trial_id") + f"-{n}", unknown=pl.lit(n, pl.Int32)) for n in (50, 100)]
    epochs = [tables.epochs.with_columns(pl.col("trial_id") + f"-{n}") for n in (50, 100)]
    crowded = dataclasses.replace(tables, trials=pl.concat(sizes), epochs=pl.concat(epochs))
    picture = learning_curves(crowded, summary_table(crowded))
    assert picture is not None
    lines: list[Line] = [line for panel in picture.panels for line in panel.lines]
    assert {line.colour == QUIET_COLOUR for line in lines if line.cut_short} == {True}
    assert {line.colour == QUIET_COLOUR for line in lines if not line.cut_short} == {False}
    assert all(sorted(panel.lines, key=lambda line: not line.cut_short) == list(panel.lines) for panel in picture.panels)
    assert "rank 16" in [key.name for key in picture.keys]


def test_winner_is_chosen_on_dev_facts_and_told_on_test_facts() -> None:
    tables = study()
    equal = changed(tables, ["t01-40", "t03-40"], unknown_accuracy=pl.lit(0.9))
    scores = equal.scores.with_columns(
        value=pl.when(pl.col("trial_id").is_in(["t01-40", "t03-40"]) & (pl.col("measure") == "reliability")).then(0.95).otherwise("value")
    )
    equal = dataclasses.replace(equal, scores=scores)

    def losing(trial_id: str, half: str) -> ReportTables:
        worse = (pl.col("trial_id") == trial_id) & (pl.col("subset") == half) & (pl.col("effect") == "net_change")
        return dataclasses.replace(equal, effects=equal.effects.with_columns(value=pl.when(worse).then(-0.9).otherwise("value")))

    for trial_id, other in (("t01-40", "t03-40"), ("t03-40", "t01-40")):
        best = best_trial(found_in(losing(trial_id, "control_dev")))
        assert best is not None
        assert best["trial_id"] == other  # both packed as much, and this one lost less on dev facts
    one, two = (best_trial(found_in(losing(trial_id, "control_test"))) for trial_id in ("t01-40", "t03-40"))
    assert one == two  # the test facts have no part in the choice


def test_study_without_control_facts_says_what_its_harm_is_told_of() -> None:
    with_controls, without = study(), without_controls(study())
    assert "control facts that the base knew (the test half" in told(with_controls)
    assert "other facts that the base knew, " in told(without)
    limit = "No facts were kept out of all training (facts.control_share = 0)"
    assert limit not in str(made_section(with_controls, context(), found_in(with_controls)))
    assert limit in str(made_section(without, context(), found_in(without)))


def test_parts_are_written_beside_the_other_tables(tmp_path: Path) -> None:
    tables = study()
    write_report(tables, context(), tmp_path)
    assert tables.parts is not None
    assert pl.read_parquet(tmp_path / "tables" / "parts.parquet").equals(tables.parts)


def test_times_of_the_trials_are_summed_with_the_share_of_training(page: str) -> None:
    assert "the wall time of 23 trials, summed; 1 without times are left out" in page
    assert re.search(r"\| training: optimiser steps \| 11 min 30 s \| 75.0 \|", page)
    assert re.search(r"\| the rest: checkpoints, waiting for workers \| 46.0 s \| 5.00 \|", page)


def test_report_of_one_stopped_trial_still_stands(tables: ReportTables, tmp_path: Path) -> None:
    only = pl.col("trial_id").is_in(["s00", "base", "noise"])
    frames = {name: getattr(tables, name).filter(only) for name in OF_TRIALS}
    write_report(dataclasses.replace(tables, **frames, training_rows={}), context(), tmp_path)
    page = (tmp_path / "report.md").read_text()
    assert "No trial of 1 finished with an adapter whose answers were measured" in page
    assert "1 of 1 trials was stopped early by the scheduler" in page
    assert "N = 100: no configuration was finished and measured." in page


def test_report_without_any_trial_still_stands(tables: ReportTables, tmp_path: Path) -> None:
    reference = pl.col("trial_id").is_in(["base", "noise"])
    frames = {name: getattr(tables, name).filter(reference) for name in OF_TRIALS}
    write_report(dataclasses.replace(tables, **frames, training_rows={}), context(), tmp_path)
    assert "No trial of 0 finished" in (tmp_path / "report.md").read_text()
