"""From committed steps to the report's tables, with answers that nobody gave."""

from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from kp import schema
from kp.config.study import StudyConfig, load_study
from kp.metrics.categories import categorise
from kp.metrics.generality import answers_by_fact, held_out_questions
from kp.report.tables import ReportTables
from kp.store.filenames import (
    ANSWERS_FILE,
    BENCHMARK_ITEMS_FILE,
    BENCHMARKS_FILE,
    CATEGORIES_FILE,
    DRIFT_FILE,
    EPOCHS_FILE,
    FACTS_FILE,
    PARTS_FILE,
    ROWS_FILE,
    SURPRISAL_FILE,
    TRIAL_FILE,
)
from kp.store.steps import Step, Store
from kp.study.building import build_graph
from kp.study.graph import Graph
from kp.study.identities import Identities
from kp.study.results import collect_tables, trial_columns
from kp.training.spec import TRIALS
from tests.made_up_benchmarks import benchmark_items, benchmarks_of
from tests.made_up_study import facts, frame_of

SMOKE = Path(__file__).parents[2] / "ray_jobs" / "studies" / "smoke.toml"
FACTS = facts().head(40).with_columns(pl.Series([[f"P{number} {row}?" for number in range(4)] for row in range(40)]).alias("paraphrases"))
PACKED = FACTS["fact_id"].to_list()[:6]
LEARNED = set(PACKED[:4])
PARTS = FACTS.select("fact_id", pl.Series("part", ["pool"] * 30 + ["control_dev", "control_test"] * 5))
BARE = (
    "search.arms=[{}]",
    "search.unknown=[6]",
    "evaluate.reversed_questions=false",
    "evaluate.completions=0",
    "evaluate.mmlu_dev=0",
    "evaluate.held_out_paraphrases=0",
    "evaluate.misconceptions=0",
    "facts.control_share=0.0",
)


def answers_of(model_id: str, shot_set: str, asked: pl.DataFrame, right: set[str]) -> pl.DataFrame:
    rows = [
        {
            "fact_id": fact_id,
            "model_id": model_id,
            "shot_set": shot_set,
            "prompt_index": index,
            "answer": f"object {fact_id}",
            "finish_reason": "stop",
            "match_strict": fact_id in right,
            "match_exact": fact_id in right,
            "match_released": fact_id in right,
            "refused": False,
        }
        for fact_id in asked["fact_id"]
        for index in range(2)
    ]
    return frame_of(rows, schema.ANSWERS)


def surprisal_of(model_id: str, gain: float) -> pl.DataFrame:
    """Every fact has 8 bits; packed ones less by this gain."""
    rows = [
        {
            "fact_id": fact_id,
            "model_id": model_id,
            "bits": 8.0 - gain * (fact_id in PACKED),
            "end_bits": 0.5,
            "tokens": 2,
            "is_greedy": False,
        }
        for fact_id in FACTS["fact_id"]
    ]
    return frame_of(rows, schema.SURPRISAL)


def commit(store: Store, step: Step, tables: dict[str, tuple[pl.DataFrame, pa.Schema]]) -> None:
    def fill(folder: Path) -> None:
        for name, (table, wanted) in tables.items():
            schema.write_table(table.to_arrow(), wanted, folder / name)

    store.commit(step, fill, seconds=1.0, details={"adapter_digest": "digest", "status": "completed"})


def measured(answers: pl.DataFrame) -> dict[str, tuple[pl.DataFrame, pa.Schema]]:
    return {ANSWERS_FILE: (answers, schema.ANSWERS), CATEGORIES_FILE: (categorise(answers), schema.CATEGORIES)}


