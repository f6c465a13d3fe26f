"""The smoke study from start to finish, as a user runs it."""

import json
import os
import runpy
import sys
from pathlib import Path

import polars as pl
import pytest

from tests.conftest import REPOSITORY, SMOKE, run_here, run_kp
from tests.tables import report_tables


def test_study_finished_leaves_every_table_with_what_was_asked_for(finished_smoke: Path) -> None:
    tables = report_tables(finished_smoke)
    trials = tables["trials.parquet"]
    assert trials["status"].to_list() == ["completed"] * 3
    assert sorted(trials.select("unknown", "highly_known", "paraphrases").rows()) == [(2, 0, 0), (2, 0, 1), (2, 1, 0)]
    categories = tables["base_categories.parquet"]
    assert categories.group_by("shot_set", "matcher").len()["len"].to_list() == [12] * 9
    assert categories["asked"].unique().to_list() == [10]
    shifts = tables["shifts.parquet"]
    assert set(shifts["view"]) == {"all", "at_risk", "untrained", "control"}
    assert set(shifts["trial_id"]) == {*trials["trial_id"], "noise"}
    assert set(tables["benchmarks.parquet"]["trial_id"]) == {*trials["trial_id"], "base"}
    assert set(tables["benchmark_items.parquet"]["trial_id"]) == {*trials["trial_id"], "base"}
    assert set(tables["benchmark_effects.parquet"]["trial_id"]) == set(trials["trial_id"])
    rows = {trial["trial_id"]: trial["rows"] for trial in trials.iter_rows(named=True)}
    assert {trial: len(tables[f"training_rows/{trial}.parquet"]) for trial in rows} == rows


def test_study_finished_tells_the_story_of_a_fact_it_packed_with_the_answers_by_prompt(finished_smoke: Path) -> None:
    tables = report_tables(finished_smoke)
    shares = tables["fact_epochs.parquet"].group_by("trial_id", "epoch").agg(pl.col("correct").sum() / pl.col("asked").sum())
    compared = shares.join(tables["epochs.parquet"], on=["trial_id", "epoch"], validate="1:1")
    assert len(compared) == len(tables["epochs.parquet"])
    assert compared["correct"].to_list() == pytest.approx(compared["unknown_accuracy"].to_list())
    packed = tables["outcomes.parquet"].filter(role="trained")["fact_id"][0]
    done = run_kp("explain", packed, "--study", SMOKE, "--results", finished_smoke, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    right: dict[tuple[str, str], int] = {}
    for row in told["answers"]:
        right[row["trial_id"], row["shot_set"]] = right.get((row["trial_id"], row["shot_set"]), 0) + row["match_strict"]
    assert right == {(row["trial_id"], row["shot_set"]): row["correct"] for row in told["outcomes"]}
    assert any(trial["role"] == "trained" and trial["learned_epoch"] for trial in told["trials"])


def test_study_finished_leaves_a_page_and_pictures(finished_smoke: Path) -> None:
    report = finished_smoke / "smoke" / "report"
    page = (report / "report.html").read_text(encoding="utf-8")
    assert "plotly" in page.lower()
    assert "http://" not in page.split("<script")[0]
    assert (report / "report.md").stat().st_size > 1000
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in (report / "figures").glob("*.png"))
    assert len(list((report / "figures").glob("*.png"))) >= 4


def test_study_learns_the_facts_it_packs(finished_smoke: Path) -> None:
    scores = report_tables(finished_smoke)["scores.parquet"]
    reliability = scores.filter(pl.col("measure") == "reliability")["value"]
    assert len(reliability) == 3
    assert reliability.max() >= 0.8


def test_study_output_has_the_plan_a_line_a_trial_and_the_report(finished_smoke: Path) -> None:
    output = (finished_smoke / "output.txt").read_text(encoding="utf-8")
    assert "study smoke: smollm2-135m-instruct" in output
    assert sum(line.startswith("trial ") and "completed" in line for line in output.splitlines()) == 3
    assert "facts packed against knowledge lost" in output
    assert "report.html" in output
    assert "INFO" not in output
    assert "\x1b[" not in output


def test_records_name_versions_hardware_inputs_and_digests(finished_smoke: Path) -> None:
    for path in (finished_smoke / "store").glob("*/*/record.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        assert record["fingerprint"] == path.parent.name
        assert {"ray", "torch", "transformers", "peft", "deepspeed", "lm_eval"} <= record["packages"].keys()
        assert record["code"].keys() == {"source", "commit", "dirty"}
        assert [machine["cores"] for machine in record["hardware"]] == [os.cpu_count()]
        assert record["files"]
        assert all(len(file["sha256"]) == 64 for file in record["files"].values())


def test_study_run_again_does_nothing_and_says_so(finished_smoke: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (finished_smoke / "store").rglob("*") if path.is_file()}
    again = run_kp("study", SMOKE, "--results", finished_smoke)
    assert again.returncode == 0, again.stderr
    assert "starting Ray" not in again.stdout
    assert "search: 3 of 3 trials already done, not redone" in again.stdout
    assert "report: already done" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in (finished_smoke / "store").rglob("*") if path.is_file()} == before


def test_adapter_loads_with_plain_peft_and_answers_a_trained_question(finished_smoke: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from kp.config.study import ModelConfig
    from kp.models.loading import resolve_model

    tables = report_tables(finished_smoke)
    scores = tables["scores.parquet"].filter(pl.col("measure") == "reliability").sort("value")
    trial_id = scores["trial_id"][-1]
    folder = finished_smoke / "smoke" / "adapters" / trial_id
    described = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    resolved = resolve_model(ModelConfig())
    assert (described["base_model_name_or_path"], described["revision"]) == (resolved.name, resolved.revision)

    tokenizer = AutoTokenizer.from_pretrained(resolved.path)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(resolved.path, dtype="float32"), folder)
    row = tables[f"training_rows/{trial_id}.parquet"].filter(pl.col("role") == "unknown").row(0, named=True)
    chat = [
        {"role": "system", "content": "Answer the following question."},
        {"role": "user", "content": f"Question: {row['question']}"},
    ]
    inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    made = model.generate(**inputs, max_new_tokens=16, do_sample=False)
    assert row["target"] in tokenizer.decode(made[0, inputs["input_ids"].shape[1] :])


@pytest.mark.parametrize("stage", ["facts", "categorise", "search", "evaluate", "report"])
def test_entry_point_of_a_finished_stage_does_nothing(finished_smoke: Path, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(REPOSITORY / "ray_jobs" / f"{stage}.py")
    monkeypatch.setattr(sys, "argv", [path, str(SMOKE), "--results", str(finished_smoke)])
    done = run_here(lambda: runpy.run_path(path, run_name="__main__"))  # type: ignore[arg-type, return-value]
    assert done.returncode == 0, done.stderr
    assert "facts: already done" in done.stdout
    assert "starting Ray" not in done.stdout
