"""`kp benchmarks` scores the base alone, and the study finds these scores done."""

import json
from pathlib import Path

import pyarrow.parquet as pq

from tests.conftest import Kp, assert_refused
from tests.stand_in_hub import ARC, arc_questions


def test_base_is_scored_without_a_trial_once(tiny_study: Path, kp_on_ray: Kp, tmp_path: Path) -> None:
    file = tmp_path / "data" / ARC / "ARC-Easy" / "test.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in arc_questions(6)), encoding="utf-8")
    root = tmp_path / "runs"
    run = ("benchmarks", tiny_study, 'evaluate.tasks=["arc_easy"]', f"evaluate.task_data={tmp_path / 'data'}", "--results", root)
    done = kp_on_ray(*run)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {folder.name for folder in (root / "store").iterdir()} == {"facts", "benchmarks", "harness"}
    (scores,) = (pq.read_table(path).to_pylist() for path in (root / "store" / "harness").glob("*/benchmarks.parquet"))
    for row in scores:
        (line,) = (line for line in done.stdout.splitlines() if row["task"] in line and f" {row['metric']} " in line)
        assert f"{row['value']:.2%}" in line
        assert "50.0%" in line  # guessing
    assert "kp_misconceptions" in done.stdout
    assert "harness/arc_easy took " in done.stdout
    again = kp_on_ray(*run)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "2 of 2 measurements already done, not redone" in again.stdout
    assert "arc_easy" in again.stdout


def test_study_without_benchmarks_is_refused(tiny_study: Path, kp_on_ray: Kp, tmp_path: Path) -> None:
    done = kp_on_ray("benchmarks", tiny_study, "evaluate.misconceptions=0", "--results", tmp_path)
    assert_refused(done, ["evaluate.tasks", "the study asks for no benchmark"])