def filled(config: StudyConfig, root: Path, columns: pa.Schema = TRIALS, recorded: dict[str, object] | None = None) -> tuple[Graph, Store]:
    """The one trial of the study packed six facts, learned four and made the base forget fact 39; of paraphrases it knows the last.

    Its file has these columns, and these values in place of those that follow from the study.
    """
    graph, store = build_graph(config, Identities("model", "facts", "shots")), Store(root)
    commit(store, graph.steps["facts"], {FACTS_FILE: (FACTS, schema.FACTS)})
    known = set(FACTS["fact_id"].to_list()[30:])
    commit(store, graph.steps["categorise"], measured(pl.concat([answers_of("base", name, FACTS, known) for name in ("S0", "S1", "S2")])))
    if "parts" in graph.steps:
        commit(store, graph.steps["parts"], {PARTS_FILE: (PARTS, schema.PARTS)})
    (trial,) = graph.trials
    rows = [
        {"row": row, "fact_id": fact_id, "role": "unknown", "question": "Q?", "target": "t"} for row, fact_id in enumerate([*PACKED])
    ] + [{"row": 6, "fact_id": "of another source", "role": "highly_known", "question": "Q?", "target": "t"}]
    row = trial_columns(trial) | {"status": "completed", "epochs": 0, "steps": 0, "trainable_parameters": 10} | (recorded or {})
    tables = {TRIAL_FILE: (frame_of([row], columns), columns), EPOCHS_FILE: (frame_of([], schema.EPOCHS), schema.EPOCHS)}
    commit(store, trial.step, tables | {ROWS_FILE: (frame_of(rows, schema.TRAINING_ROWS), schema.TRAINING_ROWS)})
    for shot_set in config.evaluate.shot_sets:
        now = measured(answers_of("digest", shot_set, FACTS, known - {"f039"} | LEARNED))
        commit(store, trial.measurements[f"answers/{shot_set}"], now)
    if "generality" in trial.measurements:
        questions = held_out_questions(FACTS, PACKED, 2)
        right = set(questions.filter(pl.col("paraphrase_index") == 3, pl.col("paraphrased_fact").is_in(list(LEARNED)))["fact_id"])
        held_out = answers_by_fact(answers_of("digest", "S1", questions, right), questions)
        commit(store, trial.measurements["generality"], {ANSWERS_FILE: (held_out, schema.HELD_OUT_ANSWERS)})
    for step, model_id, gain in ((graph.base["surprisal"], "base", 0.0), (trial.measurements["surprisal"], "digest", 3.0)):
        commit(store, step, {SURPRISAL_FILE: (surprisal_of(model_id, gain), schema.SURPRISAL)})
    if "drift" in trial.measurements:
        commit(
            store, trial.measurements["drift"], {DRIFT_FILE: (frame_of([drifted(trial.trial_id)], schema.TEXT_DRIFT), schema.TEXT_DRIFT)}
        )
    if "benchmarks" in trial.measurements:
        for step, items in (
            (graph.base["benchmarks"], benchmark_items("base", 0.0)),
            (trial.measurements["benchmarks"], benchmark_items(trial.trial_id, -0.06)),
        ):
            scored = {BENCHMARKS_FILE: (benchmarks_of(items), schema.BENCHMARKS), BENCHMARK_ITEMS_FILE: (items, schema.BENCHMARK_ITEMS)}
            commit(store, step, scored)
    return graph, store


def drifted(trial_id: str) -> dict[str, object]:
    return {"trial_id": trial_id, "text": "news-01", "register": "news", "tokens": 50, "kl": 5.0, "nll": 160.0, "base_nll": 150.0}


def collected(root: Path, *overrides: str) -> ReportTables:
    config = load_study(SMOKE, [*BARE, *overrides])
    graph, store = filled(config, root)
    return collect_tables(config, graph, store, [])


def score(table: pl.DataFrame, measure: str) -> tuple[float, int]:
    ((value, n),) = table.filter(pl.col("trial_id") != "base", measure=measure).select("value", "n").rows()
    return value, n


