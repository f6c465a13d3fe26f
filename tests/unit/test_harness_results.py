"""Scores in lm-eval's own form say what the tables say, a group with its tasks."""

import json
import math
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from kp import schema
from kp.benchmarks.harness import ASKED, put_together, question_row
from kp.benchmarks.harness_tasks import HarnessTask, validate_tasks
from kp.config.study import EvaluateConfig
from kp.errors import UserError
from kp.report.harness_results import harness_results
from kp.report.tables import ReportTables
from kp.report.writing import write_report
from tests.made_up_study import context, frame_of, study

RIGHT = {"mmlu_anatomy": [1.0, 0.0, 1.0], "mmlu_virology": [0.0, 0.0]}


def with_group() -> ReportTables:
    tables = study()
    common = {"trial_id": "base", "task": "mmlu", "metric": "acc"}
    items = [common | {"item": 1_000_000 * task + number, "group": name, "score": score}
             for task, (name, scores) in enumerate(RIGHT.items()) for number, score in enumerate(scores)]  # fmt: skip
    mean = {
        "value": 0.4,
        "standard_error": math.sqrt(0.24 / 5),
        "n": 5,
        "num_fewshot": 5,
        "task_version": "1.0",
        "template_hash": "h",
        "chance": 0.25,
    }
    return replace(
        tables,
        benchmarks=pl.concat([tables.benchmarks, frame_of([common | mean], schema.BENCHMARKS)]),
        benchmark_items=pl.concat([tables.benchmark_items, frame_of(items, schema.BENCHMARK_ITEMS)]),
    )


def test_group_and_its_tasks_have_entries_with_scores_errors_shots_and_counts() -> None:
    found = harness_results(with_group(), context(), "base")
    assert found["results"]["mmlu"] == {"alias": "mmlu", "acc,none": 0.4, "acc_stderr,none": pytest.approx(math.sqrt(0.24 / 5))}
    assert found["results"]["mmlu_anatomy"]["acc,none"] == pytest.approx(2 / 3)
    assert found["results"]["mmlu_virology"]["acc_stderr,none"] == 0
    assert found["group_subtasks"] == {"mmlu": ["mmlu_anatomy", "mmlu_virology"]}
    assert {found["n-shot"][name] for name in ("mmlu", *RIGHT)} == {5}
    assert [found["n-samples"][name]["effective"] for name in ("mmlu", *RIGHT)] == [5, 3, 2]
    assert found["config"]["model_args"].startswith(f"pretrained={context().model_name},")
    assert "peft=" not in found["config"]["model_args"]


def test_every_model_of_a_report_has_a_file_with_the_scores_of_its_table(tmp_path: Path) -> None:
    tables = study()
    write_report(tables, context(), tmp_path)
    models = set(tables.benchmarks["trial_id"])
    assert {file.stem for file in (tmp_path / "lm_eval").iterdir()} == models
    for trial_id in models:
        found = json.loads((tmp_path / "lm_eval" / f"{trial_id}.json").read_text(encoding="utf-8"))
        for row in tables.benchmarks.filter(trial_id=trial_id).iter_rows(named=True):
            assert found["results"][row["task"]][f"{row['metric']},none"] == row["value"]
        assert "anatomy" not in found["results"]  # the subjects of kp's own task are no tasks of lm-eval
        assert (f"peft=adapters/{trial_id}" in found["config"]["model_args"]) is (trial_id != "base")


def test_group_of_tasks_with_several_versions_names_them_all() -> None:
    tasks = [HarnessTask("arc_easy", "arc/arc_easy.yaml"), HarnessTask("arc_challenge", "arc/arc_challenge.yaml")]
    rows = [
        {"task": task.name, "question": 0, "metrics": ["acc"], "scores": [1.0], "log_likelihoods": [], "greedy": [], "chance": 0.25,
         "num_fewshot": 0, "task_version": version}
        for task, version in zip(tasks, ("2.0", "1.0"), strict=True)
    ]  # fmt: skip
    (row,) = put_together("both", tasks, "base", [frame_of([one], ASKED).to_arrow().cast(ASKED) for one in rows]).means.to_pylist()
    assert (row["task_version"], row["num_fewshot"], row["n"]) == ("1.0, 2.0", 0, 2)


def test_score_that_is_no_share_is_refused_with_task_and_metric() -> None:
    sample = {"metrics": ["ter"], "ter": 130.0, "filtered_resps": ["x"], "doc": {}, "doc_id": 0}
    with pytest.raises(UserError, match=r"evaluate\.tasks: 'wmt': its metric ter is 130, and kp compares scores from 0 to 1 alone"):
        question_row("wmt", sample)


def test_group_whose_tasks_have_different_shots_is_refused_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    shots = {"arc_easy": 0, "arc_challenge": 25}
    monkeypatch.setattr("kp.benchmarks.harness_tasks.single_tasks", lambda name: [HarnessTask(one, one) for one in shots])
    monkeypatch.setattr(
        "kp.benchmarks.harness_tasks._config", lambda task: {"num_fewshot": shots[task.name], "output_type": "multiple_choice"}
    )
    with pytest.raises(UserError, match="'ai2_arc' has tasks with 0 and 25 shots, which make no one score; give it `fewshot`"):
        validate_tasks(EvaluateConfig.model_validate({"tasks": ["ai2_arc"]}))
    validate_tasks(EvaluateConfig.model_validate({"tasks": [{"name": "ai2_arc", "fewshot": 5}]}))


def test_task_that_needs_another_package_is_refused_with_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("`math-verify` is required")

    monkeypatch.setattr("lm_eval.tasks._yaml_loader.load_yaml", missing)
    monkeypatch.setattr("kp.benchmarks.harness_tasks.single_tasks", lambda name: [HarnessTask(name, "x.yaml")])
    with pytest.raises(UserError, match="'minerva' needs packages of its own: `math-verify` is required"):
        validate_tasks(EvaluateConfig.model_validate({"tasks": ["minerva"]}))