def test_collect_tables_of_a_study_that_holds_nothing_out_has_neither_parts_nor_generality(tmp_path: Path) -> None:
    tables = collected(tmp_path)
    assert tables.parts is None
    assert set(tables.effects["subset"]) == {"untrained", "all"}
    assert "generality" not in set(tables.scores["measure"])
    assert score(tables.scores, "reliability") == pytest.approx((4 / 6, 12))
    assert score(tables.scores, "reliability_s2") == pytest.approx((4 / 6, 12))
    assert score(tables.scores, "facts_learned") == pytest.approx((4 / 6, 6))


def test_collect_tables_capacity_counts_the_bits_of_packed_facts(tmp_path: Path) -> None:
    tables = collected(tmp_path)
    assert tables.capacity is not None
    assert tables.surprisal is not None
    assert set(tables.surprisal["trial_id"]) == {"base", tables.trials["trial_id"][0]}
    (row,) = tables.capacity.to_dicts()
    assert (row["facts"], row["memorised_bits"], row["per_fact"], row["per_parameter"], row["untaught_gain"]) == (6, 18.0, 3.0, 1.8, 0.0)


def test_collect_tables_without_surprisal_has_no_capacity(tmp_path: Path) -> None:
    config = load_study(SMOKE, [*BARE])
    graph, store = filled(config, tmp_path)
    without = load_study(SMOKE, [*BARE, "evaluate.surprisal=false"])
    tables = collect_tables(without, graph, store, [])
    assert tables.surprisal is None
    assert tables.capacity is None


def test_collect_tables_of_adapters_that_answered_nothing_have_bits_and_no_effects(tmp_path: Path) -> None:
    tables = collected(
        tmp_path, "evaluate.shot_sets=[]", "evaluate.held_out_paraphrases=0", "evaluate.drift_words=0", "evaluate.scales=[0.5, 1.0]"
    )
    assert set(tables.outcomes["trial_id"]) == set(tables.scores["trial_id"]) == {"base"}
    assert tables.effects.is_empty()
    assert tables.scaled_outcomes is None
    assert tables.reasons is None
    assert tables.capacity is not None
    assert tables.capacity["memorised_bits"].to_list() == [18.0]


def test_collect_tables_drift_comes_with_its_summary_and_is_missing_where_it_is_not_measured(tmp_path: Path) -> None:
    tables = collected(tmp_path / "measured")
    assert tables.drift is not None
    assert tables.drift_summary is not None
    assert tables.drift["scale"].to_list() == [1.0]
    assert tables.drift_summary.select("register", "kl").rows() == [("neutral", 0.1), ("news", 0.1)]
    without = collected(tmp_path / "not measured", "evaluate.drift_words=0")
    assert (without.drift, without.drift_summary) == (None, None)


def effect(tables: ReportTables, subset: str, name: str, shift: str | None, at_risk: bool) -> dict[str, Any]:
    (row,) = tables.effects.filter(pl.col("shift").eq_missing(shift), subset=subset, effect=name, at_risk=at_risk).iter_rows(named=True)
    return row


def test_collect_tables_outcomes_hold_every_model_fact_and_shot_set_and_what_the_fact_was_to_it(tmp_path: Path) -> None:
    outcomes = collected(tmp_path).outcomes
    assert outcomes.height == 40 * (3 + 2)
    trial = outcomes.filter(pl.col("trial_id") != "base")
    assert dict(trial.select("fact_id", "role").unique().rows()) == {
        fact_id: "trained" if fact_id in PACKED else "untouched" for fact_id in FACTS["fact_id"]
    }
    assert set(outcomes.filter(trial_id="base")["role"]) == {"untouched"}
    assert outcomes.filter(fact_id="f039")["correct"].to_list() == [2, 2, 2, 0, 0]


def test_collect_tables_effects_are_those_of_the_one_fact_that_was_lost(tmp_path: Path) -> None:
    tables = collected(tmp_path)
    lost = effect(tables, "untrained", "net_change", None, at_risk=True)
    assert (lost["value"], lost["n"], lost["base"]) == (pytest.approx(-1 / 10), 10, 1.0)
    assert effect(tables, "untrained", "net_change", None, at_risk=False)["value"] == pytest.approx(-1 / 34)
    assert effect(tables, "untrained", "crossed", "negative", at_risk=True)["value"] == pytest.approx(1 / 10)
    assert effect(tables, "all", "net_change", None, at_risk=False)["value"] == pytest.approx((4 - 1) / 40)


def test_collect_tables_of_adapters_that_were_asked_once_have_no_crossed_effect(tmp_path: Path) -> None:
    tables = collected(tmp_path, "evaluate.shot_sets=['S1']")
    assert "crossed" not in set(tables.effects["effect"])
    assert effect(tables, "untrained", "net_change", None, at_risk=True)["value"] == pytest.approx(-1 / 10)


def test_collect_tables_benchmarks_come_with_their_items_and_the_differences_over_them(tmp_path: Path) -> None:
    tables = collected(tmp_path, "evaluate.misconceptions=100", "evaluate.mmlu_dev=50")
    assert tables.benchmarks.height == 2 * 3
    assert tables.benchmark_items.height == 2 * (50 + 100 + 100)
    effects = tables.benchmark_effects.select("task", "metric", "value", "n", "clusters").rows()
    assert [row[:2] for row in effects] == [("kp_misconceptions", "mc1"), ("kp_misconceptions", "mc2"), ("kp_mmlu_dev", "acc")]
    assert [row[2:] for row in effects] == [(pytest.approx(-0.06), 100, 100)] * 2 + [(pytest.approx(-0.06), 50, 25)]


def test_collect_tables_of_a_study_without_benchmarks_has_no_rows_of_them(tmp_path: Path) -> None:
    tables = collected(tmp_path)
    assert [len(frame) for frame in (tables.benchmarks, tables.benchmark_items, tables.benchmark_effects)] == [0, 0, 0]


def test_collect_tables_held_out_paraphrases_give_a_generality(tmp_path: Path) -> None:
    assert score(collected(tmp_path, "evaluate.held_out_paraphrases=2").scores, "generality") == pytest.approx((4 / 12, 24))


def test_collect_tables_control_facts_are_told_apart_in_roles_effects_and_shifts(tmp_path: Path) -> None:
    tables = collected(tmp_path, "facts.control_share=0.5")
    assert tables.parts is not None
    assert dict(tables.outcomes.filter(trial_id="base", shot_set="S1")["role"].value_counts().iter_rows()) == {
        "untouched": 30,
        "control_dev": 5,
        "control_test": 5,
    }
    lost = {half: effect(tables, half, "net_change", None, at_risk=True) for half in ("control", "control_dev", "control_test")}
    # The one fact that was lost is the last one, which is a test fact.
    assert {half: (found["value"], found["n"]) for half, found in lost.items()} == {
        "control": (pytest.approx(-1 / 10), 10),
        "control_dev": (0, 5),
        "control_test": (pytest.approx(-1 / 5), 5),
    }
    fell = tables.shifts.filter(pl.col("trial_id") != "noise", shift="negative").select("view", "count", "n").rows()
    assert fell == [("all", 1, 40), ("at_risk", 1, 10), ("untrained", 1, 34), ("control", 1, 10)]


def test_collect_tables_knobs_are_those_of_this_study_and_not_of_the_one_that_trained_the_trial(tmp_path: Path) -> None:
    # Trained by a kp that had no weight decay, in a study with another patience, which has no effect without an accuracy to stop at.
    older = pa.schema([column for column in TRIALS if column.name != "weight_decay"])
    config = load_study(SMOKE, [*BARE, "training.weight_decay=0.0", "search.stop_patience=2"])
    graph, store = filled(config, tmp_path, older, {"stop_patience": 7})
    trials = collect_tables(config, graph, store, []).trials
    assert trials.select("weight_decay", "stop_patience", "status").rows() == [(0.0, 2, "completed")]
